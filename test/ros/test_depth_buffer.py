"""How much depth is kept for images to come."""

from __future__ import annotations

from sensor_msgs.msg import Image
from std_msgs.msg import Header

from lift_ros.ros.conversions import to_stamp
from lift_ros.ros.depth_buffer import DepthBuffer


def fill(buffer: DepthBuffer, count: int, start: float, rate: float) -> None:
    for number in range(count):
        buffer.add(Image(header=Header(stamp=to_stamp(start + number / rate))))


def test_depth_does_not_fill_the_memory():
    buffer = DepthBuffer(slop=0.02, images=30)
    fill(buffer, 400, 1.0, 30.0)
    assert len(buffer) == 60  # no image waits
    buffer.keep_for(15_000_000_000)
    fill(buffer, 400, 15.0, 60.0)
    assert len(buffer) == 300
    buffer.keep_for(None)
    fill(buffer, 1, 22.0, 60.0)
    assert len(buffer) == 60


def test_depth_is_kept_for_as_many_images_as_may_wait_for_their_turn():
    buffer = DepthBuffer(slop=0.02, images=100)
    fill(buffer, 150, 1.0, 100.0)
    assert len(buffer) == 150


def test_the_latest_depth_is_kept_however_old_it_is():
    buffer = DepthBuffer(slop=0.02, images=30)
    fill(buffer, 3, 1.0, 30.0)
    buffer.forget_old(5_000_000_000)
    assert len(buffer) == 1
    buffer.forget()
    assert len(buffer) == 0


def test_images_between_depth_images_are_told_at_once_and_are_not_those_whose_depth_is_lost():
    buffer = DepthBuffer(slop=0.02, images=30)

    def at(seconds: float) -> tuple[bool, bool, bool]:
        """Whether there is depth, whether it stays that, and whether the image lies between depth images."""
        image_ns = round(seconds * 1e9)
        depth, settled = buffer.near(image_ns)
        return depth is not None, settled, buffer.is_between(image_ns)

    fill(buffer, 5, 1.0, 10.0)
    assert at(1.4) == (True, True, False)
    assert at(1.45) == (False, True, True)
    assert at(1.5) == (False, False, False)  # is due now
    fill(buffer, 1, 1.6, 10.0)
    assert at(1.5) == (False, True, False)
    assert at(1.55) == (False, True, True)
    assert at(1.6) == (True, True, False)
    assert at(3.05)[2] is False  # it has stopped since
