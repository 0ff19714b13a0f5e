"""Which Gaussians touch, whatever the unit and the density, and the parts that follow from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from lift_ros.evidence.parts import connected_parts
from lift_ros.render.cpu import nearest
from lift_ros.scene.neighbours import Neighbours


def grid(columns: int, rows: int, spacing: float = 1.0) -> np.ndarray:
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    return np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], -1) * spacing


def of(points: np.ndarray, **options) -> Neighbours:
    return Neighbours.of(torch.as_tensor(points, dtype=torch.float32), **options)


def test_neighbours_are_the_nearest_as_far_as_they_touch():
    points = np.random.default_rng(0).random((60, 3))
    points[:4] += (4.0, 0, 0)  # a few far off
    neighbours = of(points, k=5, reach=1.5)
    distance = cdist(points, points)
    order = np.argsort(distance, axis=1)
    spacing = np.sort(distance, axis=1)[:, 3]
    for i in range(60):
        for slot in range(5):
            j = order[i, slot + 1]
            touches = distance[i, j] <= 1.5 * min(spacing[i], spacing[j])
            assert bool(neighbours.near[i, slot]) == touches
            assert int(neighbours.index[i, slot]) == (j if touches else i)
            within_reach = distance[i, j] <= 1.5 * max(spacing[i], spacing[j])
            assert bool(neighbours.wide[i, slot]) == within_reach
            assert neighbours.within_reach[i, slot] == (j if within_reach else -1)


def scattered(count: int) -> np.ndarray:
    """(count, 3) in clusters of very different density, some on a plane and some in one place, far from the origin."""
    rng = np.random.default_rng(2)
    points = rng.normal(0, 1, (count, 3)) * np.exp(rng.integers(-4, 2, count))[:, None]
    points += rng.integers(-2, 3, (count, 3)) * 3.0
    points[: count // 4, 2] = 1.0
    points[len(points) - count // 600 :] = points[-1]
    return (points + (50.0, -20.0, 0.0)).astype(np.float32)


@pytest.mark.parametrize(
    ("count", "k", "threads"), [(20_000, 8, 1), (20_000, 8, 3), (13, 12, 2), (2, 1, 2), (700, 1, 2)]
)
def test_none_is_nearer_than_those_found(count, k, threads):
    points = scattered(count)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        distance, index = (tensor.numpy() for tensor in nearest(torch.from_numpy(points), k))
    finally:
        torch.set_num_threads(before)
    expected = cKDTree(points).query(points, k=k + 1)[0][:, 1:]
    np.testing.assert_allclose(distance, expected, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(points[index] - points[:, None], axis=2), expected, rtol=1e-5, atol=1e-6)
    assert (index != np.arange(count)[:, None]).all()
    assert k == 1 or (np.diff(np.sort(index, axis=1)) > 0).all()  # each once


def test_points_that_are_nowhere_are_refused():
    with pytest.raises(ValueError, match="finite"):
        of(np.array([[0.0, 0, 0], [np.nan, 0, 0], [1, 0, 0]]))


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_the_unit_does_not_matter(unit):
    points = np.random.default_rng(1).random((100, 3))
    assert torch.equal(of(unit * points).near, of(points).near)


@pytest.mark.parametrize(("gap", "parts"), [(1.0, 1), (4.0, 2)])
def test_sparse_and_dense_regions_hold_together_where_they_meet(gap, parts):
    """A fine and a coarse grid, a single step of the coarse one apart, or several."""
    fine = grid(6, 6, 0.1)
    coarse = grid(6, 6, 1.0) + (0.5 + gap, 0, 0)
    neighbours = of(np.concatenate([fine, coarse]))
    found = connected_parts(neighbours, np.zeros(72, int))
    assert len(np.unique(found[:36])) == len(np.unique(found[36:])) == 1
    assert len(np.unique(found)) == parts


def test_parts_are_gaussians_of_one_label_that_touch():
    points = np.concatenate([grid(5, 5), grid(5, 5) + (50, 0, 0)])
    labels = np.where(points[:, 0] % 50 < 2, 7, 3)  # each grid: a strip of 7 beside one of 3
    parts = connected_parts(of(points), labels)
    assert len(np.unique(parts)) == 4
    for far in (False, True):
        for label in (3, 7):
            chosen = ((points[:, 0] >= 50) == far) & (labels == label)
            assert len(np.unique(parts[chosen])) == 1
    assert set(np.unique(parts)) == {0, 1, 2, 3}


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_gaussians(count):
    neighbours = of(grid(count, 1))
    assert neighbours.index.shape == neighbours.near.shape == (count, max(count - 1, 0))
    parts = connected_parts(neighbours, np.zeros(count, int))
    assert parts.shape == (count,) and len(np.unique(parts)) == min(count, 1)


@pytest.mark.parametrize("count", [0, 1])
def test_no_neighbours_are_where_the_gaussians_are(count):
    neighbours = Neighbours.of(torch.zeros(count, 3, device="meta"))
    assert neighbours.index.device == neighbours.near.device == torch.device("meta")


def test_gaussians_in_one_place_touch():
    parts = connected_parts(of(np.ones((20, 3))), np.zeros(20, int))
    assert len(np.unique(parts)) <= 2  # nine are as near as the nearest; the rest is a matter of ties


@pytest.mark.parametrize(("count", "k"), [(5, 5), (5, 0), (0, 1), (1, 1)])
def test_there_must_be_so_many_others(count, k):
    with pytest.raises(ValueError, match=f"each of {count} points has no {k} others"):
        nearest(torch.zeros(count, 3), k)
