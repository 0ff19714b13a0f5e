"""Boxes around sampled boxes of known pose, with stray points, and around degenerate sets."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lift_ros.objects.boxes import main_body, oriented_box

SIZE = np.array([0.6, 0.35, 0.2])
CENTER = np.array([3.0, -2.0, 40.0])
UP = np.array([0.0, 0.0, 1.0])


def sampled_box(rotation: Rotation, n: int, rng: np.random.Generator, size: np.ndarray = SIZE) -> np.ndarray:
    """n points on the surface of a box, as a depth camera that walks round it would give."""
    faces = rng.integers(0, 3, n)
    points = rng.uniform(-0.5, 0.5, (n, 3))
    points[np.arange(n), faces] = rng.choice([-0.5, 0.5], n)
    return rotation.apply(points * size) + CENTER


def with_outliers(points: np.ndarray, rng: np.random.Generator, share: float = 0.02) -> np.ndarray:
    """Replace 2 % of the points by strays up to a metre away, half of them in one tight clump."""
    points = points.copy()
    stray = rng.choice(len(points), int(share * len(points)), replace=False)
    points[stray] = CENTER + rng.uniform(-1, 1, (len(stray), 3))
    clump = stray[: len(stray) // 2]
    points[clump] = CENTER + np.array([0.9, 0.9, 0.9]) + rng.normal(scale=0.01, size=(len(clump), 3))
    return points


def misalignment(box, rotation: Rotation) -> float:
    """Largest angle in degrees between a box axis and the nearest true axis of either sign."""
    cosines = np.abs(box.axes.T @ rotation.as_matrix()).max(1)
    return float(np.degrees(np.arccos(np.minimum(cosines, 1)).max()))


@pytest.mark.parametrize("yaw", [0, 17, 45, 60, 133, -80])
def test_box_with_gravity(yaw):
    rng = np.random.default_rng(yaw + 100)
    turn = Rotation.from_euler("z", yaw, degrees=True)
    box = oriented_box(with_outliers(sampled_box(turn, 2000, rng), rng), UP)
    np.testing.assert_allclose(box.size, SIZE, atol=0.012)
    np.testing.assert_allclose(box.center, CENTER, atol=0.008)
    assert misalignment(box, turn) < 1.5
    np.testing.assert_allclose(box.axes[:, 2], UP, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_box_without_gravity(seed):
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=seed)
    box = oriented_box(with_outliers(sampled_box(turn, 2000, rng), rng))
    np.testing.assert_allclose(box.size, SIZE, atol=0.015)
    np.testing.assert_allclose(box.center, CENTER, atol=0.01)
    assert misalignment(box, turn) < 2.5


def test_a_cube_has_no_principal_axes_but_faces():
    rng = np.random.default_rng(3)
    turn = Rotation.random(random_state=3)
    box = oriented_box(sampled_box(turn, 3000, rng, np.full(3, 0.3)))
    np.testing.assert_allclose(box.size, 0.3, atol=0.008)
    assert misalignment(box, turn) < 2


def test_a_body_whose_principal_axes_are_normal_to_no_face_has_a_small_box_too():
    """Smaller than any of as many boxes as can be tried, also where the search from principal axes alone ends early."""
    turns = Rotation.random(20_000, random_state=0).as_matrix()
    for seed in range(10):
        corners = np.random.default_rng(seed).uniform(-1, 1, (7, 3))
        box = oriented_box(corners)
        assert box.size.prod() <= np.ptp(corners @ turns, axis=1).prod(axis=1).min()


def test_gravity_in_any_direction_is_kept():
    rng = np.random.default_rng(5)
    turn = Rotation.random(random_state=5)
    up = -3 * turn.as_matrix()[:, 2]
    box = oriented_box(sampled_box(turn, 2000, rng), up)
    np.testing.assert_allclose(box.axes[:, 2], up / 3, atol=1e-9)
    np.testing.assert_allclose(box.size, SIZE, atol=0.01)


@pytest.mark.parametrize("up", [None, UP])
def test_axes_are_right_handed_ordered_and_do_not_depend_on_the_order_of_the_points(up):
    rng = np.random.default_rng(7)
    points = sampled_box(Rotation.from_euler("z", 200, degrees=True), 500, rng)
    box = oriented_box(points, up)
    shuffled = oriented_box(rng.permutation(points), up)
    for one, other in zip(box, shuffled, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)
    axes = box.axes
    assert np.linalg.det(axes) == pytest.approx(1)
    w, x, y, z = box.quaternion_wxyz
    assert w >= 0
    np.testing.assert_allclose(axes, Rotation.from_quat([x, y, z, w]).as_matrix())
    assert box.size[0] >= box.size[1]
    assert axes[np.abs(axes[:, 0]).argmax(), 0] > 0


@pytest.mark.parametrize("up", [None, UP])
def test_every_kept_point_is_inside_and_touches(up):
    rng = np.random.default_rng(11)
    points = sampled_box(Rotation.random(random_state=11), 800, rng)
    box = oriented_box(points, up)
    local = (main_body(points) - box.center) @ box.axes
    np.testing.assert_allclose(np.abs(local).max(0), box.size / 2, atol=1e-9)


def test_a_sparsely_sampled_part_is_not_stray():
    rng = np.random.default_rng(13)
    dense = rng.uniform((0, 0, 0), (0.2, 0.2, 0.2), (2000, 3))
    sparse = rng.uniform((0.2, 0, 0), (1.0, 0.2, 0.2), (300, 3))  # 27 times thinner
    box = oriented_box(np.concatenate([dense, sparse]), UP)
    assert box.size[0] > 0.95


def test_stray_points_in_a_clump_and_alone_are_left_out():
    rng = np.random.default_rng(17)
    clean = sampled_box(Rotation.identity(), 1000, rng)
    kept = main_body(with_outliers(clean, rng))
    assert np.abs(kept - CENTER).max() < 0.4
    assert len(kept) >= 0.96 * len(clean)


@pytest.mark.parametrize("bridge", [0, 4, 5])
def test_what_is_nothing_but_clumps_is_boxed_whole(bridge):
    """None of 25 clumps along 2.4 m has a twentieth of the points; the points between two of them may link some."""
    rng = np.random.default_rng(0)
    clumps = [rng.normal((0.1 * k, 0, 0), 0.005, (20, 3)) for k in range(25)]
    between = [[(0.1 * k + 0.1 * (j + 1) / (bridge + 1), 0, 0) for j in range(bridge)] for k in range(24)]
    points = np.concatenate([*clumps, np.reshape(between, (-1, 3))])
    assert oriented_box(points, (0, 0, 1)).size[0] == pytest.approx(2.4, abs=0.05)


def test_many_points_are_no_problem():
    rng = np.random.default_rng(19)
    box = oriented_box(sampled_box(Rotation.identity(), 60_000, rng), UP)
    np.testing.assert_allclose(box.size, SIZE, atol=0.01)


@pytest.mark.parametrize("up", [None, UP, np.array([1.0, 2.0, 3.0])])
@pytest.mark.parametrize(
    ("points", "size"),
    [
        ([[1, 2, 3]], [0, 0, 0]),
        ([[1, 2, 3]] * 30, [0, 0, 0]),
        ([[1, 2, 3], [1, 2, 3.5]], [0.5, 0, 0]),
    ],
)
def test_one_place_or_two(points, size, up):
    box = oriented_box(np.array(points, float), up)
    assert np.linalg.norm(box.size) == pytest.approx(np.linalg.norm(size), abs=1e-6)
    np.testing.assert_allclose(box.center, np.mean(np.unique(points, axis=0), axis=0), atol=1e-6)
    assert np.linalg.norm(box.quaternion_wxyz) == pytest.approx(1)


@pytest.mark.parametrize("direction", [[1, 0, 0], [0, 0, 1], [1, -2, 0.5]])
def test_a_line(direction):
    direction = np.array(direction) / np.linalg.norm(direction)
    points = np.linspace(-0.5, 0.5, 50)[:, None] * direction + CENTER
    box = oriented_box(points)
    np.testing.assert_allclose(box.size, [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(box.center, CENTER, atol=1e-6)
    assert abs(box.axes[:, 0] @ direction) == pytest.approx(1)
    lifted = oriented_box(points, UP)
    np.testing.assert_allclose(sorted(lifted.size), sorted([np.hypot(*direction[:2]), 0, abs(direction[2])]), atol=1e-6)


def test_a_plane():
    rng = np.random.default_rng(23)
    turn = Rotation.random(random_state=23)
    grid = np.stack(np.meshgrid(np.linspace(0, 0.8, 30), np.linspace(0, 0.5, 20)), -1).reshape(-1, 2)
    points = turn.apply(np.concatenate([grid, np.zeros((600, 1))], axis=1)) + CENTER
    box = oriented_box(rng.permutation(points))
    np.testing.assert_allclose(box.size, [0.8, 0.5, 0], atol=1e-5)
    assert misalignment(box, turn) < 0.01
    assert oriented_box(points, turn.as_matrix()[:, 0]).size[2] == pytest.approx(0.8)  # the plane stands upright


@pytest.mark.parametrize(
    ("points", "up", "message"),
    [
        (np.empty((0, 3)), None, r"n > 0, got shape \(0, 3\)"),
        (np.zeros((4, 2)), None, r"got shape \(4, 2\)"),
        (np.full((3, 3), np.nan), None, "NaN or infinity"),
        (np.zeros((3, 3)), np.zeros(3), "non-zero length"),
    ],
)
def test_bad_input(points, up, message):
    with pytest.raises(ValueError, match=message):
        oriented_box(points, up)


def test_the_axes_of_a_box_have_the_signs_that_are_promised():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        box = oriented_box(sampled_box(Rotation.random(random_state=seed), 300, rng))
        x, y, _ = box.axes.T
        assert box.quaternion_wxyz[0] >= 0
        assert x[np.abs(x).argmax()] > 0 and y[np.abs(y).argmax()] > 0
        upright = oriented_box(sampled_box(Rotation.random(random_state=seed), 300, rng), -UP)
        assert upright.quaternion_wxyz[0] >= 0


def test_the_same_points_give_the_same_box_however_many_there_are():
    points = sampled_box(Rotation.random(random_state=1), 20_000, np.random.default_rng(1))
    for up in (None, UP):
        for one, other in zip(oriented_box(points, up), oriented_box(points, up), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_stray_point_that_is_there_many_times_is_one_stray_point():
    clean = sampled_box(Rotation.identity(), 500, np.random.default_rng(2))
    stray = np.repeat(CENTER[None] + 2.0, 100, axis=0)
    np.testing.assert_allclose(oriented_box(np.concatenate([clean, stray]), UP).size, SIZE, atol=0.02)
