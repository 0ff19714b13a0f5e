"""Frames whose masks another node makes: slower than the camera, late, or never."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros import wall
from ros.rig import Rig, image_message
from std_msgs.msg import Header

from lift_ros.frame import Frame
from lift_ros.masks.topic import TopicSegmenter
from lift_ros.ros import mask_sync
from lift_ros.ros.conversions import to_stamp
from lift_ros.ros.frame_builder import LiveFrame
from lift_ros.ros.mask_sync import MaskSync
from lift_ros.ros.queues import DropCounter

STEP_NS = 33_000_000


class Bench:
    """A sync, what it hands on, and what it drops."""

    def __init__(self, timeout: float = 60.0, max_width: int = 640) -> None:
        self.handed_on: list[LiveFrame] = []
        self.counter = DropCounter()
        self.masks = TopicSegmenter()
        self.sync = MaskSync(self.masks, timeout, max_width, self.counter, self.handed_on.append)

    def frame(self, index: int, age: float = 0.0) -> None:
        stamp = to_stamp(index * STEP_NS / 1e9)
        frame = Frame(wall.image(0), wall.CAMERA, np.eye(4), index * STEP_NS / 1e9, wall.depth(), str(index))
        self.sync.add_frame(LiveFrame(frame, Header(stamp=stamp), time.monotonic() - age))

    def offer(self, index: int) -> None:
        self.sync.add_masks(index * STEP_NS, wall.labels(0))

    @property
    def names(self) -> list[str]:
        return [live.frame.name for live in self.handed_on]


@pytest.mark.parametrize("late", [0, 3, 40])
def test_frames_that_a_slow_segmenter_took_are_handed_on_and_the_others_dropped(late: int):
    bench = Bench()
    for index in range(100):
        bench.frame(index)
        if index >= late and (index - late) % 15 == 0:  # it takes one image of 15
            bench.offer(index - late)
    taken = [str(index) for index in range(0, 100 - late, 15)]
    assert bench.names == taken
    assert bench.counter.counts() == {"not_segmented": 15 * (len(taken) - 1) - (len(taken) - 1)}
    for live in bench.handed_on:
        assert len(bench.masks.segment(live.frame)) > 0


def test_masks_that_come_before_their_frame():
    """It waits for its pose."""
    bench = Bench()
    bench.offer(1)
    bench.frame(0)
    bench.frame(1)
    assert bench.names == ["1"] and bench.counter.counts() == {"not_segmented": 1}


def test_frames_whose_masks_never_come(monkeypatch):
    bench = Bench(timeout=1.0)
    bench.frame(0, age=2.0)
    assert bench.counter.counts() == {"masks_missing": 1}
    monkeypatch.setattr(mask_sync, "MAX_WAITING", 5)
    for index in range(1, 8):
        bench.frame(index)
    assert bench.counter.counts() == {"masks_missing": 3}
    bench.offer(2)
    bench.offer(3)
    assert bench.names == ["3"]
    bench.sync.clear("time_jump")
    bench.offer(7)
    assert bench.names == ["3"] and bench.counter.counts()["time_jump"] == 4


def test_what_waits_is_no_larger_than_mapping_needs():
    bench = Bench(max_width=wall.CAMERA.width // 2)
    bench.frame(0)
    bench.offer(0)
    (live,) = bench.handed_on
    assert live.frame.camera.width == live.frame.image.shape[1] == wall.CAMERA.width // 2
    assert len(bench.masks.segment(live.frame)) > 0


def test_frames_and_masks_from_two_threads():
    bench = Bench()

    def segmenter() -> None:
        for index in range(200):
            bench.offer(index)
            time.sleep(0)

    thread = threading.Thread(target=segmenter)
    bench.masks.capacity = 200
    thread.start()
    for index in range(200):
        bench.frame(index)
    thread.join()
    assert bench.names == sorted(bench.names, key=int) and len(set(bench.names)) == len(bench.names)
    assert len(bench.names) + bench.counter.counts().get("not_segmented", 0) == 200


def test_a_segmenter_slower_than_the_camera_makes_keyframes_all_the_same():
    """One image of six, whose masks are there when eight more images are: more than wait for the mapper."""
    with closing(Rig(mapper_queue=2)) as rig:
        for index in range(60):
            rig.send(index, masks=None)
            if index >= 8 and (index - 8) % 6 == 0:
                header = rig.header(index - 8)
                rig.masks.publish(image_message(header, "mono16", wall.labels(index - 8)))
            time.sleep(0.1)
        rig.wait_until(lambda: rig.status.keyframes >= 4, "most of the keyframes that it made masks for")
        rig.wait_until(lambda: len(rig.objects) >= 3, "the objects in them")
        assert "masks_missing" not in rig.drops and rig.drops["not_segmented"] > 30


def test_a_segmenter_that_is_not_there_is_warned_of_and_the_node_ends_all_the_same():
    with closing(Rig(masks_timeout=0.2)) as rig:
        said: list[DiagnosticStatus] = []
        topic = "/diagnostics"
        rig.node.create_subscription(DiagnosticArray, topic, lambda message: said.extend(message.status), 10)
        for index in range(8):
            rig.send(index, masks=None)
            time.sleep(0.1)
        assert rig.wait_for_drop("masks_missing") >= 1
        rig.wait_until(
            lambda: any("masks_missing" in each.message and each.level == DiagnosticStatus.WARN for each in said),
            "a warning",
        )
        stop = threading.Thread(target=rig.mapping.trigger_deactivate)
        stop.start()
        stop.join(40.0)
        assert not stop.is_alive()
