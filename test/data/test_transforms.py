"""Recorded transforms: interpolation, chains, and times and frames without an answer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from lift_ros.data.transforms import TransformTree
from lift_ros.errors import FrameRejected

S = 1_000_000_000
IDENTITY = (0.0, 0.0, 0.0, 1.0)


def about_z(degrees: float) -> tuple[float, float, float, float]:
    return tuple(Rotation.from_euler("z", degrees, degrees=True).as_quat())


def test_between_samples_translation_is_linear_and_rotation_slerped():
    tree = TransformTree()
    tree.add(10 * S, "map", "camera", (0, 0, 0), about_z(0))
    tree.add(11 * S, "map", "camera", (4, -2, 1), about_z(90))
    T = tree.lookup("map", "camera", 10 * S + S // 4)
    np.testing.assert_allclose(T[:3, 3], (1, -0.5, 0.25))
    np.testing.assert_allclose(T[:3, :3], Rotation.from_euler("z", 22.5, degrees=True).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(tree.lookup("map", "camera", 11 * S)[:3, 3], (4, -2, 1))


def test_chain_over_static_and_moving_frames_and_its_inverse():
    tree = TransformTree()
    tree.add(0, "base", "camera", (1, 0, 0), IDENTITY, static=True)
    tree.add(5 * S, "odom", "base", (0, 2, 0), about_z(90))
    tree.add(5 * S, "/map", "/odom", (0, 0, 3), IDENTITY)  # tf1 wrote leading slashes
    assert tree.ancestors("camera") == ["camera", "base", "odom", "map"]
    T = tree.lookup("map", "camera", 5 * S)
    np.testing.assert_allclose(T[:3, 3], (0, 3, 3), atol=1e-12)
    np.testing.assert_allclose(tree.lookup("camera", "map", 5 * S), np.linalg.inv(T), atol=1e-12)


@pytest.mark.parametrize("stamp", [9 * S, 12 * S, 20 * S])
def test_never_extrapolated_nor_bridged_over_long_gaps(stamp):
    tree = TransformTree()
    for t in (10, 11, 30):
        tree.add(t * S, "map", "camera", (t, 0, 0), IDENTITY)
    with pytest.raises(FrameRejected) as error:
        tree.lookup("map", "camera", stamp)
    assert error.value.reason == "pose_missing"


def test_samples_may_come_in_any_order():
    tree = TransformTree()
    for t in (3, 1, 2):
        tree.add(t * S, "map", "camera", (t, 0, 0), IDENTITY)
    assert tree.lookup("map", "camera", 5 * S // 2)[0, 3] == pytest.approx(2.5)


def test_a_frame_that_changes_its_parent():
    """A robot that is carried over to another map, 100 m away."""
    tree = TransformTree()
    tree.add(0, "map", "other_map", (100, 0, 0), IDENTITY, static=True)
    for second in range(4):
        tree.add(second * S, "map" if second < 2 else "other_map", "base", (second, 0, 0), IDENTITY)
    assert tree.lookup("map", "base", S // 2)[0, 3] == pytest.approx(0.5)
    assert tree.lookup("map", "base", 5 * S // 2)[0, 3] == pytest.approx(102.5)
    with pytest.raises(FrameRejected, match="goes over from 'map' to 'other_map'"):
        tree.lookup("map", "base", 3 * S // 2)
    assert tree.ancestors("base") == ["base", "other_map", "map"]
    assert tree.ancestors("base", S) == ["base", "map"]


def test_a_frame_that_is_recorded_as_static_is_so_at_all_times():
    tree = TransformTree()
    tree.add(S, "map", "base", (1, 0, 0), IDENTITY)
    tree.add(0, "map", "base", (7, 0, 0), IDENTITY, static=True)
    tree.add(2 * S, "map", "base", (2, 0, 0), IDENTITY)
    assert [tree.lookup("map", "base", second * S)[0, 3] for second in (0, 1, 4)] == [7, 7, 7]
    tree.forget_static("base")
    assert tree.lookup("map", "base", 3 * S // 2)[0, 3] == pytest.approx(1.5)


def test_frames_that_are_not_connected():
    tree = TransformTree()
    tree.add(0, "map", "base", (0, 0, 0), IDENTITY)
    tree.add(0, "world", "camera", (0, 0, 0), IDENTITY)
    with pytest.raises(FrameRejected, match="no transform connects 'camera' to 'map'"):
        tree.lookup("map", "camera", 0)


def test_bad_samples_are_dropped_and_counted():
    tree = TransformTree()
    tree.add(1 * S, "map", "camera", (1, 0, 0), IDENTITY)
    tree.add(2 * S, "map", "camera", (np.nan, 0, 0), IDENTITY)
    tree.add(2 * S, "map", "camera", (9, 0, 0), (0, 0, 0, np.inf))
    tree.add(2 * S, "map", "camera", (9, 0, 0), (0, 0, 0, 0))
    tree.add(2 * S, "map", "camera", (9, 0, 0), (0, 0, 0.5, 1.5))
    tree.add(3 * S, "map", "camera", (3, 0, 0), IDENTITY)
    assert tree.rejected == {"pose_not_finite": 2, "pose_not_rigid": 2}
    assert tree.lookup("map", "camera", 2 * S)[0, 3] == pytest.approx(2.0)


def test_old_samples_can_be_forgotten_but_static_ones_stay():
    tree = TransformTree()
    tree.add(0, "base", "camera", (1, 0, 0), IDENTITY, static=True)
    for t in (1, 2, 3):
        tree.add(t * S, "map", "base", (t, 0, 0), IDENTITY)
    tree.forget(before_ns=2 * S)
    assert tree.lookup("map", "camera", 5 * S // 2)[0, 3] == pytest.approx(3.5)
    with pytest.raises(FrameRejected):
        tree.lookup("map", "camera", 3 * S // 2)
    tree.forget()
    assert tree.ancestors("camera") == ["camera", "base"]
