"""Instance metrics against values worked out by hand and against a brute-force definition."""

import itertools
import tracemalloc

import numpy as np
import pytest
import torch
from sklearn import metrics

from lift_ros.evaluation.metrics import (
    Contingency,
    IdSwitches,
    assigned_quality,
    background_id,
    background_iou,
    matched_objects,
    panoptic_quality,
    view_consistency,
)


def row(*runs: tuple[int, int]) -> np.ndarray:
    """A one-row label image from (label, number of pixels) runs."""
    return np.concatenate([np.full(n, label, np.int64) for label, n in runs])[None]


def test_contingency_counts_pixels_over_views_of_different_size():
    table = Contingency()
    table.add(row((1, 3), (2, 1)), row((7, 2), (8, 2)))
    table.add(row((2, 5)), row((8, 5)))
    p, g, count = table.pairs
    assert list(zip(p, g, count, strict=True)) == [(1, 7, 2), (1, 8, 1), (2, 8, 6)]


def test_large_images_are_counted_in_little_memory():
    image = np.random.default_rng(0).integers(0, 40, (60, 80), np.int32).repeat(25, 0).repeat(25, 1)
    truth = image // 2
    tracemalloc.start()
    try:
        table = Contingency.of([image], [truth])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20 < 3 * image.size
    p, g, count = table.pairs
    assert p.tolist() == list(range(40)) and (g == p // 2).all()
    assert count.tolist() == np.bincount(image.ravel()).tolist()


def test_contingency_keeps_large_ids_apart():
    table = Contingency.of([row((2**32 - 1, 2), (1, 1))], [row((0, 3))])
    assert table.pairs[0].tolist() == [1, 2**32 - 1]


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), r"\(2, 3\).*\(3, 2\)"),
        (np.zeros((1, 1)), np.zeros((1, 1), int), "predicted labels must be integers, got float64"),
        (np.zeros((1, 1), int), np.full((1, 1), -1), r"true labels must lie in \[0, 2\^32\)"),
    ],
)
def test_contingency_refuses_what_is_not_a_label_image(predicted, truth, message):
    with pytest.raises(ValueError, match=message):
        Contingency().add(predicted, truth)


def test_perfect_labels_under_other_names():
    truth = [row((0, 20), (1, 5), (2, 5)), row((0, 20), (1, 10))]
    predicted = [row((9, 20), (4, 5), (3, 5)), row((9, 20), (4, 10))]  # 9 is largest: the background
    table = Contingency.of(predicted, truth)
    quality = panoptic_quality(table)
    assert (quality.pq, quality.matched, quality.spurious, quality.missed) == (1.0, 2, 0, 0)
    assert background_id(table) == 9
    assert background_iou(table) == 1.0
    assert assigned_quality(table).miou == assigned_quality(table).f_score == 1.0


def test_panoptic_quality_by_hand():
    # object 1: 8 of its 10 px are labelled 5, which also covers 2 px of background: IoU 8 / 12
    # object 2: 10 px, 5 of them labelled 6:                                         IoU 5 / 10, not above one half
    # label 7 lies on the background:                                                spurious, as is 6
    truth = [row((1, 10), (2, 10), (0, 80))]
    predicted = [row((5, 8), (0, 2), (6, 5), (0, 5), (5, 2), (7, 3), (0, 75))]
    quality = panoptic_quality(Contingency.of(predicted, truth))
    assert (quality.matched, quality.spurious, quality.missed) == (1, 2, 1)
    assert quality.sq == pytest.approx(8 / 12)
    assert quality.rq == pytest.approx(1 / (1 + 1 + 0.5))
    assert quality.pq == pytest.approx(8 / 12 / 2.5)


