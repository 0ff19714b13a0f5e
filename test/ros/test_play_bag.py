"""What the player publishes of a bag: nothing that moves a robot, unless it is told to."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import numpy as np
import pytest
import rclpy
from data.recorder import STORE, Recorder
from geometry_msgs.msg import PoseStamped, Twist
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image

KINDS = {"/cam/image_raw": Image, "/cam/camera_info": CameraInfo, "/odom": Odometry}
COMMANDS = {"/cmd_vel": Twist, "/goal_pose": PoseStamped}


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """Of a robot that is driven."""
    path = tmp_path_factory.mktemp("bags") / "driven"
    zero = STORE.types["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
    twist = STORE.types["geometry_msgs/msg/Twist"](zero, zero)
    with Recorder(path) as recorder:
        pose, covariance = recorder.pose(np.eye(4)), np.zeros(36)
        uncertain = {
            "pose": STORE.types["geometry_msgs/msg/PoseWithCovariance"](pose, covariance),
            "twist": STORE.types["geometry_msgs/msg/TwistWithCovariance"](twist, covariance),
        }
        for seconds in (0.0, 0.1, 0.2):
            recorder.image(seconds)
            recorder.info(seconds)
            header = recorder.header(seconds, "odom")
            kind = "nav_msgs/msg/Odometry"
            recorder.write("/odom", kind, seconds, header=header, child_frame_id="base", **uncertain)
            recorder.write("/goal_pose", "geometry_msgs/msg/PoseStamped", seconds, header=header, pose=pose)
            recorder.write("/cmd_vel", "geometry_msgs/msg/Twist", seconds, linear=zero, angular=zero)
    return path


def play(bag, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lift_ros.ros.play_bag", str(bag), *arguments]
    return subprocess.run(command, cwd=tempfile.gettempdir(), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "more"),
    [((), []), (("--topics", "/cmd_vel"), ["/cmd_vel"]), (("--all",), ["/cmd_vel", "/goal_pose"])],
    ids=["default", "one more", "all"],
)
def test_what_moves_a_robot_is_played_only_where_it_is_asked_for(bag, arguments, more):
    node = rclpy.create_node("robot_that_listens")
    heard: set[str] = set()
    for topic, kind in {**KINDS, **COMMANDS}.items():
        node.create_subscription(kind, topic, lambda _, topic=topic: heard.add(topic), 10)
    try:
        done = play(bag, "--wait", "20", *arguments)
        assert done.returncode == 0, done.stderr
        for _ in range(40):
            rclpy.spin_once(node, timeout_sec=0.05)
        assert heard == {*KINDS, *more}
        assert ("not played (see --topics)" in done.stderr) == (arguments != ("--all",))
    finally:
        node.destroy_node()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--topics", "/nowhere"), "/nowhere is not played: it is not in the bag"),
        (("--wait-for", "/cmd_vel"), "/cmd_vel is not played: its type is none that is: see --topics"),
    ],
)
def test_a_topic_that_is_not_played_is_an_error_where_it_is_named(bag, arguments, reason):
    done = play(bag, *arguments)
    assert done.returncode == 1 and reason in done.stderr
