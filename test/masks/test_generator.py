"""The mask generator against segment_anything's own, on real models with random weights."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from masks.models import (
    frame_of,
    literal_nms,
    needs_segment_anything,
    official_segment_anything,
    random_image,
    small_sam,
)

from lift_ros.masks.base import Prompts
from lift_ros.masks.config import MasksConfig
from lift_ros.masks.generator import (
    POINTS_PER_BATCH,
    STABILITY_OFFSET,
    AutomaticMaskSegmenter,
    box_nms,
    mask_box,
    point_grid,
    prompt_points,
    stability_score,
)


def thresholds_for(model, image: np.ndarray) -> MasksConfig:
    """Thresholds within the range of what this random model gives, so that every filter drops some and keeps some."""
    grid = (point_grid(8) * model.input_size).astype(np.float32)
    logits, iou = model.decode(model.embed(image), grid)
    stability = [stability_score(logit) for logit in logits.reshape(-1, *logits.shape[2:])]
    iou_thresh, stability_thresh = float(np.quantile(iou, 0.3)), float(np.quantile(stability, 0.2))
    return MasksConfig(
        points_per_side=8, pred_iou_thresh=iou_thresh, stability_score_thresh=stability_thresh, box_nms_thresh=0.95
    )


@needs_segment_anything
@pytest.mark.parametrize("size", [(90, 120), (121, 67), (200, 300)])
def test_same_masks_as_the_official_generator(size, monkeypatch):
    from lift_ros.masks.sam import TorchSam

    image = random_image(*size)
    sam = small_sam()
    model = TorchSam(sam, "cpu")
    config = thresholds_for(model, image)
    ours = AutomaticMaskSegmenter(model, config).segment(frame_of(image))

    official = official_segment_anything(monkeypatch)
    records = official.SamAutomaticMaskGenerator(
        sam,
        points_per_side=config.points_per_side,
        pred_iou_thresh=config.pred_iou_thresh,
        stability_score_thresh=config.stability_score_thresh,
        box_nms_thresh=config.box_nms_thresh,
    ).generate(image)

    assert 3 <= len(records) < 8 * 8 * 3 / 2, "the thresholds must let some masks pass and suppress others"
    assert len(ours) == len(records)
    assert ours.prompts_used == 64
    for mask, record in zip(ours.masks, records, strict=True):
        assert np.mean(mask != record["segmentation"]) < 1e-3


@needs_segment_anything
def test_defaults_are_the_official_ones_but_for_the_grid(monkeypatch):
    official = official_segment_anything(monkeypatch).SamAutomaticMaskGenerator
    parameters = inspect.signature(official).parameters
    for name in ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh"):
        assert getattr(MasksConfig(), name) == parameters[name].default, name
    assert parameters["points_per_batch"].default == POINTS_PER_BATCH
    assert parameters["stability_score_offset"].default == STABILITY_OFFSET


@needs_segment_anything
def test_building_blocks_equal_the_official_ones():
    from lift_ros.masks.sam import segment_anything

    amg = segment_anything("utils.amg")
    np.testing.assert_allclose(point_grid(7), amg.build_point_grid(7))
    logits = np.random.default_rng(0).normal(0, 2, (5, 40, 30)).astype(np.float32)
    expected = amg.calculate_stability_score(torch.from_numpy(logits), 0.0, 1.0)
    np.testing.assert_allclose([stability_score(logit) for logit in logits], expected, rtol=1e-6)
    masks = logits > 3
    np.testing.assert_array_equal([mask_box(m) for m in masks], amg.batched_mask_to_box(torch.from_numpy(masks)))


def test_stability_of_an_empty_mask_is_zero():
    assert stability_score(np.full((4, 4), -5.0, np.float32)) == 0.0


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_nms_keeps_what_its_definition_keeps(threshold):
    rng = np.random.default_rng(1)
    corner = rng.integers(0, 30, (200, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 20, (200, 2))], 1)  # some are one pixel wide
    scores = rng.integers(0, 50, 200) / 50  # with ties
    expected = literal_nms(torch.from_numpy(boxes), torch.from_numpy(scores), None, threshold)
    np.testing.assert_array_equal(box_nms(boxes, scores, threshold), expected)
    assert len(expected) < 200


def test_prompt_points_are_object_points_and_the_unexplained_grid():
    explained = np.zeros((40, 80), bool)
    explained[:, :40] = True
    points = prompt_points(8, 40, 80, Prompts(np.array([[10.5, 20.5]], np.float32), explained))
    np.testing.assert_array_equal(points[0], (10.5, 20.5))
    assert len(points) == 1 + 32
    assert (points[1:, 0] > 40).all()
    assert len(prompt_points(8, 40, 80, None)) == 64
    assert len(prompt_points(8, 40, 80, Prompts(np.zeros((3, 2), np.float32)))) == 67


def test_explained_of_another_size_is_refused():
    with pytest.raises(ValueError, match="explained"):
        prompt_points(8, 40, 80, Prompts(np.zeros((0, 2), np.float32), np.zeros((20, 40), bool)))


@needs_segment_anything
def test_prompts_fall_with_what_is_explained_and_masks_stay():
    from lift_ros.masks.sam import TorchSam

    image = random_image(90, 120)
    model = TorchSam(small_sam(), "cpu")
    segmenter = AutomaticMaskSegmenter(model, thresholds_for(model, image))
    full = segmenter.segment(frame_of(image))
    used = []
    for share in (0.0, 0.5, 1.0):
        explained = np.zeros((90, 120), bool)
        explained[:, : int(120 * share)] = True
        masks = segmenter.segment(frame_of(image), Prompts(np.array([[30.0, 45.0]], np.float32), explained))
        used.append(masks.prompts_used)
    assert used == [65, 33, 1]
    assert full.prompts_used == 64

    # The grid's own points, given as those of objects, bring back its masks.
    point = (point_grid(8) * (120, 90)).astype(np.float32)
    everything = Prompts(point, np.ones((90, 120), bool))
    again = segmenter.segment(frame_of(image), everything)
    np.testing.assert_array_equal(again.masks, full.masks)


@needs_segment_anything
def test_nothing_to_prompt_gives_no_masks():
    from lift_ros.masks.sam import TorchSam

    segmenter = AutomaticMaskSegmenter(TorchSam(small_sam(), "cpu"), MasksConfig())
    masks = segmenter.segment(
        frame_of(random_image(30, 40)), Prompts(np.zeros((0, 2), np.float32), np.ones((30, 40), bool))
    )
    assert masks.masks.shape == (0, 30, 40)
    assert masks.prompts_used == 0


@needs_segment_anything
def test_black_image_with_nothing_good_enough_gives_no_masks():
    from lift_ros.masks.sam import TorchSam

    config = MasksConfig(points_per_side=4, pred_iou_thresh=1e9)
    masks = AutomaticMaskSegmenter(TorchSam(small_sam(), "cpu"), config).segment(
        frame_of(np.zeros((48, 64, 3), np.uint8))
    )
    assert masks.masks.shape == (0, 48, 64)
    assert masks.prompts_used == 16
    assert (masks.label_image() == 0).all()


class Corner:
    """A model that finds the upper left quarter at any point in it, and elsewhere nothing at all."""

    input_size = 64

    def embed(self, image: np.ndarray) -> None:
        return None

    def decode(self, embedding: None, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = np.full((len(points), 1, 16, 16), -5.0, np.float32)
        logits[(points < 32).all(1), :, :8, :8] = 5.0
        return logits, np.ones((len(points), 1), np.float32)


def test_a_point_at_which_nothing_is_found_gives_no_mask_whatever_the_thresholds():
    config = MasksConfig(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    masks = AutomaticMaskSegmenter(Corner(), config).segment(frame_of(np.zeros((64, 64, 3), np.uint8)))
    assert len(masks) == 1 and masks.masks[0, :30, :30].all() and not masks.masks[0, 34:].any()
    assert masks.prompts_used == 16
