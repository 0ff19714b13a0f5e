"""Which depth an image gets, where the two do not come at one time."""

from __future__ import annotations

import gc
import time

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from rclpy.logging import get_logger
from ros.rig import image_message
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from lift_ros.camera import Camera
from lift_ros.data.undistort import Undistorter
from lift_ros.errors import ConfigError, FrameRejected
from lift_ros.ros.compat import Buffer
from lift_ros.ros.conversions import camera_info_message, to_stamp
from lift_ros.ros.frame_builder import FrameBuilder
from lift_ros.ros.node_config import NodeConfig
from lift_ros.ros.pose_source import TopicPoses
from lift_ros.ros.queues import DropCounter

CAMERA = Camera(8, 6, 8.0, 8.0, 4.0, 3.0)
FOREVER = 60.0  # s, longer than a test


class Standing:
    """The pose of a camera that does not move; ``known`` from the beginning, or later."""

    def __init__(self) -> None:
        self.known = True

    def lookup(self, frame: str, stamp_ns: int) -> np.ndarray:
        if not self.known:
            raise FrameRejected("pose_missing", "not yet")
        return np.eye(4)

    def clear(self) -> None:
        pass


class Bench:
    """A frame builder, its input and what comes out."""

    def __init__(self, poses=None, transforms=lambda *_: np.eye(4), **config) -> None:
        self.frames, self.drops, self.poses, self.jumps = [], DropCounter(), poses or Standing(), []
        self.builder = FrameBuilder(
            NodeConfig(depth_topic="depth", **config), self.poses, transforms, self.drops,
            self.frames.append, lambda: self.jumps.append(time.monotonic()), get_logger("bench"),
        )  # fmt: skip
        self.builder.add_info(camera_info_message(self.header(0.0), CAMERA))
        self.builder.start()

    def header(self, seconds: float) -> Header:
        return Header(stamp=to_stamp(seconds), frame_id="camera")

    def image(self, seconds: float) -> None:
        self.builder.add_image(image_message(self.header(seconds), "rgb8", np.zeros((6, 8, 3), np.uint8)))

    def depth(self, seconds: float, shape: tuple[int, int] = (6, 8), frame: str = "camera") -> None:
        """Depth that is as many metres as its stamp is seconds."""
        message = image_message(self.header(seconds), "32FC1", np.full(shape, seconds, np.float32))
        message.header.frame_id = frame
        self.builder.add_depth(message)

    def wait_for(self, count: int) -> None:
        """Wait for so many frames."""
        deadline = time.monotonic() + 20
        while len(self.frames) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(self.frames) >= count, self.drops.counts()

    def taken(self, count: int) -> list[float]:
        """Stamps of the depth that the first ``count`` frames have."""
        self.wait_for(count)
        return [round(float(live.frame.depth[3, 4]), 4) for live in self.frames]

    def dropped(self, reason: str, count: int) -> None:
        """Wait until so many were, and for nothing else."""
        deadline = time.monotonic() + 20
        while self.drops.counts().get(reason, 0) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.drops.counts() == {reason: count}


@pytest.fixture
def bench():
    """Makes one, which is stopped at the end."""
    made = []

    def make(**config) -> Bench:
        made.append(Bench(**config))
        return made[-1]

    yield make
    for each in made:
        each.builder.stop()


def test_the_depth_of_an_image_is_waited_for_though_the_one_before_is_near(bench):
    camera = bench(depth_slop=0.02, pose_timeout=FOREVER)
    for seconds in (1.0, 1.0167):
        camera.depth(seconds)
        camera.image(seconds)
    assert camera.taken(2) == [1.0, 1.0167]
    camera.image(1.0333)
    time.sleep(0.2)
    assert len(camera.frames) == 2
    camera.depth(1.0333)
    assert camera.taken(3)[-1] == 1.0333


def test_depth_that_always_comes_a_little_before_its_image_is_not_held_back(bench):
    camera = bench(pose_timeout=FOREVER)
    for seconds in (1.0, 1.033, 1.066):
        camera.depth(seconds)
        camera.image(seconds + 0.005)  # the next depth would be farther off
    assert camera.taken(3) == [1.0, 1.033, 1.066]


