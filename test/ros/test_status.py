"""Diagnostics made of statuses."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from lift_ros.msg import Status
from lift_ros.ros import status as module
from lift_ros.ros.status import Health


def report(health, error="", **fields):
    drops = fields.pop("drops", {})
    status = Status(
        state=Status.MAPPING, drop_reasons=list(drops), drop_counts=list(drops.values()), segmenter="topic", **fields
    )
    return health.diagnostics(status, error).status[0]


def test_all_is_well():
    entry = report(Health("lift_ros"), frames=1)
    assert entry.level == DiagnosticStatus.OK and entry.message == "mapping" and entry.name == "lift_ros: mapping"


def test_new_drops_are_a_warning_once_and_stay_counted():
    health = Health("lift_ros")
    first = report(health, frames=1, drops={"pose_missing": 2})
    again = report(health, frames=2, drops={"pose_missing": 2})
    assert first.level == DiagnosticStatus.WARN and "2 pose_missing" in first.message
    assert again.level == DiagnosticStatus.OK
    assert {v.key: v.value for v in again.values}["dropped: pose_missing"] == "2"


def test_a_slow_computer_is_no_fault():
    assert report(Health("lift_ros"), frames=1, drops={"mapper_busy": 9}).level == DiagnosticStatus.OK


def test_open_space_is_no_fault():
    assert report(Health("lift_ros"), frames=1, drops={"depth_unusable": 9}).level == DiagnosticStatus.OK


def test_silence_is_a_warning(monkeypatch):
    health = Health("lift_ros")
    report(health, frames=1)
    later = module.time.monotonic() + 10
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    assert "no usable frame for 10 s" in report(health, frames=1).message


def test_a_node_that_is_not_active_misses_nothing(monkeypatch):
    health = Health("lift_ros")
    now = module.time.monotonic()
    for seconds, state, message in ((60, Status.INACTIVE, "inactive"), (62, Status.WAITING, "mapping")):
        monkeypatch.setattr(module.time, "monotonic", lambda seconds=seconds: now + seconds)
        entry = health.diagnostics(Status(state=state), "").status[0]
        assert entry.level == DiagnosticStatus.OK and entry.message == message


def test_a_full_scene_is_a_warning():
    health = Health("lift_ros")
    entry = health.diagnostics(Status(state=Status.MAPPING, frames=1), "", full=True).status[0]
    assert entry.level == DiagnosticStatus.WARN and "scene.max_gaussians" in entry.message


def test_an_error_of_the_mapper_is_an_error():
    entry = report(Health("lift_ros"), error="RuntimeError: boom", frames=1)
    assert entry.level == DiagnosticStatus.ERROR and "boom" in entry.message


@pytest.mark.parametrize("segmenter", ["graph"])
def test_masks_without_a_model_are_said_so(segmenter):
    status = Status(state=Status.MAPPING, frames=1, segmenter=segmenter)
    assert "without a learned model" in Health("n").diagnostics(status, "").status[0].message
