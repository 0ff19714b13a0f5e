"""A robot that starts has its first objects as soon as two views show them."""

from __future__ import annotations

import threading
import time

import pytest
from rclpy.logging import get_logger
from std_msgs.msg import Header

from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.schedule import STEPS_AT_ONCE
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


def test_updates_of_one_view_leave_most_of_the_time_to_training(demo_room):
    steps, updates, done = 30, [], threading.Event()

    def told(mapper: Mapper, events: list) -> None:
        time.sleep(0.05)  # somebody listens
        updates.append(mapper.stats.steps)
        if mapper.stats.steps == steps:
            done.set()

    with open_capture(demo_room.capture) as capture:
        values = {"mapping.image_width": 96, "mapping.photometric_steps": steps}
        mapper = Mapper(with_values(Config(), values), CaptureMasks(capture, "L0"))
        worker = MapperWorker(mapper, 2, 0.0, Duty(1.0), DropCounter(), told, get_logger("worker"))
        worker.add_frame(LiveFrame(next(iter(capture.frames)), Header(), 0.0))
        worker.start()
        try:
            assert done.wait(TIMEOUT), f"{mapper.stats}; {worker.error}"
        finally:
            worker.stop()
    assert len(updates) < steps / 2


def test_a_map_that_goes_on_trains_as_much_as_ever(demo_room, tmp_path):
    config = with_values(Config(), {"mapping.image_width": 96, "mapping.photometric_steps": 20})
    updates, there = [], threading.Event()

    def told(mapper: Mapper, events: list) -> None:
        updates.append(mapper.stats.steps)
        there.set()

    with open_capture(demo_room.capture) as capture:
        masks, frames = CaptureMasks(capture, "L0"), list(capture.frames)
        before = Mapper(config, masks)
        for frame in frames[:3]:
            before.process(frame)
        before.update_objects()
        assert before.objects
        before.save(tmp_path / "map")
        mapper = Mapper.load(tmp_path / "map", config, masks)
        worker = MapperWorker(mapper, 2, 0.0, Duty(1.0), DropCounter(), told, get_logger("worker"))
        worker.add_frame(LiveFrame(frames[4], Header(), 0.0))
        worker.start()
        try:
            assert there.wait(TIMEOUT), f"no update; {worker.error}"
        finally:
            worker.stop()
    assert updates[0] == STEPS_AT_ONCE
