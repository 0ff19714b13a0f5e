"""Budgets of time and memory, alone and through the node."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros import wall
from ros.rig import PERIOD, Rig, transform
from tf2_msgs.msg import TFMessage

from lift_ros.errors import FrameRejected
from lift_ros.frame import Frame
from lift_ros.masks.topic import TopicSegmenter
from lift_ros.ros.budgets import BudgetedSegmenter, Duty, process_memory


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_work_keeps_to_its_share_of_the_time(share):
    clock = Clock()
    duty = Duty(share, clock)
    worked = 0.0
    for seconds in (0.5, 0.1, 2.0, 0.3):
        clock.now += duty.rest
        assert duty.rest == 0
        with duty.work():
            clock.now += seconds
        worked += seconds
    assert worked / (clock.now + duty.rest) == pytest.approx(share)


def test_rests_are_not_saved_up():
    clock = Clock()
    duty = Duty(0.5, clock)
    with duty.work():
        clock.now += 1.0
    clock.now += 1000.0
    with duty.work():
        clock.now += 1.0
    assert duty.rest == pytest.approx(1.0)


def test_work_that_fails_is_followed_by_a_rest_too():
    clock = Clock()
    duty = Duty(0.25, clock)
    with pytest.raises(RuntimeError), duty.work():
        clock.now += 1.0
        raise RuntimeError
    assert duty.rest == pytest.approx(3.0)


def asked(segmenter: BudgetedSegmenter, index: int) -> str:
    """Ask for the masks of a view of the wall: the reason for which there are none, "" if there are."""
    frame = Frame(wall.image(index), wall.CAMERA, np.eye(4), float(index), labels=wall.labels(index))
    try:
        assert len(segmenter.segment(frame)) > 0
    except FrameRejected as error:
        return error.reason
    return ""


def test_a_segmenter_rests_between_two_frames():
    ticks = itertools.count()  # so that masks take one second by this clock
    segmenter = BudgetedSegmenter(TopicSegmenter(), Duty(0.2, lambda: float(next(ticks))), max_memory=0)
    assert [asked(segmenter, index) for index in range(5)] == ["", *["segmenter_budget"] * 3, ""]


@pytest.mark.parametrize(("spare", "reason"), [(-1, "memory_budget"), (10_000, "")])
def test_no_masks_beyond_the_memory(spare, reason):
    assert asked(BudgetedSegmenter(TopicSegmenter(), Duty(1.0), process_memory() + spare), 0) == reason


@pytest.fixture
def make_rig():
    rigs = []

    def make(**parameters):
        rigs.append(Rig(**parameters))
        rigs[-1].diagnostics = []
        rigs[-1].node.create_subscription(DiagnosticArray, "/diagnostics", rigs[-1].diagnostics.append, 10)
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


def said(rig: Rig, words: str, level: bytes) -> bool:
    """Whether some diagnostics of the node have had these words and level."""
    return any(words in e.message and e.level == level for message in rig.diagnostics for e in message.status)


def test_a_mapper_at_rest_leaves_frames_out_and_labels_go_on(make_rig):
    rig = make_rig(training_duty=0.01, mapper_queue=1)
    indices = itertools.count()

    def left_out() -> bool:
        rig.send(next(indices))
        return rig.drops.get("mapper_busy", 0) > 3

    rig.wait_until(left_out, "frames that found the mapper at rest")
    assert 1 <= rig.status.keyframes <= 2
    rig.send(last := next(indices))
    rig.wait_until(lambda: rig.received["labels"][-1].header == rig.header(last), "labels while it rests")


def test_training_that_was_skipped_is_told(make_rig):
    rig = make_rig(**{"mapping.max_backlog": 1, "mapping.photometric_steps": 50})
    for index in range(12):
        rig.send(index)
        time.sleep(PERIOD / 2)
    rig.wait_until(lambda: rig.status.skipped_steps > 0, "skipped steps")
    rig.wait_until(lambda: said(rig, "steps of training skipped", DiagnosticStatus.OK), "a word about that")


def evicted_by_diagnostics(rig) -> int | None:
    """The greatest figure so far, None before there is one."""
    values = (v for m in rig.diagnostics for e in m.status for v in e.values if v.key == "evicted keyframes")
    return max((int(value.value) for value in values), default=None)


def test_evicted_keyframes_are_told(make_rig):
    rig = make_rig(**{"mapping.max_keyframes": 10, "mapping.photometric_steps": 1})
    indices = itertools.count()

    def evicted() -> int:
        rig.send(next(indices))
        time.sleep(PERIOD)
        return rig.status.evicted_keyframes

    rig.wait_until(evicted, "an evicted keyframe")
    assert rig.status.keyframes == 10
    rig.wait_until(lambda: evicted_by_diagnostics(rig) == rig.status.evicted_keyframes, "diagnostics with that figure")


def test_new_ground_that_finds_no_room_is_told(make_rig):
    rig = make_rig(**{"scene.max_gaussians": 1000, "mapping.photometric_steps": 1})
    indices = itertools.count()

    def told() -> bool:
        rig.send(next(indices))
        time.sleep(PERIOD)
        return said(rig, "new ground is hardly mapped", DiagnosticStatus.WARN)

    rig.wait_until(told, "a warning that the scene is full")


def test_a_node_without_time_for_masks_takes_later_keyframes(make_rig):
    rig = make_rig(segmenter_duty=0.05, **{"masks.segmenter": "graph"})
    indices = itertools.count()

    def refused_and_taken() -> bool:
        rig.send(next(indices))
        return rig.drops.get("segmenter_budget", 0) > 0 and rig.status.keyframes > 1

    rig.wait_until(refused_and_taken, "keyframes before and after others were refused")
    rig.wait_until(lambda: said(rig, "segmenter_duty is spent", DiagnosticStatus.OK), "a word about that")


def test_the_wait_for_the_masks_of_another_node_is_no_work_of_this_one(make_rig):
    rig = make_rig(segmenter_duty=0.01)
    indices = itertools.count()

    def taken() -> bool:
        rig.send(next(indices))
        time.sleep(PERIOD)
        return rig.status.keyframes > 3

    rig.wait_until(taken, "keyframes one after the other")
    assert "segmenter_budget" not in rig.drops


def test_masks_wait_as_long_as_their_frames_may(make_rig):
    rig = make_rig(frame_queue=24, pose_timeout=10.0, mapper_queue=24)
    for index in range(24):
        rig.send(index, pose=None)
        time.sleep(0.02)
    rig.wait_until(lambda: rig.status.frame_queue >= 23, "images that wait for their poses")
    rig.tf.publish(TFMessage(transforms=[transform(rig.header(i), wall.position(i)) for i in range(24)]))
    rig.wait_until(lambda: rig.status.keyframes or "masks_missing" in rig.drops, "the first keyframe")
    assert "masks_missing" not in rig.drops


def test_a_node_that_has_outgrown_its_memory_takes_no_keyframes_and_warns(make_rig):
    rig = make_rig(max_memory=1)
    rig.send(0)
    rig.wait_for_drop("memory_budget")
    rig.wait_until(lambda: rig.received["labels"], "labels all the same")
    rig.wait_until(lambda: said(rig, "max_memory", DiagnosticStatus.WARN), "a warning")
    assert rig.status.keyframes == 0 and rig.status.memory > 1
