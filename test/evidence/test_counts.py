"""What is counted in C++, against the same written as loops over views, masks and Gaussians."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lifting.views import evidence

from lift_ros.evidence import counts
from lift_ros.evidence.counts import FULL_SAY, MIN_VISIBLE
from lift_ros.evidence.mask_evidence import CLEAR_PIXELS, MIN_PIXELS, MaskEvidence
from lift_ros.scene.neighbours import Neighbours

GAUSSIANS, PARTS, VIEWS, MASKS = 60, 7, 5, 6


@pytest.fixture(scope="module")
def tables() -> list[np.ndarray]:
    """(M, N) pixels of each view: most Gaussians in one mask, some in two, some in none; the first view is large."""
    rng = np.random.default_rng(0)
    made = []
    for view in range(VIEWS):
        table = np.zeros((MASKS, GAUSSIANS), np.float32)
        table[rng.integers(0, MASKS, GAUSSIANS), np.arange(GAUSSIANS)] = rng.uniform(0.1, 3.0, GAUSSIANS)
        table[rng.integers(0, MASKS, 20), rng.integers(0, GAUSSIANS, 20)] += 1.0
        table[:, rng.random(GAUSSIANS) < 0.3] = 0
        made.append(table * (200 if view == 0 else 1))
    return made


@pytest.fixture(scope="module")
def views(tables) -> list[MaskEvidence]:
    return [evidence(table) for table in tables]


@pytest.fixture(scope="module")
def parts() -> np.ndarray:
    """(N,), -1 for some; part 5 is nowhere."""
    numbers = np.random.default_rng(1).integers(-1, PARTS, GAUSSIANS)
    return np.where(numbers == 5, 0, numbers)


def shares(table: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """(M, K) pixels of each mask that show each part."""
    return np.stack([table[:, parts == k].sum(1) for k in range(PARTS)], axis=1).astype(float)


def test_neighbours_agree_where_most_of_both_lies_in_one_mask():
    """In more views than are counted at a time, of masks whose numbers take all of 16 bits."""
    rng = np.random.default_rng(2)
    numbers, views = np.array([0, 7, 32767, 32768, 40000, 65535], np.int32), []
    points = torch.rand(GAUSSIANS, 3, generator=torch.Generator().manual_seed(0))
    near = Neighbours.of(points, k=4, reach=1.5)
    assert not near.near.all()
    expected = np.zeros((2, GAUSSIANS, 4))
    for _ in range(43):
        table = np.zeros((MASKS, GAUSSIANS), np.float32)
        table[rng.integers(0, MASKS, GAUSSIANS), np.arange(GAUSSIANS)] = rng.uniform(0.1, 3.0, GAUSSIANS)
        table[rng.integers(0, MASKS, 20), rng.integers(0, GAUSSIANS, 20)] += 1.0
        table[:, rng.random(GAUSSIANS) < 0.3] = 0
        made = evidence(table)
        views.append(MaskEvidence(numbers[made.mask], made.gaussian, made.weight, np.ones(65536, np.float32)))
        pixels, strongest = table.sum(0), table.argmax(0)
        for i in range(GAUSSIANS):
            for n in range(4):
                j = int(near.index[i, n])
                if near.near[i, n] and min(pixels[i], pixels[j]) > MIN_PIXELS:
                    say = min(pixels[i], pixels[j], CLEAR_PIXELS) / CLEAR_PIXELS
                    expected[:, i, n] += say * (strongest[i] == strongest[j]), say
    assert expected.max() > 8
    agreed, seen = counts.neighbour_agreement(near, views)
    np.testing.assert_allclose(np.stack([agreed, seen]), expected, atol=len(views) / 8190)  # say: one of 4096 numbers


def test_parts_agree_as_often_as_they_share_masks(tables, views, parts):
    agreed, seen = counts.part_agreement(parts, PARTS, views)
    expected = np.zeros((2, PARTS, PARTS))
    for table in tables:
        share = shares(table, parts)
        visible = share.sum(0)
        for a in range(PARTS):
            for b in range(PARTS):
                if min(visible[a], visible[b]) > MIN_VISIBLE:
                    say = min(visible[a], visible[b], FULL_SAY) / FULL_SAY
                    lies_in = [share[:, k] ** 2 / (share[:, k] ** 2).sum() for k in (a, b)]
                    expected[:, a, b] += say * (lies_in[0] * lies_in[1]).sum(), say
    assert expected[1].max() > 0 and not expected[1][5].any()
    np.testing.assert_allclose(np.stack([agreed, seen]), expected, rtol=1e-6)


def test_held_is_the_share_of_the_part_in_the_masks_over_a_gaussian(tables, views, parts):
    held, total = counts.held(parts, PARTS, views)
    expected = np.zeros((2, GAUSSIANS))
    for table in tables:
        share = shares(table, parts)
        for m in range(MASKS):
            for i in range(GAUSSIANS):
                expected[1, i] += table[m, i]
                if parts[i] >= 0 and share[:, parts[i]].sum():
                    expected[0, i] += table[m, i] * share[m, parts[i]] / share[:, parts[i]].sum()
    np.testing.assert_allclose(np.stack([held, total]), expected, rtol=1e-5)


def test_purity_and_the_view_that_divides_most(tables, views, parts):
    pure, say, divided_by = counts.purity(parts, PARTS, views)
    expected, most, by = np.zeros((2, PARTS)), np.zeros(PARTS), np.full(PARTS, -1)
    for number, table in enumerate(tables):
        share = shares(table, parts)
        for k in range(PARTS):
            visible = share[:, k].sum()
            if visible > MIN_VISIBLE:
                own = ((share[:, k] / visible) ** 2).sum()
                expected[:, k] += np.array([own, 1]) * min(visible, FULL_SAY) / FULL_SAY
                if visible * (1 - own) > most[k]:
                    most[k], by[k] = visible * (1 - own), number
    np.testing.assert_allclose(np.stack([pure, say]), expected, rtol=1e-6)
    assert np.array_equal(divided_by, by) and divided_by[5] == -1


def test_the_strongest_mask_is_that_of_the_view_named_for_the_part(tables, views, parts):
    view_of = np.array([0, 1, -1, 4, 2, 0, 1])
    found = counts.strongest_masks(parts, PARTS, views, view_of)
    for i, k in enumerate(parts):
        pixels = tables[view_of[k]][:, i] if k >= 0 and view_of[k] >= 0 else np.zeros(MASKS)
        assert found[i] == (pixels.argmax() if pixels.any() else -1)
    assert (found >= 0).any()


def test_pixels_of_each_gaussian_in_masks(tables, views):
    one = counts.masked(GAUSSIANS, views[2:3])
    np.testing.assert_allclose(one, tables[2].sum(0), rtol=1e-6)
    assert not one.all()
    np.testing.assert_allclose(counts.masked(GAUSSIANS, views), sum(tables).sum(0), rtol=1e-6)
    assert not counts.masked(GAUSSIANS, []).any()


def test_what_a_view_shows_clearly(tables, views):
    for table, view in zip(tables, views, strict=True):
        pixels = table.sum(0)
        assert np.array_equal(view.clear.gaussian, np.flatnonzero(pixels > MIN_PIXELS))
        assert np.array_equal(view.clear.mask, table.argmax(0)[view.clear.gaussian])
        say = np.minimum(pixels[view.clear.gaussian] / CLEAR_PIXELS, 1)
        np.testing.assert_allclose(view.clear.say / 4095, say, atol=1.01 / 8190)
    assert len(evidence(np.zeros((1, 3), np.float32)).clear.gaussian) == 0


def test_other_types_and_numbers_that_are_none_are_refused(views, parts):
    one = views[0]
    with pytest.raises(ValueError, match="evidence must be of int32, int32, float32 and float32"):
        MaskEvidence(one.mask, one.gaussian, one.weight.astype(float), one.area)
    with pytest.raises(ValueError, match="none of number 4294967297"):
        counts.held(np.where(parts == 1, 2**32 + 1, parts), PARTS, views)


def test_results_do_not_depend_on_threads(views, parts):
    near = Neighbours.of(torch.rand(GAUSSIANS, 3, generator=torch.Generator().manual_seed(0)), k=4)

    def everything() -> list[np.ndarray]:
        return [
            *counts.neighbour_agreement(near, views),
            *counts.part_agreement(parts, PARTS, views),
            *counts.held(parts, PARTS, views),
            *counts.votes(np.arange(GAUSSIANS) % 12, 12, views, 0.1),
            counts.strongest_masks(parts, PARTS, views, np.arange(PARTS) % VIEWS),
        ]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = everything()
        torch.set_num_threads(3)
        for result, target in zip(everything(), expected, strict=True):
            assert np.array_equal(result, target)
    finally:
        torch.set_num_threads(before)


def test_votes_are_those_of_masks_of_mostly_one_label(tables, views, parts):
    # as many labels as Gaussians have masks, so that some get votes for many
    for labels, count, purity in ((parts, PARTS, 0.3), (np.arange(GAUSSIANS) % 12, 12, 0.1)):
        winner, most, total, shown = counts.votes(labels, count, views, purity)
        ballots = np.zeros((GAUSSIANS, count))
        for table in tables:
            for m in range(MASKS):
                share = np.array([table[m, labels == k].sum(dtype=float) for k in range(count)])
                if share.max() > purity * share.sum():
                    ballots[:, share.argmax()] += table[m]
        assert count == PARTS or (np.count_nonzero(ballots, axis=1) > 4).any()  # more than there are slots
        assert np.array_equal(winner, np.where(ballots.any(1), ballots.argmax(1), -1))
        np.testing.assert_allclose(most, ballots.max(1), rtol=1e-5)
        np.testing.assert_allclose(total, ballots.sum(1), rtol=1e-5)
        np.testing.assert_allclose(shown, sum(table.sum(0) for table in tables), rtol=1e-5)


def test_parts_are_seen_and_agreed_upon_by_the_best_mask(tables, views, parts):
    seen, agreed = counts.visibility(parts, PARTS, views)
    expected, weight = np.zeros(PARTS), np.zeros(PARTS)
    for number, (table, view) in enumerate(zip(tables, views, strict=True)):
        share = shares(table, parts)
        visible = share.sum(0)
        assert np.array_equal(seen[number], visible > MIN_VISIBLE)
        for k in range(PARTS):
            union = visible[k] + view.area - share[:, k]
            expected[k] += visible[k] * (share[:, k] / union).max()
            weight[k] += visible[k]
    np.testing.assert_allclose(agreed, expected / np.maximum(weight, 1e-6), rtol=1e-6)


def test_nothing_to_count(parts):
    assert counts.visibility(parts, PARTS, [])[0].shape == (0, PARTS)
    empty = evidence(np.zeros((0, GAUSSIANS)))
    assert not counts.part_agreement(parts, PARTS, [empty])[1].any()
    assert (counts.votes(parts, PARTS, [empty], 0.5)[0] == -1).all()
    none = np.full(GAUSSIANS, -1)
    assert counts.held(none, 0, [empty])[1].shape == (GAUSSIANS,)


def test_numbers_that_would_lie_outside_are_refused(views, parts):
    with pytest.raises(ValueError, match="there are 3 parts"):
        counts.part_agreement(parts, 3, views)
    with pytest.raises(ValueError, match="a scene of 10"):
        counts.visibility(parts[:10], PARTS, views)
