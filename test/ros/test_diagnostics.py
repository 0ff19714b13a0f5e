"""Diagnostics made of statuses."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from lift_ros.msg import Status
from lift_ros.ros import diagnostics as module
from lift_ros.ros.diagnostics import Health


def report(health, error="", scene_full=False, at_work=None, why_silent=str, warnings=(), **fields):
    drops = fields.pop("drops", {})
    fields = {"state": Status.MAPPING, "segmenter": "topic", **fields}
    status = Status(drop_reasons=list(drops), drop_counts=list(drops.values()), **fields)
    return health.diagnostics(status, error, scene_full, at_work, why_silent, warnings).status[0]


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


@pytest.mark.parametrize(
    "reason", ["depth_between", "mapper_busy", "not_labelled", "not_segmented", "segmenter_budget", "depth_unusable"]
)
def test_a_slow_computer_and_open_space_are_no_fault(reason):
    health = Health("lift_ros")
    entry = report(health, frames=1, drops={reason: 9})
    assert entry.level == DiagnosticStatus.OK and entry.message.startswith("mapping")
    entry = report(health, frames=2, drops={reason: 12, "pose_missing": 1})
    assert entry.level == DiagnosticStatus.WARN and "1 pose_missing" in entry.message


@pytest.mark.parametrize(("seconds", "level"), [(4.9, DiagnosticStatus.OK), (5.1, DiagnosticStatus.WARN)])
def test_silence_of_more_than_five_seconds_is_a_warning(monkeypatch, seconds, level):
    now = module.time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    health = Health("lift_ros")
    now += 100.0
    report(health, frames=1)
    now += seconds
    entry = report(health, frames=1)
    assert entry.level == level and ("no usable frame for 5 s" in entry.message) == (level == DiagnosticStatus.WARN)
    assert report(health, frames=2).level == DiagnosticStatus.OK


def test_why_nothing_comes_is_told_where_it_is_known(monkeypatch):
    now = module.time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    health, reason = Health("lift_ros"), "nobody publishes /image"
    assert report(health, frames=1, why_silent=lambda: reason).message == "mapping"
    now += 7.0
    assert report(health, frames=1, why_silent=lambda: reason).message == f"mapping; no usable frame for 7 s: {reason}"
    assert report(health, frames=1, why_silent=lambda: "").message == "mapping; no usable frame for 7 s"


def test_a_thread_that_hangs_is_a_warning_that_names_it():
    health = Health("lift_ros")
    assert report(health, frames=1, at_work={"mapper": 9.9, "labels": 0.0}).level == DiagnosticStatus.OK
    for at_work in ({"mapper": 1.0, "labels": 12.0}, {"labels": 12.0, "mapper": 11.0}):
        entry = report(health, frames=1, at_work=at_work)
        assert entry.level == DiagnosticStatus.WARN
        assert "thread 'labels'" in entry.message and "12 s" in entry.message
    assert "thread 'mapper'" in report(health, frames=1, at_work={"labels": 0.0, "mapper": 10.1}).message
    entry = report(health, state=Status.PAUSED, frames=1, at_work={"mapper": 30.0})
    assert entry.level == DiagnosticStatus.WARN and entry.message.startswith("paused; the thread 'mapper'")
    entry = report(health, state=Status.INACTIVE, frames=1, at_work={"mapper": 30.0})
    assert entry.level == DiagnosticStatus.OK and entry.message == "inactive"


@pytest.mark.parametrize(
    ("trouble", "level", "message"),
    [
        ({}, DiagnosticStatus.OK, "paused"),
        ({"drops": {"mapper_busy": 9}}, DiagnosticStatus.OK, "paused; dropped 9 mapper_busy"),
        ({"drops": {"pose_missing": 2}}, DiagnosticStatus.WARN, "paused; dropped 2 pose_missing"),
        ({"memory": 200}, DiagnosticStatus.WARN, "paused; 200 MiB exceed"),
        ({"scene_full": True}, DiagnosticStatus.WARN, "paused; the scene holds"),
        ({"error": "RuntimeError: boom"}, DiagnosticStatus.ERROR, "paused; RuntimeError: boom"),
    ],
)
def test_pause_hides_no_trouble(trouble, level, message):
    entry = report(Health("lift_ros", max_memory=100), state=Status.PAUSED, frames=1, **trouble)
    assert entry.level == level and entry.message.startswith(message)


def test_silence_is_a_warning_while_paused_and_before_the_first_frame(monkeypatch):
    health, now = Health("lift_ros"), module.time.monotonic()
    for state, doing in ((Status.WAITING, "waiting for the first frame"), (Status.PAUSED, "paused")):
        monkeypatch.setattr(module.time, "monotonic", lambda: now + 10)
        entry = report(health, state=state)
        assert entry.level == DiagnosticStatus.WARN and entry.message == f"{doing}; no usable frame for 10 s"


def test_a_node_that_is_not_active_misses_nothing(monkeypatch):
    health = Health("lift_ros")
    now = module.time.monotonic()
    waiting = "waiting for the first frame"
    for seconds, state, message in ((60, Status.INACTIVE, "inactive"), (62, Status.WAITING, waiting)):
        monkeypatch.setattr(module.time, "monotonic", lambda seconds=seconds: now + seconds)
        entry = health.diagnostics(Status(state=state), "").status[0]
        assert entry.level == DiagnosticStatus.OK and entry.message == message


def test_a_full_scene_is_a_warning():
    health = Health("lift_ros")
    entry = health.diagnostics(Status(state=Status.MAPPING, frames=1), "", scene_full=True).status[0]
    assert entry.level == DiagnosticStatus.WARN and "scene.max_gaussians" in entry.message


def test_an_error_of_the_mapper_is_an_error():
    entry = report(Health("lift_ros"), error="RuntimeError: boom", frames=1)
    assert entry.level == DiagnosticStatus.ERROR and "boom" in entry.message


def test_one_trouble_hides_no_other(monkeypatch):
    """Least of all the reason why there are no frames."""
    health, now = Health("lift_ros", max_memory=100), module.time.monotonic()
    report(health, frames=1, drops={"pose_missing": 3})
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 7)
    trouble = {"scene_full": True, "at_work": {"labels": 12.0, "mapper": 11.0}, "memory": 200, "warnings": ["no disk"]}
    drops = {"internal_error": 1, "mapper_busy": 2, "pose_missing": 8}
    entry = report(health, frames=1, drops=drops, **trouble)
    assert entry.level == DiagnosticStatus.WARN
    assert entry.message.split("; ") == [
        "mapping",
        "no disk",
        "the thread 'labels' has been at one piece of work for 12 s",
        "the thread 'mapper' has been at one piece of work for 11 s",
        "no usable frame for 7 s",
        "200 MiB exceed max_memory of 100 MiB: no more keyframes are taken",
        "the scene holds scene.max_gaussians: new ground is hardly mapped",
        "dropped 1 internal_error, 2 mapper_busy, 5 pose_missing",
    ]
    entry = report(health, "RuntimeError: boom", frames=1, drops=drops, **trouble)
    assert entry.level == DiagnosticStatus.ERROR and "no usable frame" in entry.message and "boom" in entry.message


def test_what_is_wrong_with_a_node_that_is_not_active_is_told():
    entry = report(Health("lift_ros"), state=Status.INACTIVE, warnings=["map not saved: no disk"])
    assert entry.level == DiagnosticStatus.WARN and entry.message == "inactive; map not saved: no disk"


@pytest.mark.parametrize("segmenter", ["graph"])
def test_masks_without_a_model_are_said_so(segmenter):
    status = Status(state=Status.MAPPING, frames=1, segmenter=segmenter)
    assert "without a learned model" in Health("n").diagnostics(status, "").status[0].message
