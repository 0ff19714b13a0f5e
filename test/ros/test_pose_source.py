"""Poses from messages: which belong together, and how long they are kept."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from ros.rig import transform
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from lift_ros.errors import FrameRejected
from lift_ros.ros.compat import Buffer
from lift_ros.ros.conversions import to_stamp
from lift_ros.ros.pose_source import TopicPoses
from lift_ros.ros.queues import DropCounter

START = 1000.0  # s
TURNS = {"odom": (10, 20, 90), "base": (-30, 40, 50), "camera": (-90, 5, -90)}  # degrees
PLACES = {"odom": (1.0, 2.0, 3.0), "base": (4.0, -5.0, 6.0), "camera": (0.1, 0.2, 0.3)}


class Robot:
    """Drives along x at 1 m/s, and tells where it is."""

    def __init__(self) -> None:
        self.drops = DropCounter()
        self._poses = TopicPoses(Buffer(), "map", "", self.drops)

    def tell(self, seconds: float, x: float | None = None, frame: str = "map") -> None:
        """A message of this time; ``x`` as driven unless it is given."""
        message = PoseStamped(header=Header(stamp=to_stamp(START + seconds), frame_id=frame))
        message.pose.position.x = seconds if x is None else x
        message.pose.orientation.w = 1.0
        self._poses.add(message)

    def forget(self) -> None:
        """As after a jump of the clock."""
        self._poses.clear()

    def drive(self, begin: float, end: float, step: float = 0.1) -> None:
        """Tell all the way."""
        for index in range(round((end - begin) / step) + 1):
            self.tell(begin + step * index)

    def position(self, seconds: float) -> float | None:
        """Along x, None if it is not known."""
        try:
            return float(self._poses.lookup("camera", round((START + seconds) * 1e9))[0, 3])
        except FrameRejected as error:
            assert error.reason == "pose_missing"
            return None


@pytest.mark.parametrize("astray", [3600.0, 20.0, -500.0], ids=str)
def test_one_message_of_another_time_takes_no_good_ones_along(astray):
    robot = Robot()
    robot.drive(0.0, 9.0)
    robot.tell(astray, x=-100.0)
    robot.tell(9.1)
    assert robot.position(0.55) == pytest.approx(0.55) and robot.position(9.05) == pytest.approx(9.05)
    assert robot.position(astray) is None and robot.drops.counts() == {"pose_astray": 1}
    robot.drive(9.2, 14.9)
    assert robot.position(14.85) == pytest.approx(14.85)


@pytest.mark.parametrize(
    "astray", [{"seconds": 3600.0}, {"seconds": 9.05, "frame": "odom"}, {"seconds": 8.93, "frame": "odom"}], ids=str
)
def test_poses_are_known_while_the_latest_message_is_astray(astray):
    robot = Robot()
    robot.drive(0.0, 9.0)
    robot.tell(**astray)
    assert robot.position(8.95) == pytest.approx(8.95)


def test_poses_are_kept_for_a_while_also_after_one_of_the_future():
    robot = Robot()
    for seconds in (0.0, 3600.0, 0.1):
        robot.tell(seconds)
    robot.drive(0.2, 60.0)
    assert robot.position(51.05) == pytest.approx(51.05)
    assert robot.position(40.05) is None


def test_a_localisation_that_was_silent_for_a_while_goes_on():
    robot = Robot()
    robot.drive(0.0, 5.0)
    robot.drive(300.0, 301.0)
    assert robot.position(300.45) == pytest.approx(300.45) and robot.drops.counts() == {}


def test_poses_that_come_rarely_are_used_at_their_own_stamps():
    robot = Robot()
    for seconds in (0.0, 30.0, 60.0, 90.0):
        robot.tell(seconds)
        assert robot.position(seconds) == pytest.approx(seconds)
    assert robot.drops.counts() == {}


def test_there_is_no_way_between_poses_in_different_frames():
    robot = Robot()
    robot.drive(0.0, 1.0)
    robot.tell(1.05, x=70.0, frame="odom")
    robot.tell(1.1)
    assert robot.position(1.075) == pytest.approx(1.075) and robot.drops.counts() == {"pose_astray": 1}


def test_odometry_must_say_whose_pose_it_gives():
    message = Odometry(header=Header(stamp=to_stamp(START), frame_id="map"))
    message.pose.pose.orientation.w = 1.0
    drops = DropCounter()
    poses = TopicPoses(Buffer(), "map", "", drops)
    poses.add(message)
    assert drops.counts() == {"pose_frame_missing": 1}
    with pytest.raises(FrameRejected, match="set pose_frame"):
        poses.lookup("camera", round(START * 1e9))
    poses = TopicPoses(Buffer(), "map", "camera", drops)
    poses.add(message)
    assert poses.lookup("camera", round(START * 1e9))[0, 3] == 0.0


def test_poses_that_turn_are_chained_in_their_order():
    """World, odometry, base, camera: each is turned and moved in the one before."""
    turns = {name: Rotation.from_euler("xyz", angles, degrees=True) for name, angles in TURNS.items()}
    buffer, message = Buffer(), Odometry(header=Header(stamp=to_stamp(START), frame_id="odom"), child_frame_id="base")
    for parent, child in (("map", "odom"), ("base", "camera")):
        q = turns[child].as_quat().tolist()
        buffer.set_transform_static(transform(message.header, PLACES[child], tuple(q), parent=parent, child=child), "")
    pose = message.pose.pose
    pose.position.x, pose.position.y, pose.position.z = PLACES["base"]
    q = pose.orientation
    q.x, q.y, q.z, q.w = turns["base"].as_quat().tolist()
    poses = TopicPoses(buffer, "map", "", DropCounter())
    poses.add(message)
    expected = np.eye(4)
    for name, turn in turns.items():
        step = np.eye(4)
        step[:3, :3], step[:3, 3] = turn.as_matrix(), PLACES[name]
        expected = expected @ step
    assert poses.lookup("camera", round(START * 1e9)) == pytest.approx(expected, abs=1e-9)


def test_poses_whose_header_names_no_frame_are_in_the_world():
    robot = Robot()
    for seconds in (0.0, 0.1):
        robot.tell(seconds, frame="")
    assert robot.position(0.05) == pytest.approx(0.05) and robot.drops.counts() == {}


@pytest.mark.parametrize("astray", [False, True])
def test_after_a_jump_of_the_clock_nothing_is_left_of_the_poses_before(astray):
    robot = Robot()
    robot.drive(0.0, 9.0)
    if astray:
        robot.tell(3600.0)
    robot.forget()
    assert robot.position(5.05) is None
    robot.tell(4.0, x=50.0)
    robot.tell(4.1, x=50.0)
    assert robot.position(4.05) == pytest.approx(50.0) and robot.position(3.95) is None
    assert robot.drops.counts() == {}


def test_a_message_that_comes_late_does_not_turn_time_back():
    robot = Robot()
    robot.drive(0.0, 20.0)
    robot.tell(11.0)  # again
    robot.tell(21.5)
    assert robot.position(20.75) == pytest.approx(20.75) and robot.drops.counts() == {}
