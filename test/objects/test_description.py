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
    unsure = np.linspace(0, 1, 1200, dtype=np.float32)
    shuffle = np.random.default_rng(1).permutation(len(ids))
    tracks = [Track(4, 1.0, 9.0, 7, 0.75), Track(3, 0.0, 1.0, 2, 0.5), Track(2, 2.0, 3.0, 5, 1.0)]
    second, fourth = describe(
        tracks, ids[shuffle], points[shuffle], colors[shuffle], unsure[shuffle], "z"
    )  # 3: no points
    assert (second.id, fourth.id) == (2, 4)
    assert (fourth.first_seen, fourth.last_seen, fourth.views, fourth.confidence) == (1.0, 9.0, 7, 0.75)
    assert fourth.parent == 0 and fourth.uncertainty == pytest.approx(unsure[:400].mean())
    assert np.allclose(fourth.centroid, points[:400].mean(0), atol=1e-5)
    assert fourth.color.tolist() == [200, 100, 0] and (fourth.colors == fourth.color).all()
    assert np.array_equal(np.sort(fourth.points, 0), np.sort(points[:400], 0))
    assert np.allclose(fourth.box.center, (0, 0, 0.5), atol=0.03)
    assert sorted(fourth.box.size) == pytest.approx([0.2, 0.4, 1.0], rel=0.1)


def test_a_color_is_rounded_not_cut():
    colors = np.array([[0, 0, 255], [1, 1, 255], [1, 1, 255]], np.uint8)
    (found,) = describe(
        [Track(1, 0, 0, 1, 1)], np.ones(3, int), block((0, 0, 0), (1, 1, 1), 3), colors, np.zeros(3), "none"
    )
    assert found.color.tolist() == [1, 1, 255]


def test_no_tracks_no_objects():
    none = np.zeros((0, 3))
    assert describe([], np.zeros(0, int), none.astype(np.float32), none.astype(np.uint8), np.zeros(0), "z") == []


def test_a_whole_has_the_points_of_its_parts():
    points = np.concatenate(
        [block((0, 0, 0.5), (1, 1, 1), 50), block((0, 0, 1.5), (1, 1, 1), 30), block((9, 9, 9), (1, 1, 1), 9)]
    )
    tracks = [
        Track(1, 0, 1, 2, 1, parent=5),
        Track(2, 0, 1, 2, 1, parent=5),
        Track(3, 0, 1, 2, 1),
        Track(5, 0, 1, 2, 1),
    ]
    ids, colors = np.repeat([1, 2, 3], [50, 30, 9]), np.full((89, 3), 7, np.uint8)
    found = {item.id: item for item in describe(tracks, ids, points, colors, np.zeros(89), "z")}
    assert {i: (item.parent, len(item.points)) for i, item in found.items()} == {
        1: (5, 50),
        2: (5, 30),
        3: (0, 9),
        5: (0, 80),
    }
    assert np.array_equal(found[5].points, points[:80])