def test_depth_that_is_lost_is_replaced_by_the_nearest_in_the_end(bench):
    camera = bench(depth_slop=0.02, pose_timeout=0.3)
    for seconds in (1.0, 1.0167, 1.0333):
        camera.depth(seconds)
    camera.image(1.05)
    assert camera.taken(1) == [1.0333] and camera.drops.counts() == {}
    camera.image(1.2)
    camera.dropped("depth_missing", 1)


def test_an_image_between_depth_images_is_for_the_labels_only(bench):
    """Depth at half the rate of the images."""
    camera = bench(depth_slop=0.01, pose_timeout=FOREVER)
    for seconds in (1.0, 1.0667, 1.1333):
        camera.depth(seconds)
    for seconds in (1.0, 1.0333, 1.0667, 1.1, 1.1333):
        camera.image(seconds)
    camera.wait_for(5)
    assert [live.labels_only for live in camera.frames] == [False, True, False, True, False]
    assert [live.frame.depth is None for live in camera.frames] == [False, True, False, True, False]
    assert camera.drops.counts() == {"depth_between": 2}


def test_an_image_between_depth_images_that_fit_none_is_dropped(bench):
    """Two clocks, or a slop that is too small; and the first images of a camera."""
    camera = bench(depth_slop=0.01, pose_timeout=FOREVER)
    for seconds in (1.0, 1.0667, 1.1333):
        camera.depth(seconds)
    for seconds in (1.0333, 1.1):
        camera.image(seconds)
    camera.dropped("depth_missing", 2)
    assert not camera.frames


def test_of_depth_that_came_a_second_ago_no_image_has_any(bench):
    camera = bench(depth_slop=0.01, pose_timeout=0.2)
    camera.depth(1.0)
    camera.image(1.0)
    camera.wait_for(1)
    camera.image(1.5)  # nobody knows whether there will be more
    camera.dropped("depth_missing", 1)
    camera.depth(2.2)
    camera.image(2.1)
    camera.dropped("depth_missing", 2)


def test_depth_of_before_a_stop_does_not_make_it_slow_after(bench):
    camera = bench(depth_slop=0.01, pose_timeout=FOREVER)
    camera.depth(1.0)
    camera.image(1.0)
    camera.wait_for(1)
    camera.builder.stop()
    camera.builder.start()
    camera.depth(1.2)
    camera.image(1.1)
    camera.dropped("depth_missing", 1)


def test_depth_is_kept_as_long_as_its_image_may_wait_for_the_pose(bench):
    camera = bench(poses=(poses := Standing()), pose_timeout=10.0)
    poses.known = False
    camera.image(1.0)
    time.sleep(0.3)  # until it is at work
    for number in range(150):  # at 30 Hz for 5 s
        camera.depth(1.0 + number / 30)
    poses.known = True
    assert camera.taken(1) == [1.0]


def test_depth_of_a_coarser_sensor_is_enlarged(bench):
    camera = bench(pose_timeout=FOREVER)
    camera.depth(1.0, shape=(3, 4))
    camera.image(1.0)
    assert camera.taken(1) == [1.0] and camera.frames[0].frame.depth.shape == (6, 8)


@pytest.mark.parametrize("shape", [(12, 16), (6, 4), (3, 8)])
def test_depth_that_is_larger_or_of_another_shape_is_rejected(bench, shape):
    camera = bench(pose_timeout=FOREVER)
    camera.depth(1.0, shape)
    camera.image(1.0)
    camera.dropped("depth_size", 1)


def test_depth_waits_as_long_as_its_image(bench):
    """For a localisation that is seconds late."""
    camera = bench(frame_queue=100, pose_timeout=FOREVER)
    camera.poses.known = False
    stamps = [round(1.0 + 0.05 * index, 4) for index in range(100)]
    for seconds in stamps:
        camera.depth(seconds)
        camera.image(seconds)
    camera.poses.known = True
    assert camera.taken(100) == stamps and camera.drops.counts() == {}


def test_depth_of_another_time_is_forgotten(bench):
    camera = bench(depth_slop=0.02, pose_timeout=FOREVER)
    for seconds in (5.0, 1.0, 1.0167, 1.0333):
        camera.depth(seconds)
    camera.image(1.05)
    time.sleep(0.2)
    assert not camera.frames
    camera.depth(1.05)
    assert camera.taken(1) == [1.05]


