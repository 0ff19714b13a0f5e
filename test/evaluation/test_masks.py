"""Where the masks of an evaluation come from."""

from __future__ import annotations

import numpy as np
import pytest

from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.errors import ConfigError
from lift_ros.evaluation.masks import CORRUPTIONS, SparseMasks, check_masks, make_masks
from lift_ros.masks.recorded import CaptureMasks


@pytest.fixture(scope="module")
def capture(demo_room):
    with open_capture(demo_room.capture) as capture:
        yield capture


def labels(segmenter, frame) -> np.ndarray:
    return segmenter.segment(frame).label_image()


def test_l0_is_the_truth_under_other_ids(capture):
    frame = capture.frames[0]
    truth = capture.recorded_labels("instances", frame)
    masks = labels(make_masks("L0", capture, Config(), 0), frame)
    assert len(np.unique(np.stack([masks, truth]).reshape(2, -1), axis=1).T) == len(np.unique(truth))


@pytest.mark.parametrize("level", CORRUPTIONS)
def test_masks_depend_on_seed_and_frame_only(capture, level):
    first, second = capture.frames[0], capture.frames[1]
    one, other = (make_masks(level, capture, Config(), 3) for _ in range(2))
    expected = labels(one, first)
    labels(other, second)  # another frame before must make no difference
    np.testing.assert_array_equal(labels(other, first), expected)
    if level != "L0":
        assert (labels(make_masks(level, capture, Config(), 4), first) != expected).any()


def test_worse_levels_are_further_from_the_truth(capture):
    def wrong(level: str) -> int:
        total = 0
        for frame in capture.frames:
            truth = capture.recorded_labels("instances", frame)
            masks = labels(make_masks(level, capture, Config(), 0), frame)
            best = {int(i): np.bincount(truth[masks == i]).argmax() for i in np.unique(masks)}
            total += int((np.vectorize(best.get)(masks) != truth).sum())
        return total

    l0, l1, l2 = (wrong(level) for level in ("L0", "L1", "L2"))
    assert 0 == l0 < l1 < l2


def test_recorded_masks_are_those_of_the_capture(capture):
    frame = capture.frames[2]
    recorded = make_masks("recorded:L1", capture, Config(), 0)
    np.testing.assert_array_equal(labels(recorded, frame), labels(CaptureMasks(capture, "L1"), frame))


@pytest.mark.parametrize(("share", "expected"), [(1.0, 8), (0.5, 4), (0.3, 3), (0.1, 1), (0.01, 1)])
def test_an_even_share_of_the_frames_has_masks(capture, share, expected):
    masks = SparseMasks(CaptureMasks(capture, "L0"), share)
    had = []
    for frame in capture.frames:
        had.append(len(masks.segment(frame)) > 0)
        masks.next_frame()
    assert sum(had) == masks.used == expected and had[0]
    gaps = np.diff(np.flatnonzero(had))
    assert np.ptp(gaps) <= 1 if len(gaps) else True


def test_the_next_keyframe_has_the_masks_of_frames_that_are_none(capture):
    """Every third frame is a keyframe: a third of the masks is all of theirs."""
    masks = SparseMasks(CaptureMasks(capture, "L0"), 0.3)
    had = []
    for index, frame in enumerate(capture.frames):
        if index % 3 == 0:
            had.append(len(masks.segment(frame)) > 0)
        masks.next_frame()
    assert had == [True, True, True]


def test_frames_without_masks_do_not_use_up_the_share(capture, monkeypatch):
    load = capture._load_labels
    first = {capture.frames[index].name for index in range(3)}
    monkeypatch.setattr(capture, "_load_labels", lambda name, frame: None if frame.name in first else load(name, frame))
    masks = SparseMasks(CaptureMasks(capture, "L0"), 0.25)
    had = []
    for frame in capture.frames:
        had.append(len(masks.segment(frame)) > 0)
        masks.next_frame()
    assert had == [False, False, False, True, True, False, False, False] and masks.used == 2


def test_recorded_masks_that_belong_to_few_frames_or_none(capture, monkeypatch, caplog):
    make_masks("recorded:L0", capture, Config(), 0)
    assert not caplog.messages
    monkeypatch.setattr(capture, "labelled", lambda name: 3)
    make_masks("recorded:L0", capture, Config(), 0)
    assert caplog.messages == ["3 of 8 frames have masks 'L0'"]
    monkeypatch.setattr(capture, "labelled", lambda name: 0)
    with pytest.raises(ConfigError, match=r"none of the 8 frames of capture has .* 'L0'.*masks_L0/0000\.png"):
        check_masks("recorded:L0", capture)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("recorded:L9", "no recorded masks 'L9'; it has: L0, L1, L2, parts, instances"),
        ("crayon", "'crayon' is none of recorded:NAME, L0, L1, L2, PCF, nested, sam_vit_b"),
        ("topic", "'topic' is none of recorded:NAME"),
    ],
)
def test_masks_that_there_are_not(capture, source, message):
    with pytest.raises(ConfigError, match=message):
        check_masks(source, capture)


def test_masks_are_not_made_of_the_few_views_that_are_to_be_judged(capture, monkeypatch):
    monkeypatch.setattr(capture, "labelled", lambda name: len(capture) // 2 - 1)
    with pytest.raises(ConfigError, match="for 3 of its 8 frames only, on which it is to be judged: use recorded:NAME"):
        check_masks("L1", capture)
    check_masks("recorded:L0", capture)


def test_corrupted_masks_need_true_instances(capture, monkeypatch):
    monkeypatch.setattr(capture, "recorded_names", ("L0",))
    monkeypatch.setattr(capture, "problems", ["inst/ is missing: unpack it"])
    with pytest.raises(
        ConfigError,
        match="made from true instances, and capture has none named 'instances'; what it has: L0.*; inst/ is missing",
    ):
        check_masks("L1", capture)
