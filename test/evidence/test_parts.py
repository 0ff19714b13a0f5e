"""Parts of one label that hang together, and what becomes of fragments."""

from __future__ import annotations

import numpy as np
import torch
from lifting.views import line
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lift_ros.evidence.parts import components, connected_parts, most, overlap, present
from lift_ros.scene.neighbours import Neighbours


def test_components_are_those_of_scipy():
    """Few edges, so that there are many components, and neighbours that are so in one direction only."""
    rng = np.random.default_rng(0)
    touching = rng.integers(-1, 200, (200, 3)).astype(np.int32)
    seen = rng.integers(0, 9, (200, 3)).astype(np.float32)
    agreed = rng.integers(0, seen + 1).astype(np.float32)
    chosen = rng.random(200) < 0.8
    edge = (touching >= 0) & (seen > 0) & (agreed >= 0.75 * seen) & chosen[:, None] & chosen[touching]
    rows, columns = np.nonzero(edge)[0], touching[edge]
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(200, 200))
    count, expected = connected_components(graph, directed=False)
    assert 5 < count < 150
    assert np.array_equal(components(touching, agreed, seen, 0.75, chosen), expected)


def test_fragments_join_what_surrounds_them():
    labels = np.array([4, 4, 4, 4, 9, 8, 6, 6, 6, 6, 8])
    assert connected_parts(line(11), labels, 3).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]


def test_a_wide_fragment_is_absorbed_from_its_edges():
    labels = np.array([0] * 6 + [1, 2, 3, 4] + [5] * 6)
    assert connected_parts(line(16), labels, 5).tolist() == [0] * 8 + [1] * 8


def test_an_island_of_fragments_belongs_to_nothing():
    means = torch.tensor([[float(i), 0, 0] for i in range(8)] + [[100.0 + i, 0, 0] for i in range(5)])
    labels = np.array([0] * 8 + [1, 2, 3, -1, -1])
    assert connected_parts(Neighbours.of(means, k=2), labels, 4).tolist() == [0] * 8 + [-1] * 5


def test_gaussians_without_a_label_belong_to_nothing():
    assert connected_parts(line(6), np.array([3, 3, -1, -1, 3, 3]), 2).tolist() == [0, 0, -1, -1, 1, 1]
    assert connected_parts(line(6), np.array([3, 3, -1, 5, 3, 3]), 2).tolist() == [0, 0, -1, 1, 1, 1]


def test_nothing_but_fragments():
    assert connected_parts(line(5), np.arange(5), 2).tolist() == [-1] * 5
    nobody = Neighbours.of(torch.zeros(1, 3))
    assert connected_parts(nobody, np.zeros(1, int), 2).tolist() == [-1]


def test_what_most_of_each_part_has():
    parts = np.array([0, 0, 0, 2, 2, -1, -1, 2, 2])
    values = np.array([5, 0, 5, 9, 3, 3, 3, 3, 9])
    table, different = overlap(parts, 3, values)
    assert np.array_equal(different, [0, 3, 5, 9])
    assert np.array_equal(table, [[1, 0, 2, 0], [0, 0, 0, 0], [0, 2, 0, 2]])
    assert np.array_equal(most(parts, 3, values), [5, 0, 3])
    assert np.array_equal(different[present(values)[1]], values)
    assert len(most(parts[:0], 0, values[:0])) == 0


def test_labels_may_be_any_numbers():
    """As codes of 62 bits are: memory for all numbers up to the largest there is not."""
    values = np.array([2**62, 7, 2**62, 0, 7])
    different, place = present(values)
    assert different.tolist() == [0, 7, 2**62] and place.tolist() == [2, 1, 2, 0, 1]
    assert most(np.array([0, 0, 0, 1, 1]), 2, values).tolist() == [2**62, 0]
