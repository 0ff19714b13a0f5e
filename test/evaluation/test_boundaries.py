"""Contours over all views and named objects, by hand and against boundary IoU as it is defined, of two masks."""

import numpy as np
import pytest
from scipy import ndimage

from lift_ros.evaluation.boundaries import (
    DILATION_RATIO,
    inner_bands,
    mean_boundary_iou,
    named_quality,
    pair_iou,
)
from lift_ros.evaluation.metrics import Contingency, matched_objects


def squares(*corners: tuple[int, int, int]) -> np.ndarray:
    """(40, 40) labels with squares of 10 px: (label, row, column)."""
    labels = np.zeros((40, 40), np.int64)
    for label, row, column in corners:
        labels[row : row + 10, column : column + 10] = label
    return labels


def row(*runs: tuple[int, int]) -> np.ndarray:
    """A one-row label image from (label, number of pixels) runs."""
    return np.concatenate([np.full(n, label, np.int64) for label, n in runs])[None]


def table(predicted: np.ndarray, truth: np.ndarray) -> Contingency:
    return Contingency.of([predicted], [truth])


def boundary_iou(one: np.ndarray, other: np.ndarray, ratio: float = DILATION_RATIO) -> float:
    """Cheng et al. 2021: (G_d & G) & (P_d & P) over their union, where G_d & G are the pixels of G within d of its
    contour: as published, those that d erosions by a 3x3 square take, where there is nothing beyond the image."""

    def band(mask: np.ndarray) -> np.ndarray:
        d = max(1, round(ratio * np.sqrt(mask.shape[0] ** 2 + mask.shape[1] ** 2)))
        return mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=d, border_value=0)

    first, second = band(one), band(other)
    return (first & second).sum() / (first | second).sum()


def blobs(seed: int, shape: tuple[int, int] = (60, 75)) -> np.ndarray:
    """A mask of several parts, with holes, that touches the image's border."""
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 4) > 0


@pytest.mark.parametrize("ratio", [0.0, 0.02, 0.05, 1.0])
def test_bands_against_their_definition(ratio):
    a, b = blobs(0), blobs(0) ^ (blobs(1) & blobs(2))
    for one, other in ((a, b), (a, np.roll(a, 2, 1)), (b, ~a)):
        bands = table(inner_bands(one, ratio), inner_bands(other, ratio))
        assert pair_iou(bands, 1, 1) == pytest.approx(boundary_iou(one, other, ratio))


def test_bands_by_hand():
    labels = squares((70000, 0, 0), (3, 20, 20))
    labels[0:10, 10:20] = 5  # touches 70000
    bands = inner_bands(labels, dilation_ratio=0.0)
    assert [int((bands == i).sum()) for i in (70000, 5, 3)] == [36, 36, 36]  # one pixel wide all around
    assert bands.sum() == 36 * (70000 + 5 + 3)
    assert int((inner_bands(labels, dilation_ratio=0.035) == 3).sum()) == 64  # two pixels wide


def test_all_pairs_at_once_agree_with_single_masks():
    rng = np.random.default_rng(0)
    truth = squares((1, 2, 3), (2, 12, 3), (3, 20, 22))
    predicted = np.roll(truth, (1, 2), (0, 1)) + 4
    predicted[rng.random(truth.shape) < 0.05] = 9
    bands = table(inner_bands(predicted), inner_bands(truth))
    for p in (4, 5, 6, 7, 9):
        for g in (1, 2, 3):
            expected = boundary_iou(predicted == p, truth == g)
            assert pair_iou(bands, p, g) == pytest.approx(expected), (p, g)


