"""Corruption of true instances: each level adds what it says, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from lift_ros.evaluation.corruption import LEVELS, PCF, Corruption, corrupt_masks


@pytest.fixture
def instances() -> np.ndarray:
    """Twelve discs in a row of pairs that touch, on a background."""
    image = np.zeros((480, 640), np.uint16)
    for index in range(12):
        x, y = 60 + (index % 6) * 100, 130 + (index // 6) * 80
        cv2.circle(image, (x, y), 40, index + 1, -1)
    return image


def test_l0_keeps_shapes_and_shuffles_ids(instances):
    rng = np.random.default_rng(0)
    first, second = (corrupt_masks(instances, LEVELS["L0"], rng) for _ in range(2))
    for masks in (first, second):
        pairs = np.unique(np.stack([masks.ravel(), instances.ravel()]), axis=1)
        assert pairs.shape[1] == 13 and len(set(pairs[0])) == 13 and 0 not in pairs[0]
    assert (first != second).mean() > 0.5


def test_l1_errs_at_borders_only(instances):
    rng = np.random.default_rng(0)
    masks = corrupt_masks(instances, LEVELS["L1"], rng)
    relabelled = np.zeros_like(instances)
    for i in np.unique(masks):
        relabelled[masks == i] = np.bincount(instances[masks == i]).argmax()
    wrong = relabelled != instances
    edges = cv2.morphologyEx(instances.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0
    near = cv2.dilate(edges.astype(np.uint8), np.ones((11, 11), np.uint8)).astype(bool)
    assert 1000 < wrong.sum() < 100 * 81
    assert not (wrong & ~near).any()


def test_noise_as_published_moves_whole_squares(instances):
    stripes = np.tile(np.arange(1, 641, dtype=np.uint16), (40, 1))
    masks = corrupt_masks(stripes, Corruption(anchors=1, window=9, scramble=False), np.random.default_rng(2))
    areas = np.sort(np.unique(masks, return_counts=True)[1])
    assert areas[-1] == 40 + 8 * 9 and (areas[:8] == 40 - 9).all() and (areas[8:-1] == 40).all()

    masks = corrupt_masks(instances, PCF, np.random.default_rng(0))
    of = {int(i): int(np.bincount(instances[masks == i]).argmax()) for i in np.unique(masks)}
    wrong = np.vectorize(of.get)(masks) != instances
    edges = cv2.morphologyEx(instances.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0
    near = cv2.dilate(edges.astype(np.uint8), np.ones((17, 17), np.uint8)).astype(bool)
    assert 50 < wrong.sum() < 100 * 81 and not (wrong & ~near).any()
    # in one piece: most wrong pixels have only wrong or, at the square's rim, right neighbours in a row
    count, _, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8), connectivity=4)
    assert np.median(stats[1:count, cv2.CC_STAT_AREA]) > 8


def test_rates_of_l2():
    """Each instance has one fault or none, of the rates that are stated."""
    # six pairs, an upper and a lower square of 8 px that touch; and six squares that touch none
    truth = np.zeros((36, 72), np.uint16)
    for index in range(6):
        for kind, top in enumerate((0, 8, 24)):
            truth[top : top + 8, 12 * index : 12 * index + 8] = 3 * index + kind + 1
    level = replace(LEVELS["L2"], anchors=0, min_area=0)
    rng, views = np.random.default_rng(0), 1000
    dropped, split, shared, alone, background = 0, 0, 0, 0, 0
    for _ in range(views):
        masks = corrupt_masks(truth, level, rng)
        ids = [set(masks[truth == i].tolist()) for i in range(1, 19)]
        dropped += sum(found == {0} for found in ids)
        split += sum(len(found) > 1 for found in ids)
        shared += sum(bool(upper & lower - {0}) for upper, lower in zip(ids[::3], ids[1::3], strict=True))
        others = [set().union(*ids[:i], *ids[i + 1 :]) for i in range(2, 18, 3)]
        alone += sum(found == {0} or not found & other for found, other in zip(ids[2::3], others, strict=True))
        background += len(np.unique(masks[truth == 0])) > 1
    # standard deviations are 0.003 at most, but for the background's, 0.013
    assert dropped / (18 * views) == pytest.approx(0.1, abs=0.01)
    assert split / (18 * views) == pytest.approx(0.15, abs=0.01)
    # of a pair the upper one is merged and the lower not dropped, or the lower one is merged and the upper has none of
    # both faults
    assert shared / (6 * views) == pytest.approx(0.1 * 0.9 + 0.1 * 0.8, abs=0.015)
    assert alone == 6 * views
    assert background / views == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(
    ("level", "masks_per_view"),
    [(Corruption(split=1.0), (24, 36)), (Corruption(drop=1.0), (0, 0)), (Corruption(background=1.0), (12, 12))],
)
def test_each_fault_alone(instances, level, masks_per_view):
    rng = np.random.default_rng(0)
    for _ in range(5):
        masks = corrupt_masks(instances, level, rng)
        on_objects, elsewhere = np.unique(masks[instances > 0]), np.unique(masks[instances == 0])
        low, high = masks_per_view
        assert low <= (on_objects > 0).sum() <= high
        pieces = level.pieces if level.background else (1, 1)
        assert pieces[0] <= (elsewhere > 0).sum() <= pieces[1]
        assert not set(on_objects) & set(elsewhere)


def test_merged_masks_are_of_neighbours(instances):
    masks = corrupt_masks(instances, Corruption(merge=1.0), np.random.default_rng(0))
    discs = [int(masks[130 + (i // 6) * 80, 60 + (i % 6) * 100]) for i in range(12)]
    # only the two discs of a column touch
    assert all(discs[i] == discs[i + 6] for i in range(6))
    assert len(set(discs)) == 6 and 0 not in discs


@pytest.mark.parametrize("level", [*LEVELS.values(), PCF])
def test_only_the_order_of_the_ids_matters(instances, level):
    """They may be of any size that an int32 has."""
    ids = np.array([0, *(2**31 - 13 + np.arange(12))], np.int32)
    for background in (0, 1):  # with one, and all things instances
        small, large = instances + background, ids[instances] + background * (instances == 0)
        expected = corrupt_masks(small, level, np.random.default_rng(2))
        np.testing.assert_array_equal(corrupt_masks(large, level, np.random.default_rng(2)), expected)


@pytest.mark.parametrize("level", LEVELS)
def test_same_seed_same_masks_and_odd_inputs(instances, level):
    one, other = (corrupt_masks(instances, LEVELS[level], np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert one.dtype == np.uint16
    rng = np.random.default_rng(0)
    assert corrupt_masks(np.zeros((30, 40), np.uint16), LEVELS[level], rng).min() >= 1
    assert corrupt_masks(np.full((30, 40), 9, np.uint16), LEVELS[level], rng).shape == (30, 40)
    assert corrupt_masks(np.full((1, 1), 65535, np.uint16), LEVELS[level], rng).shape == (1, 1)


def test_faults_scale_with_the_image(instances):
    """At half the width a square is half as wide, and a mask may have a quarter of the pixels."""
    stripes = np.tile(np.arange(1, 321, dtype=np.uint16), (40, 1))
    masks = corrupt_masks(stripes, Corruption(anchors=1, window=18, scramble=False), np.random.default_rng(1))
    assert np.unique(masks, return_counts=True)[1].max() == 40 + 8 * 9
    dots = np.zeros((240, 320), np.uint16)
    dots[10, 10:15], dots[20, 10:13] = 1, 2  # 5 and 3 pixels, of 16 / 4 that are asked for
    masks = corrupt_masks(dots, Corruption(min_area=16), np.random.default_rng(0))
    assert (masks[10, 10:15] > 0).all() and not masks[20, 10:13].any()


def test_splits_are_in_two_or_three_and_the_background_in_as_many_pieces_as_may_be(instances):
    rng, splits, pieces = np.random.default_rng(0), set(), set()
    for _ in range(20):
        masks = corrupt_masks(instances, Corruption(split=1.0, background=1.0), rng)
        splits |= {len(np.unique(masks[instances == i])) for i in range(1, 13)}
        pieces.add(len(np.unique(masks[instances == 0])))
    assert splits == {2, 3} and pieces == {2, 3, 4, 5}
