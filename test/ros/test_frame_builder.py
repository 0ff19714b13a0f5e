"""Which depth an image gets, where the two do not come at one time."""

from __future__ import annotations

import gc
import time

import numpy as np
import pytest
from rclpy.logging import get_logger
from ros.rig import image_message
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from lift_ros.camera import Camera
from lift_ros.errors import FrameRejected
from lift_ros.ros.conversions import camera_info_message, to_stamp
from lift_ros.ros.frame_builder import FrameBuilder
from lift_ros.ros.node_config import NodeConfig
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

    def __init__(self, **config) -> None:
        self.frames, self.drops, self.poses = [], DropCounter(), Standing()
        self.builder = FrameBuilder(
            NodeConfig(depth_topic="depth", **config), self.poses, lambda *_: np.eye(4), self.drops,
            self.frames.append, lambda: None, get_logger("bench"),
        )  # fmt: skip
        self.builder.add_info(camera_info_message(self.header(0.0), CAMERA))
        self.builder.start()

    def header(self, seconds: float) -> Header:
        return Header(stamp=to_stamp(seconds), frame_id="camera")

    def image(self, seconds: float) -> None:
        self.builder.add_image(image_message(self.header(seconds), "rgb8", np.zeros((6, 8, 3), np.uint8)))

    def depth(self, seconds: float, shape: tuple[int, int] = (6, 8)) -> None:
        """Depth that is as many metres as its stamp is seconds."""
        self.builder.add_depth(image_message(self.header(seconds), "32FC1", np.full(shape, seconds, np.float32)))

    def taken(self, count: int) -> list[float]:
        """Stamps of the depth that the first ``count`` frames have."""
        deadline = time.monotonic() + 20
        while len(self.frames) < count and time.monotonic() < deadline:
            time.sleep(0.01)
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


def test_an_image_without_depth_does_not_hold_up_the_next(bench):
    """Depth at half the rate of the images."""
    camera = bench(depth_slop=0.01, pose_timeout=FOREVER)
    for seconds in (1.0, 1.0667, 1.1333):
        camera.depth(seconds)
    for seconds in (1.0, 1.0333, 1.0667, 1.1, 1.1333):
        camera.image(seconds)
    assert camera.taken(3) == [1.0, 1.0667, 1.1333]
    assert camera.drops.counts() == {"depth_missing": 2}


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
    camera.depth(1.0)
    camera.image(1.0)
    assert camera.taken(2) == [5.0, 1.0] and camera.drops.counts() == {"time_jump": 1}


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
