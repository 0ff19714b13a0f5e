"""The tests here run the real middleware, confined to this machine and to a domain of their own."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2: run `make test`")
pytest.importorskip("lift_ros.msg", reason="needs this package built by colcon: run `make test`")


@pytest.fixture(scope="session", autouse=True)
def middleware(tmp_path_factory):
    """rclpy, for as long as the tests run; what it logs does not stay in the home directory."""
    from lift_ros.ros.processes import free_domain

    os.environ["ROS_DOMAIN_ID"] = str(free_domain())
    os.environ["ROS_LOG_DIR"] = str(tmp_path_factory.mktemp("ros_log"))
    rclpy.init()
    yield
    rclpy.try_shutdown()