def test_mean_boundary_iou_by_hand():
    # object 1: shifted by one pixel, one-pixel bands: 18 / 54; object 2: exact; object 3: not found, does not count
    truth = squares((1, 0, 10), (2, 20, 0), (3, 20, 25))
    predicted = squares((7, 0, 11), (8, 20, 0))
    matched = matched_objects(table(predicted, truth))
    assert matched == {1: 7, 2: 8}
    bands = table(inner_bands(predicted, 0.0), inner_bands(truth, 0.0))
    assert mean_boundary_iou(bands, matched) == pytest.approx((18 / 54 + 1) / 2)
    assert mean_boundary_iou(bands, {}) == 0.0


def test_bands_of_all_views_are_one_mask():
    truth, predicted = [squares((1, 0, 10)), squares((1, 0, 10))], [squares((7, 0, 10)), squares((7, 0, 11))]
    bands = Contingency.of([inner_bands(p, 0.0) for p in predicted], [inner_bands(t, 0.0) for t in truth])
    assert mean_boundary_iou(bands, {1: 7}) == pytest.approx((36 + 18) / (36 + 54))


def test_named_objects_by_hand():
    # view 1: object 1 is 8 of 10 px of label 5; object 2 is exact; object 3 has a label that covers all else, too
    # view 2: object 1 is exact, 2 is unlabelled, 3 not to be seen
    views = [
        table(row((5, 8), (9, 2), (6, 4), (9, 9), (4, 1), (9, 76)), row((1, 10), (2, 4), (3, 10), (0, 76))),
        table(row((5, 10), (0, 4), (9, 86)), row((1, 10), (2, 4), (0, 86))),
    ]
    bands = [
        table(row((5, 3), (0, 1), (6, 2)), row((1, 4), (2, 2))),
        table(row((5, 4), (0, 2)), row((1, 4), (2, 2))),
    ]
    quality = named_quality(views, bands)
    # over all views label 5 covers 18 of the 20 px of object 1; of 3 label 4 covers 1/10, and label 9 shares 9 px with
    # it, of 88 in either: empty
    assert quality.miou == pytest.approx(((0.8 + 1) / 2 + (1 + 0) / 2 + 0) / 3)
    assert quality.mbiou == pytest.approx(((0.75 + 1) / 2 + (1 + 0) / 2 + 0) / 3)


def test_the_largest_segment_may_be_a_named_object():
    labels, truth = row((5, 60), (6, 30), (0, 10)), row((1, 60), (2, 30), (0, 10))
    quality = named_quality([table(labels, truth)], [table(labels, truth)])
    assert (quality.miou, quality.mbiou) == (1, 1)


def test_one_label_answers_for_an_object_in_all_views():
    views = [table(row((5, 6), (9, 9)), row((1, 6), (0, 9))), table(row((4, 4), (9, 9)), row((1, 4), (0, 9)))]
    assert named_quality(views, views).miou == pytest.approx((1 + 0) / 2)


def test_masks_that_overlap_are_several_images_of_one_view():
    # 1 lies on 2, and both are labelled whole: 5 on 4
    labels = row((5, 4), (4, 6), (9, 20))
    whole = [row((1, 4), (0, 26)), row((2, 10), (0, 20))]
    views = [table(labels, truth) for truth in whole]
    assert named_quality(views, views).miou == pytest.approx((1 + 0.6) / 2)
    cut = [table(labels, row((1, 4), (2, 6), (0, 20)))]
    assert named_quality(cut, cut).miou == 1


def test_an_answer_is_judged_in_the_views_of_its_object_alone():
    views = [table(row((5, 4), (9, 9)), row((1, 4), (0, 9))), table(row((5, 40), (9, 60)), row((2, 9), (0, 91)))]
    assert named_quality(views[:1], views[:1]).miou == 1
    assert named_quality(views, views).miou == pytest.approx((1 + 9 / 40) / 2)  # elsewhere 5 is on the other, too


def test_no_objects_and_no_labels():
    assert named_quality([], []).miou == 0.0
    nothing = [table(row((0, 9)), row((1, 4), (0, 5)))]
    assert named_quality(nothing, nothing).miou == 0.0
