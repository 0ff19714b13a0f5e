"""Frames whose masks another node makes: slower than the camera, late, or never."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros import wall
from ros.rig import Rig, image_message
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from lift_ros.errors import FrameRejected
from lift_ros.frame import Frame
from lift_ros.masks.recorded import masks_at
from lift_ros.masks.topic import TopicSegmenter
from lift_ros.ros import mask_sync
from lift_ros.ros.compat import TIME_JUMP_NS
from lift_ros.ros.frame_builder import LiveFrame
from lift_ros.ros.mask_sync import MaskSync
from lift_ros.ros.queues import DropCounter

START_NS = 1_763_712_345_123_456_789
STEP_NS = 33_000_000


class Bench:
    """A sync, what it hands on, and what it drops."""

    def __init__(self, timeout: float = 60.0, image_width: int = wall.CAMERA.width, capacity: int = 200) -> None:
        self.handed_on: list[LiveFrame] = []
        self.counter = DropCounter()
        self.sync = MaskSync(timeout, capacity, image_width, self.counter, self.handed_on.append)

    def frame(self, index: int, age: float = 0.0) -> None:
        seconds, nanoseconds = divmod(START_NS + index * STEP_NS, 10**9)
        stamp = seconds + nanoseconds / 1e9
        frame = Frame(wall.image(0), wall.CAMERA, np.eye(4), stamp, wall.depth(), str(index))
        header = Header(stamp=Time(sec=seconds, nanosec=nanoseconds))
        self.sync.add_frame(LiveFrame(frame, header, time.monotonic() - age))

    def offer(self, index: int, off_ns: int = 0, labels: np.ndarray | None = None) -> None:
        self.sync.add_masks(START_NS + index * STEP_NS + off_ns, wall.labels(0) if labels is None else labels)

    @property
    def names(self) -> list[str]:
        return [live.frame.name for live in self.handed_on]

    @property
    def drops(self) -> dict[str, int]:
        return self.counter.counts()


@pytest.mark.parametrize("late", [0, 3, 40])
def test_frames_that_a_slow_segmenter_took_are_handed_on_and_the_others_dropped(late: int):
    bench = Bench()
    for index in range(100):
        bench.frame(index)
        if index >= late and (index - late) % 15 == 0:  # it takes one image of 15
            bench.offer(index - late)
    taken = [str(index) for index in range(0, 100 - late, 15)]
    assert bench.names == taken
    assert bench.drops == {"not_segmented": 14 * (len(taken) - 1)}
    assert bench.sync.waiting == 100 - int(taken[-1]) - 1
    for live in bench.handed_on:
        assert len(TopicSegmenter().segment(live.frame)) > 0


def test_masks_that_come_before_their_frame():
    """It waits for its pose."""
    bench = Bench(timeout=0.0)
    bench.offer(1)
    bench.frame(0)
    bench.frame(1, age=1.0)  # old, but its masks are there
    assert bench.names == ["1"] and sum(bench.drops.values()) == 1 and not bench.sync.waiting


@pytest.mark.parametrize(("off_ns", "fit"), [(-900, True), (240, True), (900, True), (5_000, False), (-STEP_NS, False)])
def test_masks_are_those_of_an_image_where_their_stamps_differ_by_rounding(off_ns: int, fit: bool):
    for masks_first in (True, False):
        bench = Bench()
        if masks_first:
            bench.offer(1, off_ns)
        bench.frame(1)
        if not masks_first:
            bench.offer(1, off_ns)
        assert bench.names == ["1"] * fit and bench.sync.waiting == (not fit)


def test_masks_that_fit_no_image_are_not_taken_for_those_of_a_slow_segmenter():
    """With stamps of their own, or those of another camera."""
    bench = Bench(timeout=1.0)
    for index in range(5):
        bench.frame(index, age=0.9)
        bench.offer(index, off_ns=10_000_000)
    time.sleep(0.2)
    bench.sync.expire()
    assert not bench.names and bench.drops == {"masks_missing": 5}


def test_frames_that_wait_in_vain_while_masks_of_others_come():
    """A segmenter takes an image, and the next waits for it twice as long as that one."""
    bench = Bench(timeout=1.0)
    bench.frame(0, age=1.5)
    assert bench.drops == {"masks_missing": 1}
    bench.frame(1)
    bench.frame(2, age=0.8)
    bench.offer(1)
    assert bench.names == ["1"]
    time.sleep(0.3)
    bench.sync.expire()
    assert bench.drops == {"masks_missing": 1, "not_segmented": 1} and not bench.sync.waiting


def test_after_a_jump_of_the_clock_nothing_of_before_is_left():
    bench = Bench()
    for index in range(10_000, 10_005):
        bench.frame(index)
    bench.sync.clear("time_jump")
    assert bench.drops == {"time_jump": 5}
    for index in range(3):
        bench.frame(index)
    bench.offer(10_004)  # late, of before the jump
    bench.offer(2)
    assert bench.names == ["2"]
    bench.frame(10_004)  # of the new time
    assert bench.names == ["2"]


def test_a_frame_of_before_a_jump_that_comes_late_is_in_nobody_s_way():
    """It was at work when the clock jumped."""
    bench = Bench()
    bench.frame(100)
    for index in range(6):
        bench.frame(index)
        bench.offer(index)
    assert bench.names == [str(index) for index in range(6)]
    assert bench.drops == {"not_segmented": 1} and not bench.sync.waiting


def test_a_frame_of_before_a_jump_that_comes_late_takes_no_masks_along():
    bench = Bench()
    bench.offer(0)
    bench.frame(100)
    bench.frame(0)
    assert bench.names == ["0"]


def test_masks_wait_for_their_frames_until_a_later_frame_has_its_own():
    bench = Bench()
    for index in (0, 2, 1, 3):  # of a segmenter that works at several at once
        bench.offer(index)
    for index in (1, 0, 2, 3):
        bench.frame(index)
    assert bench.names == ["1", "2", "3"] and bench.drops == {"not_segmented": 1}


def test_the_oldest_masks_give_way_where_more_wait_than_may(monkeypatch):
    for capacity, bytes_kept in ((3, 2**30), (200, 3 * wall.labels(0).size)):
        monkeypatch.setattr(mask_sync, "MAX_BYTES", bytes_kept)
        bench = Bench(capacity=capacity)
        for index in range(10):
            bench.offer(index)
        monkeypatch.undo()
        for index in range(10):
            bench.frame(index)
        assert bench.names == ["7", "8", "9"]


def test_what_is_no_label_image_is_refused():
    bench = Bench()
    bench.frame(0)
    for labels in (wall.image(0), wall.labels(0).astype(np.float32), wall.labels(0)[:0]):
        with pytest.raises(FrameRejected) as rejected:
            bench.offer(0, labels=labels)
        assert rejected.value.reason == "masks_encoding"
    assert bench.sync.waiting == 1


def test_what_waits_is_bounded_and_what_is_waited_for_is_not_what_goes(monkeypatch):
    bench = Bench()
    bench.frame(0)
    bench.offer(0)
    (live,) = bench.handed_on
    monkeypatch.setattr(mask_sync, "MAX_BYTES", 10 * (live.frame.image.nbytes + live.frame.depth.nbytes))
    for index in range(1, 41):  # of which a slow segmenter took the first
        bench.frame(index)
        assert bench.sync.waiting <= 10
    bench.offer(1)
    assert bench.names == ["0", "1"]
    assert sum(bench.drops.values()) + bench.sync.waiting == 39


@pytest.mark.parametrize("image_width", [wall.CAMERA.width // 4, wall.CAMERA.width])
def test_what_waits_is_no_larger_than_masks_are_kept_at(image_width: int):
    bench = Bench(image_width=image_width)
    bench.frame(0)
    bench.offer(0)
    (live,) = bench.handed_on
    width = min(2 * image_width, wall.CAMERA.width)
    assert live.frame.camera.width == live.frame.image.shape[1] == width
    small = live.frame.at_width(image_width)
    assert image_width == wall.CAMERA.width or live.frame.camera.height == 2 * small.camera.height
    assert len(TopicSegmenter().segment(live.frame)) > 0


@pytest.mark.parametrize(
    ("ids", "dtype"), [([0, 255], "u1"), ([0, 256], "u2"), ([-1, 300], "i4"), ([-1, 7], "i2"), ([0, 2**31 - 1], "u4")]
)
def test_masks_are_kept_in_as_few_bytes_as_their_ids_allow(ids: list[int], dtype: str):
    labels = np.zeros((wall.CAMERA.height, wall.CAMERA.width), np.int64)
    labels[:12], labels[12:, :16] = ids
    bench = Bench()
    bench.offer(0, labels=labels)
    bench.frame(0)
    kept = bench.handed_on[0].frame.labels
    assert kept.dtype == dtype
    np.testing.assert_array_equal(kept, labels)


def test_masks_are_kept_as_small_as_they_may_be():
    bench = Bench(image_width=wall.CAMERA.width // 4)
    bench.frame(0)
    labels = np.kron(wall.labels(0).astype(np.int32), np.ones((4, 4), np.int32))  # of a picture four times as large
    bench.offer(0, labels=labels)
    (live,) = bench.handed_on
    assert live.frame.labels.shape == live.frame.image.shape[:2]
    assert live.frame.labels.flags.c_contiguous  # else each that reads them has to turn them
    masks = TopicSegmenter().segment(live.frame)
    whole = masks_at(labels, live.frame).masks
    assert masks.masks.shape == whole.shape and (masks.masks == whole).mean() > 0.99
    assert len(masks) > 0


def test_frames_and_masks_from_two_threads():
    bench = Bench()

    def segmenter() -> None:
        for index in range(200):
            bench.offer(index, labels=np.full((120, 160), index))
            time.sleep(0)

    thread = threading.Thread(target=segmenter)
    thread.start()
    for index in range(200):
        bench.frame(index)
    thread.join()
    assert bench.names == [str(index) for index in range(200)] and not bench.drops
    assert all((live.frame.labels == int(live.frame.name)).all() for live in bench.handed_on)


def test_frames_are_handed_on_one_after_the_other_whichever_thread_brings_their_masks():
    bench, begun, release = Bench(), threading.Event(), threading.Event()

    def slow(live: LiveFrame) -> None:
        if live.frame.name == "1":
            begun.set()
            release.wait(20.0)
        bench.handed_on.append(live)

    bench.sync = MaskSync(60.0, 200, wall.CAMERA.width, bench.counter, slow)
    bench.frame(1)
    bench.frame(2)
    threads = [threading.Thread(target=bench.offer, args=(index,)) for index in (1, 2)]
    threads[0].start()
    assert begun.wait(20.0)
    threads[1].start()
    threads[1].join(0.3)
    assert bench.names == []
    release.set()
    for thread in threads:
        thread.join(20.0)
    assert bench.names == ["1", "2"]


def test_a_pause_keeps_what_comes_meanwhile_out_of_the_map():
    with closing(Rig()) as rig:
        assert rig.call(SetBool, "pause", data=True).success
        rig.send(0, masks=None)
        rig.wait_for_frames(1)
        assert rig.call(SetBool, "pause", data=False).success
        rig.masks.publish(image_message(rig.header(0), "mono16", wall.labels(0)))
        rig.send(1)
        rig.wait_until(lambda: rig.status.keyframes, "a keyframe")
        time.sleep(0.5)
        assert rig.status.keyframes == 1 and "masks_missing" not in rig.drops


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


def test_what_waits_for_masks_does_not_come_into_another_map():
    with closing(Rig()) as rig:
        rig.send(0, masks=None)
        rig.wait_for_frames(1)
        assert rig.call(Trigger, "reset").success
        rig.masks.publish(image_message(rig.header(0), "mono16", wall.labels(0)))
        rig.wait_until(lambda: not rig.status.frames and not rig.status.keyframe_queue, "an empty node")
        time.sleep(1.5)
        assert not rig.status.keyframes
        rig.send(1)
        rig.wait_until(lambda: rig.status.keyframes, "the first keyframe of the new map")


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


def test_masks_that_come_out_of_order_are_those_of_their_images():
    """As of a segmenter that works on several images at a time."""
    bench = Bench(timeout=10.0)
    for index in (100, 0):
        bench.offer(index)
    for index in (0, 100):
        bench.frame(index)
    assert 100 * STEP_NS > TIME_JUMP_NS and bench.names == ["0", "100"]


def test_masks_of_before_a_jump_of_the_clock_are_not_those_of_an_image_after_it():
    bench = Bench()
    bench.offer(3)  # of an image that the jump took along
    bench.sync.clear("time_jump")
    bench.frame(3)
    assert bench.names == [] and bench.sync.waiting == 1
    bench.offer(3)
    assert bench.names == ["3"]


def test_that_masks_came_before_a_jump_says_nothing_of_those_that_are_missing_after_it():
    bench = Bench(timeout=1.0)
    bench.frame(0)
    bench.offer(0)
    bench.sync.clear("map_replaced")
    bench.frame(1, age=1.5)
    assert bench.drops == {"masks_missing": 1}
