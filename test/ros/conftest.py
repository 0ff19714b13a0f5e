"""The tests here run the real middleware, confined to this machine and to a domain of their own."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ["ROS_DOMAIN_ID"] = str(os.getpid() % 100 + 1)

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("lift_ros.msg", reason="needs this package built by colcon: run `make test`")


@pytest.fixture(scope="session", autouse=True)
def middleware():
    """rclpy, for as long as the tests run."""
    rclpy.init()
    yield
    rclpy.try_shutdown()