def test_an_id_that_changes_between_views_loses_the_object():
    truth = [row((0, 20), (1, 6))] * 2
    consistent = Contingency.of([row((0, 20), (3, 6))] * 2, truth)
    swapped = Contingency.of([row((0, 20), (3, 6)), row((0, 20), (4, 6))], truth)
    assert panoptic_quality(consistent).pq == 1.0
    assert panoptic_quality(swapped).pq == 0.0


def test_without_a_background_the_largest_segment_is_an_object():
    table = Contingency.of([row((5, 20), (6, 4))], [row((1, 20), (2, 4))])
    assert background_id(table) == 0
    assert panoptic_quality(table).matched == 2
    assert background_iou(table) is None


def test_one_pixel_of_background_makes_no_object_the_background():
    # objects of 600, 200 and 199 px; the pixel has no label, one of its own, or that of the first, IoU 600 / 601
    truth = [row((1, 600), (2, 200), (3, 199), (0, 1))]
    for last, stands, best, background in ((0, 0, 1.0, 1.0), (9, 9, 1.0, 1.0), (5, 0, 600 / 601, 0.0)):
        table = Contingency.of([row((5, 600), (6, 200), (7, 199), (last, 1))], truth)
        assert background_id(table) == stands and background_iou(table) == background
        quality = panoptic_quality(table)
        assert (quality.matched, quality.spurious, quality.missed, quality.rq) == (3, 0, 0, 1.0)
        assert quality.pq == assigned_quality(table).miou == pytest.approx((best + 1 + 1) / 3)


def test_an_object_larger_than_the_background_is_one():
    for there in (0, 9):  # whether the background has no label or one of its own
        table = Contingency.of([row((5, 60), (6, 20), (there, 20))], [row((1, 60), (2, 20), (0, 20))])
        assert background_id(table) == there and matched_objects(table) == {1: 5, 2: 6}
        quality = panoptic_quality(table)
        assert (quality.pq, quality.matched, quality.spurious, quality.missed) == (1.0, 2, 0, 0)
        assert background_iou(table) == 1.0


def test_the_background_lies_on_the_true_one_by_more_than_half():
    for pixels, expected in ((10, 7), (11, 9)):  # 7 is smaller, and all of it lies there
        predicted, truth = row((9, 20), (7, 3), (5, 4)), row((0, pixels), (1, 20 - pixels), (0, 3), (2, 4))
        assert background_id(Contingency.of([predicted], [truth])) == expected


def test_unlabelled_pixels_are_missing_but_no_segment():
    table = Contingency.of([row((5, 3), (0, 2), (9, 6), (0, 1))], [row((1, 5), (0, 7))])
    quality = panoptic_quality(table)
    assert (quality.matched, quality.spurious) == (1, 0)
    assert quality.sq == pytest.approx(3 / 5)


def test_void_pixels_take_no_part():
    # 3 px of segment 5 and all of segment 6 lie on void; 7 lies on void by more than half and matches nothing
    truth = [row((1, 6), (255, 3), (255, 4), (255, 3), (0, 22))]
    predicted = [row((5, 6), (5, 3), (6, 4), (7, 3), (7, 2), (0, 20))]
    table = Contingency.of(predicted, truth)
    quality = panoptic_quality(table, void=255)
    assert (quality.pq, quality.matched, quality.spurious, quality.missed) == (1.0, 1, 0, 0)
    assert assigned_quality(table, void=255).f_score == 1.0
    assert panoptic_quality(table).pq < 1.0


def test_half_on_void_is_held_against_the_prediction():
    table = Contingency.of([row((5, 6), (7, 4), (0, 20))], [row((1, 6), (255, 2), (0, 22))])
    assert panoptic_quality(table, void=255).spurious == 1


def test_background_iou_by_hand():
    # the true background has 10 px, 8 of them predicted as background (6 as id 9, 2 unlabelled), with 1 px of object 1
    table = Contingency.of([row((9, 6), (0, 2), (4, 2), (9, 1), (4, 4))], [row((0, 10), (1, 5))])
    assert background_iou(table) == pytest.approx(8 / 11)


