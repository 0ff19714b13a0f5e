"""Evidence of one view against the dense matrix it stands for, and through edits of the scene."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lifting.tiles import Tiles, tiles

from lift_ros.evidence.mask_evidence import MIN_WEIGHT, MaskEvidence
from lift_ros.render import BlendWeights


@pytest.fixture(scope="module")
def world() -> Tiles:
    return tiles(views=1)


@pytest.fixture(scope="module")
def labels(world) -> np.ndarray:
    """(H, W) masks with numbers that are not consecutive."""
    return 3 * world.masks(world.cameras[0], np.random.default_rng(0))


@pytest.fixture(scope="module")
def weights(world) -> BlendWeights:
    return world.weights(world.cameras[0])


@pytest.fixture(scope="module")
def evidence(weights, labels) -> MaskEvidence:
    return MaskEvidence.of(weights, labels)


def dense(evidence: MaskEvidence, count: int) -> np.ndarray:
    """(M, N)."""
    table = np.zeros((len(evidence.area), count))
    np.add.at(table, (evidence.mask, evidence.gaussian), evidence.weight)
    return table


def dense_weights(weights: BlendWeights) -> np.ndarray:
    """(P, N)."""
    pixel = torch.repeat_interleave(weights.crow.diff())
    return torch.zeros(weights.shape).index_put_((pixel, weights.col), weights.val, accumulate=True).numpy()


def test_evidence_is_the_summed_weight_over_each_mask(evidence, weights, labels):
    W, flat = dense_weights(weights), labels.reshape(-1)
    masks = [m for m in np.unique(flat) if m > 0]
    expected = np.stack([W[flat == m].sum(0) for m in masks])
    expected[expected <= MIN_WEIGHT] = 0
    assert np.allclose(dense(evidence, W.shape[1]), expected, atol=2e-3)
    assert evidence.area.tolist() == [(flat == m).sum() for m in masks]
    assert (np.diff(evidence.mask) >= 0).all()


def test_finer_masks_share_a_pixel(weights, labels):
    """Of four times the pixels each counts a fourth."""
    W = dense_weights(weights)
    fine = labels.repeat(2, 0).repeat(2, 1)
    fine[::2, ::2] = np.random.default_rng(1).choice(np.unique(labels), fine[::2, ::2].shape)
    evidence = MaskEvidence.of(weights, fine)
    quarters = fine.reshape(labels.shape[0], 2, labels.shape[1], 2).transpose(0, 2, 1, 3).reshape(labels.size, 4)
    masks = [m for m in np.unique(fine) if m > 0]
    expected = np.stack([((quarters == m).mean(1)[:, None] * W).sum(0) for m in masks])
    expected[expected <= MIN_WEIGHT] = 0
    assert np.allclose(dense(evidence, W.shape[1]), expected, atol=2e-2)
    assert np.allclose(evidence.area, [(fine == m).sum() / 4 for m in masks])


def test_masks_of_another_shape_are_refused(weights, labels):
    for shape in (labels[:-1], labels[:, :-1], labels.reshape(1, -1)):
        with pytest.raises(ValueError, match="no multiple"):
            MaskEvidence.of(weights, shape[:-1])


def test_a_view_that_is_masked_everywhere(weights, labels):
    everywhere = labels + 1
    evidence = MaskEvidence.of(weights, everywhere)
    assert evidence.area.sum() == labels.size
    W = dense_weights(weights)
    first = W[(everywhere == 1).reshape(-1)].sum(0)
    assert np.allclose(dense(evidence, W.shape[1])[0], np.where(first > MIN_WEIGHT, first, 0), atol=2e-3)


def test_a_view_without_masks_is_no_evidence(weights, labels):
    evidence = MaskEvidence.of(weights, np.zeros_like(labels))
    assert len(evidence.area) == len(evidence.weight) == 0


def test_evidence_follows_appends_prunes_and_splits(evidence, world):
    n = len(world.scene)
    before = dense(evidence, n)

    appended = evidence.follow(torch.cat([torch.arange(n), torch.full((4,), -1)]))
    assert np.array_equal(dense(appended, n + 4), np.pad(before, ((0, 0), (0, 4))))

    keep = torch.arange(n) % 3 > 0
    pruned = evidence.follow(keep.nonzero().squeeze(1))
    assert np.array_equal(dense(pruned, int(keep.sum())), before[:, keep.numpy()])

    origin = world.scene.clone().split(torch.arange(n) % 5 == 0)
    split = evidence.follow(origin)
    assert np.array_equal(dense(split, len(origin)), before[:, origin.numpy()])  # each half inherits all
    assert np.array_equal(split.area, evidence.area)


def test_what_is_left_out_was_not_seen(evidence, world):
    n = len(world.scene)
    gone = np.arange(n) % 3 == 0
    left = evidence.without(gone)
    assert np.array_equal(dense(left, n), dense(evidence, n) * ~gone)
    assert np.array_equal(left.area, evidence.area)


def test_a_finished_map_counts_each_gaussian_once():
    evidence = MaskEvidence.of_objects(np.array([0, 7, 7, 0, 3, 7]))
    assert np.array_equal(dense(evidence, 6), [[0, 0, 0, 0, 1, 0], [0, 1, 1, 0, 0, 1]])
    assert evidence.area.tolist() == [1, 3]
    assert evidence.mask.tolist() == [0, 1, 1, 1]  # sorted, as counting needs it
    assert len(MaskEvidence.of_objects(np.zeros(4, np.int64)).area) == 0


@pytest.mark.parametrize("mask", [[1, 0], [0, 2], [-1, 0]])
def test_evidence_that_is_not_in_order_is_refused(mask):
    two = np.array([0, 1], np.int32), np.ones(2, np.float32), np.ones(2, np.float32)
    with pytest.raises(ValueError, match="sorted by mask, from 0 to 1"):
        MaskEvidence(np.array(mask, np.int32), *two)


def test_what_the_largest_masks_say_follows_as_well():
    evidence, largest = (MaskEvidence.of_objects(np.array(ids)) for ids in ([1, 1, 2, 3], [1, 1, 2, 2]))
    evidence.wholes = largest
    gone = np.array([False, True, False, False])
    assert evidence.without(gone).wholes.gaussian.tolist() == largest.without(gone).gaussian.tolist() == [0, 2, 3]
    origin = torch.tensor([3, 1, 0])
    assert evidence.follow(origin).wholes.gaussian.tolist() == largest.follow(origin).gaussian.tolist()
    assert MaskEvidence.of_objects(np.array([1])).follow(torch.tensor([0])).wholes is None
