"""From tracks and points to the objects a planner reads."""

from __future__ import annotations

import numpy as np
import pytest

from lift_ros.objects.description import describe
from lift_ros.objects.registry import Track


def block(center: tuple[float, float, float], size: tuple[float, float, float], n: int = 400) -> np.ndarray:
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (n, 3)) * size + center
    return points.astype(np.float32)


def test_objects_gather_their_points_colours_and_track():
    points = np.concatenate(
        [block((0, 0, 0.5), (0.4, 0.2, 1.0)), block((5, 5, 5), (1, 1, 1)), block((9, 9, 9), (1, 1, 1))]
    )
    ids = np.repeat([4, 2, 0], 400)
    colors = np.repeat(np.array([[200, 100, 0], [10, 20, 30], [255, 255, 255]], np.uint8), 400, axis=0)
    shuffle = np.random.default_rng(1).permutation(len(ids))
    tracks = [Track(4, 1.0, 9.0, 7, 0.75), Track(3, 0.0, 1.0, 2, 0.5), Track(2, 2.0, 3.0, 5, 1.0)]
    second, fourth = describe(tracks, ids[shuffle], points[shuffle], colors[shuffle], "z")  # 3 has no points
    assert (second.id, fourth.id) == (2, 4)
    assert (fourth.first_seen, fourth.last_seen, fourth.views, fourth.confidence) == (1.0, 9.0, 7, 0.75)
    assert fourth.parent == 0
    assert np.allclose(fourth.centroid, points[:400].mean(0), atol=1e-5)
    assert fourth.color.tolist() == [200, 100, 0] and (fourth.colors == fourth.color).all()
    assert np.array_equal(np.sort(fourth.points, 0), np.sort(points[:400], 0))
    assert np.allclose(fourth.box.center, (0, 0, 0.5), atol=0.03)
    assert sorted(fourth.box.size) == pytest.approx([0.2, 0.4, 1.0], rel=0.1)


def test_a_color_is_rounded_not_cut():
    colors = np.array([[0, 0, 255], [1, 1, 255], [1, 1, 255]], np.uint8)
    (found,) = describe([Track(1, 0, 0, 1, 1)], np.ones(3, int), block((0, 0, 0), (1, 1, 1), 3), colors, "none")
    assert found.color.tolist() == [1, 1, 255]


def test_no_tracks_no_objects():
    assert describe([], np.zeros(0, int), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), "z") == []
