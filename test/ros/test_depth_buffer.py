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
