"""Clicks on a mapped room whose objects have parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.errors import ConfigError
from lift_ros.evaluation.hierarchy import CLICKS, click_ious
from lift_ros.evaluation.images import mask_iou
from lift_ros.evaluation.masks import PARTS, TRUTH, check_masks, make_masks
from lift_ros.mapping.mapper import Mapper
from lift_ros.options import with_values
from lift_ros.resampling import most_frequent

QUICK = {"mapping.image_width": 160, "mapping.photometric_steps": 4, "mapping.lifting_steps": 60}


@pytest.fixture(scope="module")
def capture(demo_room):
    with open_capture(demo_room.capture) as capture:
        yield capture


def mapped(capture, method: str, masks: str) -> Mapper:
    config = with_values(Config(), QUICK | {"lifting.method": method})
    mapper = Mapper(config, make_masks(masks, capture, config, 0))
    for frame in list(capture.frames)[:5]:
        mapper.process(frame)
        while mapper.step():
            pass
    mapper.update_objects()
    return mapper


def clicks(mapper: Mapper, capture) -> np.ndarray:
    """(C, 2) IoU of part and whole of the clicks on the first frame."""
    frame = next(iter(capture.frames))
    parts, wholes = (capture.recorded_labels(name, frame) for name in (PARTS, TRUTH))
    return np.array([(click.part, click.whole) for click in click_ious(mapper, frame, parts, wholes, 0)])


def test_parts_lie_within_their_objects(capture):
    for frame in capture.frames:
        parts, wholes = (capture.recorded_labels(name, frame) for name in (PARTS, TRUTH))
        assert ((parts > 0) == (wholes > 0)).all()
        for part in np.unique(parts[parts > 0]):
            assert len(np.unique(wholes[parts == part])) == 1


def test_nested_masks_hold_wholes_and_parts(capture):
    frame = next(iter(capture.frames))
    masks = make_masks("nested", capture, Config(), 0).segment(frame)
    over = masks.masks.sum(0)
    assert (over >= 2).mean() > 0.9 and len(masks) > len(np.unique(capture.recorded_labels(TRUTH, frame))) + 2
    again = make_masks("nested", capture, Config(), 0).segment(frame)
    assert np.array_equal(again.masks, masks.masks)


def test_nested_masks_need_parts(capture, monkeypatch):
    monkeypatch.setattr(capture, "recorded_names", ("instances",))
    with pytest.raises(ConfigError, match="need true parts, recorded as 'parts'"):
        check_masks("nested", capture)


def test_a_method_without_hierarchy_selects_what_its_masks_are(capture):
    by_wholes = clicks(mapped(capture, "lift", "L0"), capture)
    assert 2 <= len(by_wholes) <= CLICKS
    assert by_wholes[:, 1].mean() > 0.8 > by_wholes[:, 0].mean()


def test_clicks_on_the_default_method_select_parts_and_wholes(capture):
    mapper = mapped(capture, "lift", "nested")
    found = clicks(mapper, capture)
    assert found[:, 0].mean() > 0.8 and found[:, 1].mean() > 0.8
    mapper._method._part = mapper._method._part.roll(len(mapper._method._part) // 2)
    assert clicks(mapper, capture).mean() < found.mean() - 0.3


def test_the_object_there_is_what_others_answer(capture):
    mapper = mapped(capture, "disco", "nested")
    assert not mapper.answers_clicks
    assert clicks(mapper, capture).max() > 0.3
    ids = mapper.snapshot.ids
    mapper.snapshot = replace(mapper.snapshot, ids=torch.ones_like(ids))  # one object: its pixels are all that is drawn
    frame = next(iter(capture.frames)).at_width(mapper.config.mapping.image_width)
    everything = mapper.snapshot.labels_of(frame, frame.camera.width)[0] == 1
    wholes = most_frequent(capture.recorded_labels(TRUTH, next(iter(capture.frames))), *everything.shape)
    possible = [mask_iou(everything, wholes == i) for i in np.unique(wholes[wholes > 0])]
    assert all(whole in possible for whole in clicks(mapper, capture)[:, 1])
    mapper.snapshot = replace(mapper.snapshot, ids=torch.zeros_like(ids))
    assert not clicks(mapper, capture).any()  # nothing is selected, and so no share of the image


@pytest.mark.parametrize("method", ["lift", "omniseg3d"])
def test_a_click_on_what_the_map_does_not_show_selects_nothing(capture, method):
    mapper = mapped(capture, method, "nested")
    assert clicks(mapper, capture).all()
    with torch.no_grad():
        mapper._scene.means.add_(1000.0)
    assert not clicks(mapper, capture).any()


def test_embeddings_select_parts_and_wholes_and_need_to_be_trained(capture):
    trained = mapped(capture, "omniseg3d", "nested")
    found = clicks(trained, capture)
    assert found.mean() > 0.6
    with torch.no_grad():
        features = trained._method.embeddings.value
        features.copy_(features[torch.randperm(len(features), generator=torch.Generator().manual_seed(0))])
    assert clicks(trained, capture).mean() < found.mean() - 0.15
