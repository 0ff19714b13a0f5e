from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scene import rooms

from lift_ros.scene.features import detect, epipolar_error, triangulate


@pytest.mark.parametrize("unit", [1.0, 0.01])
def test_points_lie_where_the_world_is(unit):
    a, b = rooms.view(-0.3, unit=unit), rooms.view(0.3, yaw=-0.1, unit=unit)
    points, pixels = triangulate(a, detect(a.image), b, detect(b.image))
    assert len(points) > 20
    truth = a.depth[pixels[:, 1].astype(int), pixels[:, 0].astype(int)]
    assert np.median(np.abs(points[:, 2] - truth) / truth) < 0.02


def test_no_feature_has_two_depths_where_a_pattern_repeats():
    a, b = rooms.view(-0.3), rooms.view(0.3)  # moved along x: all copies lie on the same epipolar lines
    pattern = (255 * rooms.texture(7)[:72, :32]).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 1, a.image.shape)
    repeated = np.clip(np.tile(pattern, (1, 3, 1)) + noise, 0, 255).astype(np.uint8)
    once = np.full_like(b.image, 128)
    once[:, :27] = pattern[:, 5:]
    points, _ = triangulate(replace(a, image=repeated), detect(repeated), replace(b, image=once), detect(once))
    assert len(points) > 3
    pixels, z = b.camera.project(points - b.T_world_camera[:3, 3])
    same = np.linalg.norm(pixels[:, None] - pixels, axis=2) < 1
    assert not (same & (np.abs(z[:, None] - z) > 0.1 * z)).any()


def test_a_wrong_pose_leaves_no_points():
    a, b = rooms.view(-0.3), rooms.view(0.3)
    T = b.T_world_camera.copy()
    T[1, 3] += 2.0
    assert len(triangulate(a, detect(a.image), replace(b, T_world_camera=T), detect(b.image))[0]) <= 3


def test_no_baseline_no_points():
    a = rooms.view(0.0)
    assert len(triangulate(a, detect(a.image), a, detect(a.image))[0]) == 0


def test_a_blank_image_has_no_features():
    a = rooms.view(0.0)
    blank = replace(a, image=np.zeros_like(a.image))
    assert len(triangulate(a, detect(a.image), blank, detect(blank.image))[0]) == 0


def test_epipolar_error_is_a_distance_in_pixels():
    a, b = rooms.view(-0.2), rooms.view(0.2)  # moved along x: epipolar lines are rows
    pixels = np.array([[20.0, 30.0], [60.0, 50.0]])
    off = np.array([[5.0, 0.0], [9.0, 3.0]])
    # the Sampson distance shares the error between both images
    assert np.allclose(epipolar_error(a, b, pixels, pixels + off), np.array([0, 3]) / np.sqrt(2))


def test_what_is_ignored_has_no_features():
    frame = rooms.view(0.0)
    ignored = np.zeros(frame.image.shape[:2], bool)
    ignored[:, :40] = True
    assert (detect(frame.image).pixels[:, 0] < 30).any()
    left = detect(frame.image, ignored).pixels
    assert len(left) > 10 and (left[:, 0] > 39).all()