def test_a_jump_told_by_the_clock_is_one(bench):
    """What comes between the clock and the first image is of the new time, also if that is little before the old."""
    camera = bench(pose_timeout=FOREVER)
    camera.depth(5.0)
    camera.image(5.0)
    camera.taken(1)
    camera.builder.reset_time()
    camera.depth(4.5)
    camera.image(4.5)
    assert camera.taken(2) == [5.0, 4.5] and camera.drops.counts() == {"time_jump": 1}


def test_depth_that_comes_before_the_first_image_of_a_new_time_is_its(bench):
    camera = bench(pose_timeout=FOREVER)
    camera.depth(5.0)
    camera.image(5.0)
    camera.taken(1)
    for seconds in (1.0, 1.1):
        camera.depth(seconds)
        camera.image(seconds)
    assert camera.taken(3) == [5.0, 1.0, 1.1] and camera.drops.counts() == {"time_jump": 1}


def test_a_jump_of_the_clock_before_the_start_counts_for_nothing(bench):
    camera = bench()
    camera.builder.stop()
    camera.builder.reset_time()
    assert camera.drops.counts() == {}


def test_depth_that_was_used_is_not_kept(bench):
    gc.collect()
    before = sum(type(item) is Image for item in gc.get_objects())
    camera = bench(pose_timeout=FOREVER)
    for index in range(20):
        camera.depth(1 + 0.1 * index)
        camera.image(1 + 0.1 * index)
        camera.taken(index + 1)
    camera.frames.clear()
    gc.collect()
    assert sum(type(item) is Image for item in gc.get_objects()) - before < 5


def test_images_that_no_intrinsics_fit_are_not_kept(bench):
    gc.collect()
    before = sum(type(item) is Image for item in gc.get_objects())
    camera = bench(pose_timeout=0.0)
    camera.builder.add_info(CameraInfo(width=8, height=6))
    for index in range(20):
        camera.image(1 + 0.1 * index)
        camera.dropped("camera_info", index + 1)
    camera.builder.stop()
    gc.collect()
    assert sum(type(item) is Image for item in gc.get_objects()) == before


def test_what_comes_while_nothing_runs_is_neither_kept_nor_counted(bench):
    camera = bench()
    camera.builder.stop()
    for index in range(100):
        camera.depth(1 + 0.1 * index)
        camera.image(1 + 0.1 * index)
    assert camera.builder.waiting == 0 and camera.drops.counts() == {}
    camera.builder.start()
    camera.depth(5.0)
    camera.image(5.0)
    assert camera.taken(1) == [5.0]


def test_depth_of_a_new_time_may_be_a_little_later_than_its_first_image(bench):
    camera = bench(pose_timeout=FOREVER)
    camera.depth(5.0)
    camera.image(5.0)
    camera.taken(1)
    camera.depth(1.005)
    camera.image(1.0)
    camera.depth(1.105)
    camera.image(1.1)
    assert camera.taken(3) == [5.0, 1.005, 1.105] and camera.drops.counts() == {"time_jump": 1}
    assert len(camera.jumps) == 1


def test_an_image_that_comes_twice_is_used_once(bench):
    camera = bench(pose_timeout=FOREVER)
    camera.depth(1.0)
    camera.image(1.0)
    camera.image(1.0)
    camera.dropped("stamp_not_increasing", 1)
    camera.depth(1.1)
    camera.image(1.1)
    assert camera.taken(2) == [1.0, 1.1] and len(camera.frames) == 2


def test_masks_are_undistorted_as_their_images_are(bench):
    """They are made of the images as the camera sends them."""
    camera = bench()
    info = camera_info_message(camera.header(0.0), Camera(160, 120, 100.0, 100.0, 80.0, 60.0))
    info.d = [-0.3, 0.1, 0.0, 0.0, 0.0]
    camera.builder.add_info(info)
    masks = np.arange(160 * 120, dtype=np.uint16).reshape(120, 160) // 160 // 10 + 1  # in stripes
    straight = Undistorter.from_camera_info(info)
    found = camera.builder.labels(image_message(camera.header(1.0), "mono16", masks))
    assert (found != masks).mean() > 0.1
    np.testing.assert_array_equal(found, straight.labels(masks))