def test_assignment_by_hand():
    # IoU: (object 1, label 5) 6/14, (1, 6) 4/10, (2, 5) 4/8
    table = Contingency.of([row((5, 6), (6, 4), (5, 4), (0, 90))], [row((1, 10), (2, 4), (0, 90))])
    quality = assigned_quality(table)
    assert quality.miou == pytest.approx((4 / 10 + 4 / 10) / 2)
    assert quality.f_score == 0.0  # neither partner is above one half


def test_f_score_by_hand():
    table = Contingency.of([row((5, 9), (6, 1), (7, 2), (0, 90))], [row((1, 10), (2, 2), (3, 2), (0, 88))])
    quality = assigned_quality(table)
    assert quality.miou == pytest.approx((0.9 + 1 + 0) / 3)
    assert quality.f_score == pytest.approx(2 / 3)


def test_nothing_predicted_and_nothing_to_predict():
    for predicted, truth in [(row((0, 9)), row((1, 4), (0, 5))), (row((0, 9)), row((0, 9)))]:
        table = Contingency.of([predicted], [truth])
        assert panoptic_quality(table).pq == assigned_quality(table).miou == assigned_quality(table).f_score == 0.0
    assert panoptic_quality(Contingency()).pq == 0.0 and background_iou(Contingency()) is None


def brute_force_pq(predicted: np.ndarray, truth: np.ndarray) -> float:
    ids, sizes = np.unique(predicted, return_counts=True)
    p_ids = [i for i in ids if i not in (0, ids[np.argmax(sizes)])]
    g_ids = [i for i in np.unique(truth) if i != 0]
    ious = [
        ((predicted == p) & (truth == g)).sum() / ((predicted == p) | (truth == g)).sum() for p in p_ids for g in g_ids
    ]
    matched = [iou for iou in ious if iou > 0.5]
    return sum(matched) / (len(matched) + 0.5 * (len(p_ids) - len(matched)) + 0.5 * (len(g_ids) - len(matched)))


def test_panoptic_quality_against_the_definition():
    rng = np.random.default_rng(0)
    truth = np.where(rng.random((6, 8, 8)) < 0.5, 0, np.arange(8) // 2 + 1)
    predicted = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, 9, truth.shape), truth + 3)
    expected = brute_force_pq(predicted, truth)
    assert 0.1 < expected < 0.9
    assert panoptic_quality(Contingency.of(predicted, truth)).pq == pytest.approx(expected)


def test_view_consistency_by_hand():
    # 4 px agree, 2 changed their id, 3 were labelled late, 1 lost its label, 5 never had one
    online = [row((1, 4), (2, 2)), row((0, 3), (4, 1), (0, 5))]
    final = [row((1, 4), (3, 2)), row((6, 3), (0, 1), (0, 5))]
    consistency = view_consistency(Contingency.of(online, final))
    assert consistency.published == pytest.approx(4 / 7)
    assert consistency.all == pytest.approx(4 / 10)
    assert view_consistency(Contingency.of([row((0, 3))], [row((0, 3))])).all == 0.0


def test_id_switches_by_hand():
    switches = IdSwitches(min_pixels=3)
    truth = row((1, 10), (2, 10), (3, 2), (0, 10))
    # object 1: 5, 5, unlabelled, 6 -> one switch in 30 s; object 2: 7 throughout, its minority does not count;
    # object 3 shows only two pixels: passed over
    for stamp, first, second, third in [(0, 5, 7, 1), (10, 5, 7, 2), (20, 0, 7, 3), (30, 6, 7, 4)]:
        switches.add(row((first, 7), (0, 3), (second, 6), (9, 4), (third, 2), (0, 10)), truth, stamp)
    assert switches.switches == 1
    assert switches.per_object_minute == pytest.approx(1.0)


