"""From tracks and points to the objects a planner reads."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lift_ros.objects.boxes import OrientedBox
from lift_ros.objects.description import MapObject, as_json, describe, parts
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


@pytest.mark.parametrize(("up", "axis"), [("x", 0), ("y", 1), ("z", 2)])
def test_boxes_stand_upright_on_the_axis_that_is_up(up, axis):
    """A brick that leans: upright, its box is higher along that axis than its own."""
    lean = Rotation.from_euler("xyz", [20, 25, 15], degrees=True)
    points = lean.apply(block((0, 0, 0), (0.6, 0.3, 0.2), 2000)).astype(np.float32)
    ids, colors, sure = np.ones(2000, int), np.zeros((2000, 3), np.uint8), np.zeros(2000)
    (found,) = describe([Track(1, 0, 0, 1, 1)], ids, points, colors, sure, up)
    axes = Rotation.from_quat(np.roll(found.box.quaternion_wxyz, -1)).as_matrix()
    assert axes[:, 2] == pytest.approx(np.eye(3)[axis], abs=1e-6)
    assert found.box.size[2] == pytest.approx(np.ptp(points[:, axis]), rel=0.02)
    (free,) = describe([Track(1, 0, 0, 1, 1)], ids, points, colors, sure, "none")
    assert np.sort(free.box.size) == pytest.approx([0.2, 0.3, 0.6], abs=0.02)


def test_an_object_is_written_with_all_that_is_known_of_it():
    box = OrientedBox(np.array([1.0, 2.0, 3.0]), np.array([0.5, -0.5, 0.5, 0.5]), np.array([0.6, 0.3, 0.2]))
    points, colors = np.zeros((3, 3), np.float32), np.full((3, 3), 9, np.uint8)
    item = MapObject(
        7, 5, 0.12345678, 0.98765432, 1.5, 9.25, 4, np.array([1.1, 2.1, 3.1]), box, np.array([1, 2, 3], np.uint8),
        points, colors,
    )  # fmt: skip
    assert json.loads(json.dumps(as_json(item))) == {
        "id": 7,
        "parent": 5,
        "confidence": 0.1235,
        "uncertainty": 0.9877,
        "first_seen": 1.5,
        "last_seen": 9.25,
        "views": 4,
        "points": 3,
        "centroid": [1.1, 2.1, 3.1],
        "box": {"center": [1.0, 2.0, 3.0], "quaternion_wxyz": [0.5, -0.5, 0.5, 0.5], "size": [0.6, 0.3, 0.2]},
        "color": [1, 2, 3],
    }


def test_the_parts_of_a_hierarchy_are_what_is_no_whole():
    points = np.concatenate([block((0, 0, k), (1, 1, 1), 20) for k in range(3)])
    tracks = [
        Track(1, 0, 1, 2, 1, parent=5),
        Track(2, 0, 1, 2, 1, parent=5),
        Track(3, 0, 1, 2, 1),
        Track(5, 0, 1, 2, 1),
    ]
    ids, colors = np.repeat([1, 2, 3], 20), np.zeros((60, 3), np.uint8)
    assert [item.id for item in parts(describe(tracks, ids, points, colors, np.zeros(60), "z"))] == [1, 2, 3]
