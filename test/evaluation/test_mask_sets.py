"""Masks of single views by hand, and against scikit-learn and scikit-image where they know the measure."""

import numpy as np
import pytest
from sklearn import metrics

from lift_ros.evaluation.mask_sets import Overlaps, hierarchical_iou, mask_set_quality, mean_mask_set_quality
from lift_ros.evaluation.metrics import Contingency


def row(*runs: tuple[int, int]) -> np.ndarray:
    """A one-row label image from (label, number of pixels) runs."""
    return np.concatenate([np.full(n, label, np.int64) for label, n in runs])[None]


@pytest.fixture
def view() -> Contingency:
    """Object 1 (10 px): label 5 on 8 of them; object 2 (30 px): 5 on 2, 6 on 20; label 7 lies on the background."""
    truth = row((1, 10), (2, 30), (0, 60))
    return Contingency.of([row((5, 8), (9, 2), (5, 2), (6, 20), (9, 8), (7, 5), (9, 55))], [truth])


def test_figures_by_hand(view):
    quality = mask_set_quality(Overlaps.of_labels(view, background=9))
    # IoU: object 1 with 5: 8 / 12; object 2 with 6: 20 / 30
    assert quality.iou == pytest.approx((10 * 8 / 12 + 30 * 20 / 30) / 40)
    # dice: 5 with 1: 16 / 20, 6 with 2: 40 / 50, 7: 0
    assert quality.best_dice == pytest.approx((0.8 + 0.8 + 0) / 3)
    assert quality.symmetric_best_dice == pytest.approx((0.8 + 0.8 + 0) / 3)


def test_the_symmetric_figure_takes_the_worse_direction():
    # one label on one of two objects: all that is predicted is right, half of what is true is missing
    quality = mask_set_quality(Overlaps.of_labels(Contingency.of([row((5, 4), (0, 9))], [row((1, 4), (2, 4), (0, 5))])))
    assert (quality.best_dice, quality.symmetric_best_dice, quality.iou) == (1.0, 0.5, 0.5)


def test_background_counts_only_if_it_is_told_to_be_an_object(view):
    with_background = mask_set_quality(Overlaps.of_labels(view))
    assert with_background.best_dice == pytest.approx((0.8 + 0.8 + 0 + 2 * 8 / (65 + 30)) / 4)


def test_overlaps_are_those_of_the_masks_one_by_one():
    labels, truth = row((1, 6), (2, 3), (0, 3)), row((1, 4), (2, 4), (3, 4))
    overlaps = Overlaps.of_labels(Contingency.of([labels], [truth]))
    assert overlaps.both.tolist() == [[((labels == p) & (truth == g)).sum() for g in (1, 2, 3)] for p in (1, 2)]
    assert (overlaps.predicted.tolist(), overlaps.truth.tolist()) == ([6, 3], [4, 4, 4])


def test_best_dice_against_a_literal_version():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (12, 12))
    predicted = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, 6, truth.shape), truth)
    overlaps = Overlaps.of_labels(Contingency.of([predicted], [truth]))
    dice = [
        max(metrics.f1_score((truth == g).ravel(), (predicted == p).ravel()) for g in (1, 2, 3)) for p in range(1, 6)
    ]
    assert mask_set_quality(overlaps).best_dice == pytest.approx(np.mean(dice))
    iou = [
        max(metrics.jaccard_score((truth == g).ravel(), (predicted == p).ravel()) for p in range(1, 6))
        for g in (1, 2, 3)
    ]
    areas = [(truth == g).sum() for g in (1, 2, 3)]
    assert mask_set_quality(overlaps).iou == pytest.approx(np.average(iou, weights=areas))


def test_mean_over_the_views_that_show_an_object(view):
    empty = Contingency.of([row((5, 3), (9, 7))], [row((0, 10))])
    assert mean_mask_set_quality([view, empty], 9) == mask_set_quality(Overlaps.of_labels(view, 9))
    blind = Contingency.of([row((0, 10))], [row((1, 10))])
    assert mean_mask_set_quality([view, blind], 9).iou == pytest.approx((2 / 3) / 2)
    assert mean_mask_set_quality([], 0).best_dice == 0.0


def test_hierarchical_iou_by_hand():
    scores = np.array([[0.9, 0.8, 0.8, 0.5, 0.2]])
    part = np.array([[1, 1, 0, 0, 0]], bool)
    whole = np.array([[1, 1, 1, 0, 1]], bool)
    iou = hierarchical_iou(scores, part, whole)
    # part: > 0.8 gives 1 / 2, > 0.5 gives 2 / 3 (the two 0.8 come together); whole: > 0.5: 3 / 4, all: 4 / 5
    assert (iou.part, iou.whole, iou.mean) == pytest.approx((2 / 3, 4 / 5, (2 / 3 + 4 / 5) / 2))


def test_what_was_selected_is_not_widened_to_fit():
    """By a threshold that takes all pixels, whether some were selected, none or all."""
    part, whole = row((1, 3), (0, 7)) > 0, row((1, 6), (0, 4)) > 0
    for pixels, expected in ((0, (0, 0)), (2, (2 / 3, 2 / 6)), (4, (3 / 4, 4 / 6)), (10, (3 / 10, 6 / 10))):
        iou = hierarchical_iou(row((1, pixels), (0, 10 - pixels)) > 0, part, whole)
        assert (iou.part, iou.whole) == pytest.approx(expected)
    missed = hierarchical_iou(row((0, 9), (1, 1)) > 0, part, whole)
    assert (missed.part, missed.whole, missed.mean) == (0, 0, 0)


def test_hierarchical_iou_against_every_threshold():
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 12, (9, 11)) / 12
    whole = rng.random(scores.shape) < 0.6
    part = whole & (rng.random(scores.shape) < 0.5)
    for mask, found in zip((part, whole), vars(hierarchical_iou(scores, part, whole)).values(), strict=True):
        expected = max(((scores > t) & mask).sum() / ((scores > t) | mask).sum() for t in np.arange(-1, 13) / 12)
        assert found == pytest.approx(expected)


def test_hierarchical_iou_refuses_masks_that_are_no_hierarchy():
    scores, whole = np.zeros((1, 4)), np.array([[1, 1, 0, 0]], bool)
    for part in (~whole, np.zeros((1, 4), bool)):
        with pytest.raises(ValueError, match="within the whole"):
            hierarchical_iou(scores, part, whole)
    with pytest.raises(ValueError, match=r"\(1, 4\).*\(1, 3\)"):
        hierarchical_iou(scores, whole[:, :3], whole)