def literal_id_switches(published: np.ndarray, truth: np.ndarray, stamps: list[float], min_pixels: int):
    """Switches of each object, and seconds between its first and its last labelled frame summed over the objects."""
    switches, seconds = {}, 0.0
    for g in sorted(set(truth.ravel().tolist()) - {0}):
        ids, times = [], []
        for p, t, stamp in zip(published, truth, stamps, strict=True):
            labels = p[t == g].tolist()
            if len(labels) >= min_pixels:
                majority = min(set(labels), key=lambda i: (-labels.count(i), i))
                if majority:
                    ids.append(majority)
                    times.append(stamp)
        if ids:
            switches[g] = sum(a != b for a, b in itertools.pairwise(ids))
            seconds += times[-1] - times[0]
    return switches, seconds


@pytest.mark.parametrize("min_pixels", [1, 9])
def test_id_switches_against_a_literal_loop(min_pixels):
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 6, (12, 8, 8))
    truth[3:6][truth[3:6] == 2] = 0  # not seen for a while
    # an object has one of two ids, or is unlabelled; a third of its pixels say something else
    ids = np.array([0, 10, 20])[rng.choice(3, (12, 6), p=[0.2, 0.5, 0.3])] + np.arange(6)
    ids[ids < 10] = 0
    published = np.take_along_axis(ids, truth.reshape(12, -1), 1).reshape(truth.shape)
    published = np.where(rng.random(truth.shape) < 0.35, rng.integers(0, 30, truth.shape), published)
    stamps = np.cumsum(rng.uniform(0.1, 3, 12)).tolist()
    expected, seconds = literal_id_switches(published, truth, stamps, min_pixels)
    assert len(expected) == 5 and sum(expected.values()) > 5
    switches = IdSwitches(min_pixels=min_pixels)
    for frame in zip(published, truth, stamps, strict=True):
        switches.add(*frame)
    assert switches.switches == sum(expected.values())
    assert switches.per_object_minute == pytest.approx(60 * sum(expected.values()) / seconds)


def test_id_switches_need_frames_in_order():
    switches = IdSwitches(min_pixels=1)
    assert switches.per_object_minute is None
    switches.add(row((1, 4)), row((1, 4)), 5.0)
    assert switches.per_object_minute is None
    with pytest.raises(ValueError, match="order of time"):
        switches.add(row((1, 4)), row((1, 4)), 4.0)


def test_tables_of_views_add_up():
    views = [Contingency.of([row((1, 3), (2, 1))], [row((7, 4))]), Contingency.of([row((2, 5))], [row((8, 5))])]
    table = Contingency()
    for view in views:
        table.update(view)
    assert list(zip(*table.pairs, strict=True)) == [(1, 7, 3), (2, 7, 1), (2, 8, 5)]


def test_matched_objects_are_those_that_count_as_found():
    table = Contingency.of([row((5, 8), (0, 2), (6, 5), (0, 5), (9, 80))], [row((1, 10), (2, 10), (0, 80))])
    assert matched_objects(table) == {1: 5}  # 6 holds just one half of 2


