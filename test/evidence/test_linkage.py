"""Clustering of parts by how often masks hold two of them."""

from __future__ import annotations

import numpy as np
import pytest
from lifting.views import partition

from lift_ros.evidence.linkage import DOUBT, Merges, merge_parts


def test_average_linkage_by_hand():
    """0 and 1 agree in 9 of 10 views, 2 agrees with 0 in 6 of 10 but with 1 in none of 10: 6 of 20 with the pair."""
    seen = np.full((3, 3), 10.0)
    agreed = np.array([[10, 9, 6], [9, 10, 0], [6, 0, 10.0]])
    assert partition(merge_parts(agreed, seen).clusters(0.4)) == {frozenset({0, 1}), frozenset({2})}
    assert partition(merge_parts(agreed, seen).clusters(0.29)) == {frozenset({0, 1, 2})}
    assert partition(merge_parts(agreed, seen).clusters(0.95)) == {frozenset({0}), frozenset({1}), frozenset({2})}


def test_many_views_outweigh_few():
    """0 and 1 joined see 2 with a rate of (0 + 18) / (2 + 20)."""
    agreed, seen = np.zeros((3, 3)), np.diag([20.0, 20, 20])
    agreed[0, 1] = agreed[1, 0] = seen[0, 1] = seen[1, 0] = 20
    seen[0, 2] = seen[2, 0] = 2
    agreed[1, 2] = agreed[2, 1] = 18
    seen[1, 2] = seen[2, 1] = 20
    assert partition(merge_parts(agreed, seen).clusters(0.8)) == {frozenset({0, 1, 2})}
    assert partition(merge_parts(agreed, seen).clusters(0.82)) == {frozenset({0, 1}), frozenset({2})}


def test_scraps_do_not_outvote_what_they_are_of():
    """A floor, a hundred scraps along its borders, and a stool on it, which bleed into each other: the scraps share a
    mask with the stool in half of the views that show both, the floor in none of twenty.
    """
    floor, stool, scraps = 0, 1, slice(2, 102)
    seen, agreed = np.full((102, 102), 1.0), np.full((102, 102), 0.5)
    seen[floor, floor], seen[stool, stool], seen[floor, stool] = 100, 20, 20
    agreed[floor, stool], agreed[floor, scraps] = 0, 0.9
    seen, agreed = (np.triu(of) + np.triu(of, 1).T for of in (seen, agreed))
    clusters = merge_parts(agreed, seen).clusters(0.25)
    assert clusters[floor] != clusters[stool]
    assert (clusters[scraps] == clusters[floor]).all()


def test_a_long_row_of_parts_is_one():
    """Each is seen with the next alone, always in one mask: what no view shows together says nothing."""
    seen = np.diag(np.full(100, 10.0)) + np.diag(np.full(99, 10.0), 1) + np.diag(np.full(99, 10.0), -1)
    assert len(partition(merge_parts(seen.copy(), seen).clusters(0.9))) == 1


def test_parts_no_view_shows_together_stay_apart():
    seen = np.array([[5.0, 0], [0, 5]])
    assert len(partition(merge_parts(seen.copy(), seen).clusters(0.0))) == 2
    assert merge_parts(np.zeros((1, 1)), np.zeros((1, 1))).clusters(0.5).tolist() == [0]
    assert merge_parts(np.zeros((0, 0)), np.zeros((0, 0))).clusters(0.5).tolist() == []


def test_a_glimpse_joins_nothing():
    """0 and 1 share a mask in all of a hundredth of a view, 0 and 2 in most of ten."""
    seen = np.array([[10, 0.01, 10], [0.01, 10, 0], [10, 0, 10]])
    agreed = np.array([[10, 0.01, 7], [0.01, 10, 0], [7, 0, 10.0]])
    assert partition(merge_parts(agreed, seen).clusters(0.3)) == {frozenset({0, 2}), frozenset({1})}
    assert partition(merge_parts(agreed[:2, :2] * 10, seen[:2, :2] * 10).clusters(0.3)) == {frozenset({0, 1})}


