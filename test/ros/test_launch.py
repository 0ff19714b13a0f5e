"""Launch files, where the launch system is installed (ROS 2 from PyPI has none)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from data.recorder import Recorder, write_bag

from lift_ros.camera import Camera
from lift_ros.frame import Frame

pytest.importorskip(
    "launch_ros", reason="launch_ros is not installed: the launch files are tested on a ROS distribution"
)
import launch_ros.actions
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext
from launch.actions import OpaqueFunction
from launch.launch_description_sources import get_launch_description_from_python_launch_file
from launch_ros.actions import Node

LAUNCH = Path(__file__).parents[2] / "launch"


def actions_of(name: str, **arguments: str) -> list:
    """What a launch file starts, given these arguments."""
    context = LaunchContext()
    context.launch_configurations.update(arguments)
    description = get_launch_description_from_python_launch_file(str(LAUNCH / name))
    started = []
    for action in description.entities:
        if isinstance(action, OpaqueFunction):
            started += action.execute(context)
        else:
            action.visit(context)
    return started


@pytest.mark.parametrize("preset", ["", "cpu", "jetson", "workstation"])
def test_mapping(preset):
    with patch.object(launch_ros.actions, "Node", wraps=Node) as started:
        (node,) = actions_of("mapping.launch.py", preset=preset, segmenter="topic", image_topic="/front/image")
    assert isinstance(node, Node) and node.node_executable == "mapping_node"
    *files, arguments = started.call_args.kwargs["parameters"]
    assert [Path(file).stem for file in files] == ["mapping", *filter(None, [preset])]
    assert arguments == {"image_topic": "/front/image", "masks.segmenter": "topic"}
    assert started.call_args.kwargs["remappings"] == []


@pytest.mark.parametrize(
    ("asked", "namespace", "remappings"),
    [
        ("true", "robot1", [("/tf", "/robot1/tf"), ("/tf_static", "/robot1/tf_static")]),
        ("1", "/fleet/robot1/", [("/tf", "/fleet/robot1/tf"), ("/tf_static", "/fleet/robot1/tf_static")]),
        ("true", "", [("/tf", "/tf"), ("/tf_static", "/tf_static")]),
        ("False", "robot1", []),
    ],
)
def test_transforms_come_from_the_namespace_where_it_is_asked_for(asked, namespace, remappings):
    installed = {"lift_ros": get_package_prefix("lift_ros"), "rviz2": "/opt/rviz2"}
    prefix = patch("ament_index_python.packages.get_package_prefix", installed.get)
    with prefix, patch.object(launch_ros.actions, "Node") as started:
        actions_of("mapping.launch.py", namespaced_tf=asked, namespace=namespace, rviz="true")
    node, rviz = (call.kwargs["remappings"] for call in started.call_args_list)
    assert node == remappings
    assert [pair for pair in rviz if pair[0].startswith("/tf")] == remappings


def test_rviz_is_started_or_missed_by_name():
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        with pytest.raises(RuntimeError, match="rviz2 is not installed"):
            actions_of("mapping.launch.py", rviz="true")
    else:
        assert actions_of("mapping.launch.py", rviz="true")[1].node_executable == "rviz2"


def test_files_before_arguments_and_the_users_file_after_the_preset(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("/**:\n  ros__parameters:\n    scene:\n      max_gaussians: 1000\n    use_sim_time: true\n")
    with patch.object(launch_ros.actions, "Node") as node:
        actions_of("mapping.launch.py", preset="cpu", config=str(mine), depth_topic="none", world_frame="odom")
    *files, arguments = node.call_args.kwargs["parameters"]
    assert [Path(file).name for file in files] == ["mapping.yaml", "cpu.yaml", "mine.yaml"]
    assert arguments == {"depth_topic": "", "world_frame": "odom"}  # and nothing that the file may say


@pytest.mark.parametrize(
    ("value", "meant"), [("true", True), ("True", True), ("1", True), ("FALSE", False), ("0", False)]
)
def test_what_a_flag_says(value, meant):
    with patch.object(launch_ros.actions, "Node") as node:
        actions_of("mapping.launch.py", autostart=value, rviz="False")
    assert node.call_args.kwargs["parameters"][-1] == {"autostart": meant}


@pytest.mark.parametrize("name", ["autostart", "rectified", "use_sim_time", "rviz", "namespaced_tf"])
@pytest.mark.parametrize("value", ["yes", "ture"])
def test_a_flag_that_says_neither_true_nor_false(name, value):
    with pytest.raises(ValueError, match=f"{name}:={value}"):
        actions_of("mapping.launch.py", **{name: value})


def test_a_loop_that_is_neither_true_nor_false():
    with pytest.raises(ValueError, match="loop:=on"):
        actions_of("replay.launch.py", bag="bag", loop="on")


def test_rviz_sees_the_topics_and_the_frame():
    installed = {"lift_ros": get_package_prefix("lift_ros"), "rviz2": "/opt/rviz2"}
    prefix = patch("ament_index_python.packages.get_package_prefix", installed.get)
    with prefix, patch.object(launch_ros.actions, "Node") as node:
        actions_of("mapping.launch.py", rviz="true", namespace="arm", world_frame="odom")
    rviz = node.call_args.kwargs
    assert ("/lift_ros/object_cloud", "/arm/lift_ros/object_cloud") in rviz["remappings"]
    assert rviz["arguments"][-2:] == ["-f", "odom"]


@pytest.mark.parametrize(
    ("node", "namespace"),
    [
        ("/**", ""), ("lift_ros", ""), ("/lift_ros", ""), ("/**", "arm"), ("/arm/lift_ros", "arm"),
        ("arm/lift_ros", "/arm"), ("arm:\n  lift_ros", "arm"),
    ],
)  # fmt: skip
def test_rviz_sees_the_frame_and_the_time_of_the_users_file(tmp_path, node, namespace):
    installed = {"lift_ros": get_package_prefix("lift_ros"), "rviz2": "/opt/rviz2"}
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"{node}:\n    ros__parameters:\n      world_frame: odom\n      use_sim_time: true\n")

    def rviz(**arguments: str) -> dict:
        prefix = patch("ament_index_python.packages.get_package_prefix", installed.get)
        with prefix, patch.object(launch_ros.actions, "Node") as started:
            actions_of("mapping.launch.py", rviz="true", config=str(mine), namespace=namespace, **arguments)
        return started.call_args.kwargs

    assert rviz()["arguments"][-2:] == ["-f", "odom"] and rviz()["parameters"] == [{"use_sim_time": True}]
    decided = rviz(world_frame="earth", use_sim_time="false")
    assert decided["arguments"][-2:] == ["-f", "earth"] and decided["parameters"] == [{"use_sim_time": False}]
    for other in ("another_node:\n  ros__parameters:\n    world_frame: odom\n", "", "# nothing\n"):
        mine.write_text(other)
        assert "-f" not in rviz()["arguments"]


def test_a_parameter_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.yaml"):
        actions_of("mapping.launch.py", config=str(tmp_path / "none.yaml"))


def test_replay(tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    depth = np.ones((48, 64), np.float32)
    frames = [Frame(image, Camera(64, 48, 60.0, 60.0, 32.0, 24.0), np.eye(4), 10.0 + i, depth, "") for i in range(2)]
    write_bag(tmp_path / "bag", frames)
    bag = str(tmp_path / "bag")
    include, player = actions_of("replay.launch.py", bag=bag)
    given = dict(include.launch_arguments)
    assert given["use_sim_time"] == "true" and given["image_topic"] and given["depth_topic"]
    assert player.node_executable == "play_bag"
    without = dict(actions_of("replay.launch.py", bag=bag, depth_topic="none", rectified="true")[0].launch_arguments)
    assert without["depth_topic"] == "none" and without["image_topic"] == given["image_topic"]
    for value, meant in (("True", True), ("0", False)):
        with patch.object(launch_ros.actions, "Node") as node:
            actions_of("replay.launch.py", bag=bag, loop=value)
        arguments = node.call_args.kwargs["arguments"]
        assert ("--loop" in arguments) == meant
        assert arguments[arguments.index("--wait-for") + 1] == given["image_topic"]
    other = actions_of("replay.launch.py", bag=bag, camera_frame="camera_link", world_frame="map")[0]
    assert dict(other.launch_arguments)["pose_source"] == "tf"


def test_poses_that_are_no_odometry_are_played_where_they_are_used(tmp_path):
    """The player alone would take them for goals."""
    with Recorder(tmp_path / "bag") as recorder:
        recorder.image(0.0)
        recorder.info(0.0)
        here = {"header": recorder.header(0.0, "map"), "pose": recorder.pose(np.eye(4))}
        recorder.write("/localisation", "geometry_msgs/msg/PoseStamped", 0.0, **here)
    with patch.object(launch_ros.actions, "Node") as node:
        actions_of("replay.launch.py", bag=str(tmp_path / "bag"))
    arguments = node.call_args.kwargs["arguments"]
    assert arguments[arguments.index("--topics") + 1 :] == ["/localisation"]


def test_replay_of_what_is_no_bag(tmp_path):
    with pytest.raises(RuntimeError, match="nothing"):
        actions_of("replay.launch.py", bag=str(tmp_path / "nothing"))


@pytest.mark.parametrize("name", ["mapping.launch.py", "replay.launch.py"])
def test_launch_needs_none_of_the_requirements(name, monkeypatch):
    """On a robot it runs in the Python of the distribution, and torch may be in a virtual environment only."""
    for module in [module for module in sys.modules if module.split(".")[0] == "lift_ros"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "rosbags", None)
    assert get_launch_description_from_python_launch_file(str(LAUNCH / name)).entities
    assert not [module for module in sys.modules if module.split(".")[0] == "lift_ros"]


@pytest.mark.skipif(shutil.which("ros2") is None, reason="needs the command ros2")
def test_the_node_starts_and_stops():
    command = ["ros2", "launch", "lift_ros", "mapping.launch.py", "segmenter:=topic", "masks_topic:=masks"]
    launch = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    too_late = threading.Timer(120.0, os.killpg, (launch.pid, signal.SIGKILL))  # which ends its output
    too_late.start()
    try:
        for line in launch.stdout:
            if "masks by 'topic'" in line:
                break
        launch.send_signal(signal.SIGINT)
        rest = launch.communicate()[0]
        assert "process has finished cleanly" in rest and launch.returncode == 0
    finally:
        too_late.cancel()
        launch.kill()
