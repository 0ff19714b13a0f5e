from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lift_ros.objects.boxes import OrientedBox
from lift_ros.objects.queries import along_ray, at_point, in_box

UNTURNED = np.array([1.0, 0.0, 0.0, 0.0])


def block(i, center, size, quaternion=UNTURNED):
    """An object that fills a box evenly."""
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 6)] * 3), -1).reshape(-1, 3) * size
    w, x, y, z = quaternion
    center = np.asarray(center, float)
    points = Rotation.from_quat([x, y, z, w]).apply(grid) + center
    return SimpleNamespace(id=i, centroid=center, box=OrientedBox(center, quaternion, np.asarray(size)), points=points)


OBJECTS = [block(1, (0, 0, 2), (1, 1, 1)), block(2, (0, 0, 5), (1, 1, 1)), block(3, (4, 0, 2), (1, 1, 0))]


def test_the_object_whose_box_holds_a_point():
    assert at_point(OBJECTS, (0.4, 0, 2), 0.1) == [(1, pytest.approx(0.4))]
    assert [i for i, _ in at_point(OBJECTS, (4.2, 0.1, 2.0), 0.1)] == [3]


def test_near_a_point_only_the_nearest_object_and_only_within_the_radius():
    assert at_point(OBJECTS, (0.5, 0.1, 2.6), 0.2) == [(1, pytest.approx(0.1))]
    assert at_point(OBJECTS, (0.5, 0.1, 2.6), 0.05) == []


def test_of_nested_boxes_the_nearer_centroid_comes_first():
    big = block(9, (0.3, 0, 2), (3, 3, 3))
    assert [i for i, _ in at_point([big, *OBJECTS], (0, 0, 2), 0.1)] == [1, 9]


def test_a_turned_box_holds_what_lies_in_it():
    half = np.sqrt(0.5)
    turned = block(4, (0, 0, 0), (2, 0.2, 0.2), np.array([half, 0, 0, half]))  # a quarter turn about z
    assert at_point([turned], (0, 0.9, 0), 0.0) and not at_point([turned], (0.9, 0, 0), 0.0)
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    inside, outside = block(5, (0, 0.8, 0), (0.1, 0.1, 0.1)), block(6, (0.8, 0, 0), (0.1, 0.1, 0.1))
    assert in_box([inside, outside], T, (2, 0.2, 0.2)) == [(5, 0.0)]


def test_in_a_box_the_greatest_share_comes_first():
    T = np.eye(4)
    T[2, 3] = 2.0
    assert [i for i, _ in in_box(OBJECTS, T, (7.5, 1.1, 1.1))] == [1, 3]
    assert in_box(OBJECTS, T, (0.01, 0.01, 0.01)) == []


def test_a_flat_object_is_in_its_own_box():
    flat = OBJECTS[2]
    T = np.eye(4)
    T[:3, 3] = flat.box.center
    assert in_box([flat], T, flat.box.size) == [(3, 0.0)]


def test_what_lies_on_a_flat_object_is_in_its_box_however_it_is_turned():
    """Rounding must not push it out."""
    rng = np.random.default_rng(0)
    for seed in range(5):
        x, y, z, w = Rotation.random(random_state=seed).as_quat()
        flat = block(8, (30, -20, 10), (1, 1, 0), np.array([w, x, y, z]))
        corners = flat.points[[0, -1]]
        for share in rng.uniform(0.02, 0.18, 10):  # between two of its points
            point = corners[0] + share * (corners[1] - corners[0])
            assert at_point([flat], point, 0.0) == [(8, pytest.approx(np.linalg.norm(point - flat.centroid)))]


def test_along_a_ray_the_nearest_comes_first_and_nothing_behind_it():
    assert along_ray(OBJECTS, (0, 0, 0), (0, 0, 7), 0.2) == [(1, pytest.approx(1.5)), (2, pytest.approx(4.5))]
    assert along_ray(OBJECTS, (0, 0, 0), (0, 0, -1), 0.2) == []


@pytest.mark.parametrize("direction", [(0, 0, 0), (np.nan, 0, 1)])
def test_a_ray_without_direction(direction):
    with pytest.raises(ValueError, match="direction"):
        along_ray(OBJECTS, (0, 0, 0), direction, 0.1)


@pytest.mark.parametrize("where", [(np.nan, 0, 0), (0, np.inf, 0)])
def test_no_place_is_not_a_free_one(where):
    T = np.eye(4)
    T[:3, 3] = where
    for query in (
        lambda: at_point(OBJECTS, where, 0.1),
        lambda: along_ray(OBJECTS, where, (0, 0, 1), 0.1),
        lambda: in_box(OBJECTS, T, (1, 1, 1)),
    ):
        with pytest.raises(ValueError, match="finite"):
            query()


@pytest.mark.parametrize("radius", [np.nan, -0.1])
def test_a_radius_that_is_none(radius):
    with pytest.raises(ValueError, match="radius"):
        at_point(OBJECTS, (0, 0, 2), radius)
    with pytest.raises(ValueError, match="radius"):
        along_ray(OBJECTS, (0, 0, 0), (0, 0, 1), radius)


@pytest.mark.parametrize("size", [(0, 0, 0), (1, -1, 1), (np.inf, 1, 1)])
def test_a_box_without_size(size):
    with pytest.raises(ValueError, match="size"):
        in_box(OBJECTS, np.eye(4), size)


def test_near_a_point_between_two_objects_only_the_nearer_is_meant():
    assert at_point(OBJECTS, (0, 0, 3.4), 5.0) == [(1, pytest.approx(np.hypot(0.9, np.hypot(0.1, 0.1)), abs=1e-6))]
    assert [i for i, _ in at_point(OBJECTS, (0, 0, 3.6), 5.0)] == [2]
