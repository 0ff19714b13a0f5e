"""How the node ends, as a process of its own: with its map saved, or with an exit status that says that it is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import rclpy

from lift_ros.config import Config
from lift_ros.mapping.mapper import Mapper
from lift_ros.masks.topic import TopicSegmenter
from lift_ros.msg import Status
from lift_ros.options import with_values

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
def started(**parameters: object) -> Iterator[subprocess.Popen]:
    """The node, once it is active."""
    parameters = {"masks.segmenter": "topic", "masks_topic": "masks", "mapping.device": "cpu", **parameters}
    given = [item for name, value in parameters.items() for item in ("-p", f"{name}:={value}")]
    command = [sys.executable, "-m", "lift_ros.ros.mapping_node", "--ros-args", "-r", f"__ns:=/{NAMESPACE}", *given]
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
