"""How the node ends, as a process of its own: with its map saved, or with an exit status that says that it is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import rclpy
from ros import wall
from ros.rig import image_message, transform
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from lift_ros.config import Config
from lift_ros.mapping.map_files import load_map
from lift_ros.mapping.mapper import Mapper
from lift_ros.masks.topic import TopicSegmenter
from lift_ros.msg import Status
from lift_ros.options import with_values
from lift_ros.ros.conversions import camera_info_message, to_stamp

NAMESPACE = "ending"


@pytest.fixture
def directory(tmp_path):
    """Of maps, one of them called "known"."""
    mapper = Mapper(with_values(Config(), {"mapping.device": "cpu"}), TopicSegmenter())
    mapper.add_sparse_cloud(np.random.default_rng(0).uniform(-1, 1, (50, 3)), np.full((50, 3), 90, np.uint8))
    mapper.update_objects()
    mapper.save(tmp_path / "known")
    return tmp_path


@contextmanager
def started(script: str = "", **parameters: object) -> Iterator[subprocess.Popen]:
    """The node, once it is active; run by ``script`` where there is one."""
    parameters = {"masks.segmenter": "topic", "masks_topic": "masks", "mapping.device": "cpu", **parameters}
    given = [item for name, value in parameters.items() for item in ("-p", f"{name}:={value}")]
    program = ["-c", script] if script else ["-m", "lift_ros.ros.mapping_node"]
    command = [sys.executable, *program, "--ros-args", "-r", f"__ns:=/{NAMESPACE}", *given]
    # not from here, where Python would find the sources rather than what is installed
    process = subprocess.Popen(command, cwd=tempfile.gettempdir(), stderr=subprocess.PIPE, text=True)
    listener = rclpy.create_node("listener", namespace=NAMESPACE)
    try:
        states: list[int] = []
        listener.create_subscription(Status, "lift_ros/status", lambda message: states.append(message.state), 10)
        for _ in range(1200):
            rclpy.spin_once(listener, timeout_sec=0.1)
            if Status.WAITING in states:
                break
        assert Status.WAITING in states, "the node is not active"
        yield process
    finally:
        process.kill()
        process.communicate()
        listener.destroy_node()


def test_a_node_whose_map_could_not_be_saved_says_so_by_its_exit_status(directory):
    with started(map_directory=directory, load_map="known", autosave="left") as process:
        (directory / "left").mkdir()
        (directory / "left" / "mine.txt").touch()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "map not saved" in said
    assert os.listdir(directory / "left") == ["mine.txt"]


HANGING = """
import sys, threading
from pathlib import Path
from lift_ros.masks.topic import TopicSegmenter
from lift_ros.ros import mapper_worker, mapping_node

class Hanging(TopicSegmenter):
    def segment(self, frame, prompts=None):
        Path({sign!r}).touch()
        threading.Event().wait()

mapper_worker.STOP_TIMEOUT = 1.0
mapping_node.make_mapper_segmenter = lambda config: Hanging()
sys.exit(mapping_node.main())
"""


def test_a_node_whose_mapper_hangs_ends_and_saves_what_was_published(directory, tmp_path):
    sign = tmp_path / "hangs"
    script = HANGING.format(sign=str(sign))
    robot = rclpy.create_node("robot", namespace=NAMESPACE)
    images, infos = robot.create_publisher(Image, "image", 10), robot.create_publisher(CameraInfo, "camera_info", 10)
    masks, tf = robot.create_publisher(Image, "masks", 10), robot.create_publisher(TFMessage, "/tf", 100)
    try:
        with started(script, map_directory=directory, load_map="known", autosave="left") as process:
            for index in range(600):
                header = Header(stamp=to_stamp(1000.0 + 0.1 * index), frame_id="camera")
                tf.publish(TFMessage(transforms=[transform(header, wall.position(0))]))
                infos.publish(camera_info_message(header, wall.CAMERA))
                masks.publish(image_message(header, "mono16", wall.labels(0)))
                images.publish(image_message(header, "rgb8", wall.image(0)))
                time.sleep(0.1)
                if sign.exists():
                    break
            assert sign.exists()
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)[1]
    finally:
        robot.destroy_node()
    assert process.returncode == 0 and "the mapper hangs" in said
    assert len(load_map(directory / "left").scene["means"]) == 50