def test_after_a_jump_of_the_clock_no_pose_of_before_is_used(bench):
    """A robot that drives on while its clock is set back by five seconds."""
    poses = TopicPoses(Buffer(), "map", "camera", DropCounter())
    camera = bench(poses=poses, pose_timeout=FOREVER)

    def pose(seconds: float, x: float) -> None:
        message = PoseStamped(header=camera.header(seconds))
        message.header.frame_id, message.pose.position.x, message.pose.orientation.w = "map", x, 1.0
        poses.add(message)

    for seconds in (1.0, 1.25, 5.0, 5.1):
        pose(seconds, seconds)
        camera.depth(seconds)
        camera.image(seconds)
    assert camera.taken(4) == [1.0, 1.25, 5.0, 5.1]
    for seconds in (1.2, 1.25):
        camera.depth(seconds)
        camera.image(seconds)
    time.sleep(0.2)
    assert len(camera.frames) == 4  # what was at 1.2 s before does not count
    for seconds in (1.15, 1.3):
        pose(seconds, 70.0)
    camera.taken(6)
    assert camera.frames[5].frame.T_world_camera[0, 3] == pytest.approx(70.0)


def test_an_image_at_work_when_the_clock_jumps_is_not_of_the_new_time(bench):
    camera = bench(pose_timeout=FOREVER)
    camera.poses.known = False
    camera.depth(50.0)
    camera.image(50.0)
    time.sleep(0.1)
    for seconds in (1.0, 1.1):
        camera.depth(seconds)
        camera.image(seconds)
    camera.poses.known = True
    assert camera.taken(2) == [1.0, 1.1] and camera.frames[0].frame.stamp == 1.0
    assert camera.drops.counts() == {"time_jump": 2}  # the jump, and the image


def test_depth_of_before_a_stop_is_not_that_of_an_image_after_it(bench):
    camera = bench(pose_timeout=0.2)
    camera.depth(5.0)
    camera.builder.stop()
    camera.builder.start()
    camera.image(5.0)
    camera.dropped("depth_missing", 1)


def test_a_frame_is_as_old_as_its_image_though_its_pose_came_late(bench):
    camera = bench(pose_timeout=FOREVER)
    camera.poses.known = False
    camera.depth(1.0)
    before = time.monotonic()
    camera.image(1.0)
    after = time.monotonic()
    time.sleep(0.3)
    camera.poses.known = True
    camera.taken(1)
    assert before <= camera.frames[0].arrival <= after


def test_depth_beyond_what_may_be_used_is_unknown(bench):
    camera = bench(max_depth=3.0, pose_timeout=FOREVER)
    for seconds in (2.9, 3.1):
        camera.depth(seconds)
        camera.image(seconds)
    assert camera.taken(2) == [2.9, 0.0] and camera.drops.counts() == {"depth_unusable": 1}


@pytest.mark.parametrize(("off", "registered"), [(0.0, True), (0.0005, True), (0.05, False)])
def test_depth_in_a_frame_of_its_own_is_registered_where_that_is_the_camera_s_place(bench, off, registered):
    """Asked is how it lies in the frame that the images are said to be in, not in the one that they name."""

    def transforms(target: str, source: str, stamp_ns: int) -> np.ndarray:
        if (target, source) != ("optical", "infrared"):
            raise FrameRejected("pose_missing", f"{source} in {target}")
        T = np.eye(4)
        T[0, 3] = off
        return T

    camera = bench(transforms=transforms, camera_frame="optical", pose_timeout=FOREVER)
    camera.depth(1.0, frame="infrared")
    camera.image(1.0)
    deadline = time.monotonic() + 20
    while not camera.frames and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (camera.frames[0].frame.depth is not None) == registered
    assert camera.drops.counts() == ({} if registered else {"depth_not_registered": 1})


def test_depth_of_images_that_get_no_pose_is_not_kept(bench):
    gc.collect()
    before = sum(type(item) is Image for item in gc.get_objects())
    camera = bench(pose_timeout=0.0)
    camera.poses.known = False
    for index in range(20):
        camera.depth(1.0 + 0.1 * index)
        camera.image(1.0 + 0.1 * index)
    camera.dropped("pose_missing", 20)
    deadline = time.monotonic() + 20
    while (kept := sum(type(item) is Image for item in gc.get_objects()) - before) > 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert kept <= 2  # what the next image may need


def test_frames_are_the_same_with_a_slash_before_their_name():
    """As ROS 1 had them; tf2 refuses to look them up."""
    asked = []

    class Poses(Standing):
        def lookup(self, frame: str, stamp_ns: int) -> np.ndarray:
            asked.append(frame)
            return super().lookup(frame, stamp_ns)

    camera = Bench(poses=Poses(), transforms=None)
    try:
        message = image_message(camera.header(1.0), "rgb8", np.zeros((6, 8, 3), np.uint8))
        message.header.frame_id = "/camera"
        camera.depth(1.0)
        camera.builder.add_image(message)
        assert camera.taken(1) == [1.0]
        assert asked == ["camera"] and camera.frames[0].header.frame_id == "camera"
    finally:
        camera.builder.stop()