def literal_merge(agreed: np.ndarray, seen: np.ndarray, rate: float) -> set[frozenset[int]]:
    clusters = [frozenset({i}) for i in range(len(agreed))]
    while True:
        best, pair = -1.0, None
        for i, a in enumerate(clusters):
            for b in clusters[i + 1 :]:
                block = np.ix_(sorted(a), sorted(b))
                weight = np.outer(*(np.sqrt(seen.diagonal()[sorted(c)]) for c in (a, b)))
                mean = [np.average(of[block], weights=weight) for of in (agreed, seen, seen > 0)]
                rate_of = mean[0] / (mean[1] + DOUBT * mean[2]) if seen[block].any() else -1.0
                if rate_of > best:
                    best, pair = rate_of, (a, b)
        if pair is None or best < rate:
            return set(clusters)
        clusters = [c for c in clusters if c not in pair] + [pair[0] | pair[1]]


@pytest.mark.parametrize("seed", range(5))
def test_merging_is_average_linkage(seed):
    rng = np.random.default_rng(seed)
    seen = rng.integers(0, 12, (14, 14)).astype(float)
    seen = np.where(rng.random((14, 14)) < 0.2, 0, seen)  # some are never seen together
    seen = np.tril(seen, -1) + np.tril(seen, -1).T + np.diag(rng.integers(1, 60, 14))
    agreed = rng.random((14, 14))
    agreed = seen * (agreed + agreed.T) / 2
    given = agreed.copy(), seen.copy()
    assert partition(merge_parts(agreed, seen).clusters(0.55)) == literal_merge(agreed, seen, 0.55)
    assert np.array_equal(agreed, given[0]) and np.array_equal(seen, given[1])


@pytest.mark.parametrize("seed", range(3))
def test_parts_that_were_one_agree_more_and_those_that_were_two_less(seed):
    rng = np.random.default_rng(seed)
    seen = np.full((14, 14), 10.0)
    agreed = seen * rng.uniform(0.3, 0.8, (14, 14))
    agreed = (agreed + agreed.T) / 2
    known = rng.integers(0, 4, 14)
    one, either = known[:, None] == known, (known[:, None] == 0) | (known == 0)
    more = np.where(either, 0.0, np.where(one, 0.2, -0.2))
    found = partition(merge_parts(agreed, seen, known, 0.2).clusters(0.6))
    assert found == literal_merge(agreed + more * seen, seen, 0.6) != literal_merge(agreed, seen, 0.6)


def test_parts_agree_as_often_as_the_clusters_that_first_hold_both():
    rng = np.random.default_rng(1)
    seen = np.full((12, 12), 20.0)
    agreed = seen * np.triu(rng.random((12, 12)), 1)
    agreed += agreed.T
    agreed[11] = agreed[:, 11] = 0  # shares a mask with no other
    merges = merge_parts(agreed, seen)
    assert len(merges.rates) == 10
    for part in range(12):
        rates = merges.agreement(part)
        assert rates[part] == 1 and (rates[11] == 0) == (part != 11)
        for threshold in (*merges.rates, 0.02, 0.999):
            clusters = merges.clusters(threshold)
            assert np.array_equal(rates >= threshold, clusters == clusters[part])


def test_what_was_joined_before_agrees_no_less_and_nothing_by_more_than_1():
    """Hysteresis lifts rates above 1, and clusters can agree a little more than those that they were made of."""
    pairs = np.array([[0, 1], [2, 3], [0, 2]])
    merges = Merges(pairs, np.array([1.02, 0.4, 0.41]), 4)
    assert merges.agreement(0).tolist() == [1, 1, 0.4, 0.4]
    assert merges.agreement(3).tolist() == [0.4, 0.4, 0.4, 1]


# -- strangers ---------------------------------------------------------------------------------------------------------
