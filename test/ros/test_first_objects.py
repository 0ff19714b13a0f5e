"""A robot that starts has its first objects as soon as two views show them."""

from __future__ import annotations

import threading

import pytest
from rclpy.logging import get_logger
from std_msgs.msg import Header

from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.mapping.mapper import Mapper
from lift_ros.masks.recorded import CaptureMasks
from lift_ros.options import with_values
from lift_ros.ros.budgets import Duty
from lift_ros.ros.frame_builder import LiveFrame
from lift_ros.ros.mapper_worker import MapperWorker
from lift_ros.ros.queues import DropCounter

TIMEOUT = 60.0  # s


@pytest.mark.parametrize("min_views", [1, 3])
def test_they_wait_neither_for_the_training_that_is_owed_nor_for_a_rest_after_an_update_of_one_view(
    demo_room, min_views
):
    values = {"mapping.image_width": 96, "mapping.photometric_steps": 100, "objects.min_views": min_views}
    updates, there = [], threading.Event()

    def told(mapper: Mapper, events: list) -> None:
        updates.append((mapper.stats.keyframes, len(mapper.objects), mapper.stats.steps))
        if mapper.stats.keyframes > 1 and updates[-1][1]:
            there.set()

    with open_capture(demo_room.capture) as capture:
        mapper = Mapper(with_values(Config(), values), CaptureMasks(capture, "L0"))
        worker = MapperWorker(mapper, 2, 0.0, Duty(1.0), DropCounter(), told, get_logger("worker"))
        for frame in list(capture.frames)[:2]:
            worker.add_frame(LiveFrame(frame, Header(), 0.0))
        worker.start()
        try:
            assert there.wait(TIMEOUT), f"no objects; {worker.error}"
        finally:
            worker.stop()
    (first, alone, trained), *later = updates
    assert first == 1 and trained == 1 and (alone > 0) == (min_views == 1)
    found = next(update for update in later if update[1])
    if min_views > 1:  # with the very next turn
        assert found[0] == 2 and found[1] > 3 and found[2] == 3