def test_assigned_quality_against_every_assignment_and_scikit_learn():
    """mIoU is scikit-learn's Jaccard score of the labels renamed by the best of all assignments, and the F-score its F1
    of segments: those of both sides that were found, missed, or are not there."""
    rng = np.random.default_rng(5)
    truth = np.where(rng.random((4, 12, 12)) < 0.4, 0, np.arange(12) // 3 + 1)
    predicted = np.where(truth, truth + 10, 9)
    noise = rng.random(truth.shape) < np.array([0.1, 0.2, 0.3, 0.6, 0.7])[truth]
    predicted[noise] = rng.integers(9, 17, truth.shape)[noise]
    p, g = predicted.ravel(), truth.ravel()
    names = [i for i in np.unique(p).tolist() if i != 9]  # 9 is largest: the background
    assert background_id(Contingency.of(predicted, truth)) == 9 and len(names) > 4

    def of_each(assigned: tuple[int, ...]) -> np.ndarray:
        renamed = np.zeros_like(g)
        for true, name in enumerate(assigned, 1):
            renamed[p == name] = true
        return metrics.jaccard_score(g, renamed, labels=[1, 2, 3, 4], average=None)

    iou = max((of_each(assigned) for assigned in itertools.permutations(names, 4)), key=sum)
    hits = int((iou > 0.5).sum())
    assert 0 < hits < 4
    real = [1] * 4 + [0] * (len(names) - hits)
    found = [1] * hits + [0] * (4 - hits) + [1] * (len(names) - hits)
    quality = assigned_quality(Contingency.of(predicted, truth))
    assert quality.miou == pytest.approx(iou.mean())
    assert quality.f_score == pytest.approx(metrics.f1_score(real, found))


def test_panoptic_quality_against_torchmetrics():
    library = pytest.importorskip("torchmetrics.functional.detection", reason="torchmetrics is not installed")
    rng = np.random.default_rng(3)
    truth = np.where(rng.random((5, 8, 8)) < 0.5, 0, np.arange(8) // 2 + 1)
    predicted = np.where(rng.random(truth.shape) < 0.25, rng.integers(0, 7, truth.shape), np.where(truth, truth + 3, 9))
    quality = panoptic_quality(Contingency.of(predicted, truth))

    def panoptic(labels: np.ndarray, background: tuple[int, ...]) -> torch.Tensor:
        """(1, pixels, 2) of category and instance; the views side by side in one image; category 1: things."""
        thing = ~np.isin(labels, background)
        return torch.from_numpy(np.stack([thing, np.where(thing, labels, 0)], -1).astype(np.int64)).reshape(1, -1, 2)

    # what is unlabelled and what stands for the background are one segment of stuff; things come first
    of_class = library.panoptic_quality(
        panoptic(predicted, (0, 9)), panoptic(truth, (0,)), things={1}, stuffs={0}, return_sq_and_rq=True,
        return_per_class=True,
    )  # fmt: skip
    pq, sq, rq = of_class[0].tolist()
    assert 0 < quality.rq < 1
    assert (quality.pq, quality.sq, quality.rq) == pytest.approx((pq, sq, rq), abs=1e-6)


def test_what_lies_on_void_decides_on_no_background():
    """Neither which segment is the largest, 9, nor whether most of one is on the background, as of 6."""
    table = Contingency.of([row((5, 8), (6, 40), (6, 4), (9, 12))], [row((1, 8), (255, 40), (0, 4), (0, 12))])
    assert background_id(table, void=255) == background_id(table) == 9
    table = Contingency.of([row((5, 8), (6, 40), (6, 13), (9, 12))], [row((1, 8), (255, 40), (0, 13), (0, 12))])
    assert background_id(table, void=255) == 6 and background_id(table) == 9
    assert background_iou(table, void=255) == pytest.approx(13 / 25)
    assert matched_objects(table, void=255) == {1: 5}


def test_background_on_void_costs_nothing():
    table = Contingency.of([row((9, 10), (9, 6), (0, 4), (5, 3))], [row((0, 10), (255, 6), (255, 4), (1, 3))])
    assert background_iou(table, void=255) == 1.0


def test_an_object_that_lies_mostly_on_void_counts_if_it_is_found():
    table = Contingency.of([row((5, 4), (5, 6), (9, 30))], [row((1, 4), (255, 6), (0, 30))])
    assert assigned_quality(table, void=255).f_score == 1.0
    quality = panoptic_quality(table, void=255)
    assert (quality.pq, quality.spurious) == (1.0, 0)


def test_void_changes_what_matches():
    table = Contingency.of([row((5, 4), (5, 6), (9, 30))], [row((1, 4), (255, 6), (0, 30))])
    assert matched_objects(table, void=255) == {1: 5} and matched_objects(table) != {1: 5}