@pytest.mark.parametrize("astray", [3600.0, 8.0, 1.0])
def test_one_image_of_another_time_is_left_out_and_nothing_else(bench, astray):
    camera = bench(pose_timeout=FOREVER)
    for seconds in (5.0, 5.1, astray, 5.2, 5.3):
        camera.depth(seconds if seconds != astray else 5.15)
        camera.image(seconds)
    assert camera.taken(4) == [5.0, 5.1, 5.2, 5.3]
    assert camera.drops.counts() == {"stamp_not_increasing": 1} and not camera.jumps


@pytest.mark.parametrize("ahead", [5.0, -5.0])
def test_of_two_cameras_whose_clocks_differ_one_is_used(bench, ahead):
    """Both publish on the image topic."""
    camera = bench(pose_timeout=FOREVER)
    for number in range(20):
        camera.depth(6.0 + 0.1 * number)
        camera.image(6.0 + 0.1 * number)
        camera.image(6.02 + 0.1 * number + ahead)
    assert camera.taken(20) == [round(6.0 + 0.1 * number, 4) for number in range(20)]
    assert camera.drops.counts() == {"stamp_not_increasing": 19} and not camera.jumps


def test_an_image_that_came_too_soon_after_the_one_before_is_used_if_the_next_is_later(bench):
    """A slow camera whose images come two at a time."""
    camera = bench(pose_timeout=FOREVER)
    for seconds, wait in ((1.0, 0.0), (3.0, 0.0), (3.5, 1.6)):
        time.sleep(wait)
        camera.depth(seconds)
        camera.image(seconds)
    assert camera.taken(3) == [1.0, 3.0, 3.5] and camera.drops.counts() == {} and not camera.jumps


def test_a_clock_that_is_set_forward_clears_nothing(bench):
    camera = bench(pose_timeout=FOREVER)
    for seconds in (1.0, 8.0, 8.1):
        camera.depth(seconds)
        camera.image(seconds)
    assert camera.taken(3) == [1.0, 8.0, 8.1] and camera.drops.counts() == {} and not camera.jumps


def test_images_that_are_seconds_apart_in_a_replay_faster_than_that(bench):
    camera = bench(pose_timeout=FOREVER)
    stamps = [1.0, 3.0, 5.0, 7.0, 9.0]
    for seconds in stamps:
        camera.depth(seconds)
        camera.image(seconds)
    assert camera.taken(5) == stamps and camera.drops.counts() == {}


def test_an_image_that_waits_for_the_next_is_counted_where_none_comes(bench):
    camera = bench(pose_timeout=FOREVER)
    camera.depth(5.0)
    for seconds in (5.0, 1.0):
        camera.image(seconds)
    camera.taken(1)
    camera.builder.stop()
    assert camera.drops.counts() == {"stopped": 1}


def test_what_the_camera_sees_of_the_robot_is_ignored(bench, tmp_path):
    mask = np.full((6, 8), 255, np.uint8)
    mask[4:] = 0
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    camera = bench(pose_timeout=FOREVER, camera_mask=str(tmp_path / "mask.png"))
    for seconds in (1.0, 2.0):
        camera.depth(seconds)
        camera.image(seconds)
    assert camera.taken(2) == [1.0, 2.0]
    for live in camera.frames:
        np.testing.assert_array_equal(live.frame.ignored, mask == 0)
        assert not live.frame.depth[4:].any()


def test_a_mask_of_another_camera_is_told_with_each_image(bench, tmp_path):
    mask = np.full((6, 16), 255, np.uint8)
    mask[4:] = 0
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    camera = bench(pose_timeout=0.0, camera_mask=str(tmp_path / "mask.png"))
    for seconds in (1.0, 2.0):
        camera.depth(seconds)
        camera.image(seconds)
    camera.dropped("mask_size", 2)


def test_a_mask_that_is_not_there_is_a_wrong_configuration(bench, tmp_path):
    with pytest.raises(ConfigError, match="camera_mask: .*none.png is no file"):
        bench(camera_mask=str(tmp_path / "none.png"))
