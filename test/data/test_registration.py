"""Depth brought to the pixels of the colour camera."""

from __future__ import annotations

import numpy as np

from lift_ros.camera import Camera
from lift_ros.data.registration import register_depth, resample_depth

COLOR = Camera(32, 24, 30.0, 30.0, 16.0, 12.0)


def test_cameras_in_one_place_see_the_same_directions():
    depth_camera = Camera(16, 10, 14.0, 16.0, 8.5, 5.0)
    depth = np.arange(1, 161, dtype=np.float32).reshape(10, 16)
    seen = resample_depth(depth, depth_camera, COLOR)
    assert seen.shape == (24, 32)
    for u, v in ((16, 12), (10, 6), (25, 15)):
        x, y = (u + 0.5 - COLOR.cx) / COLOR.fx, (v + 0.5 - COLOR.cy) / COLOR.fy
        column, row = int(x * depth_camera.fx + depth_camera.cx), int(y * depth_camera.fy + depth_camera.cy)
        assert seen[v, u] == depth[row, column]
    assert not seen[0].any() and seen[12].all()  # its field of view is lower than that of the image, and wider


def test_measurements_go_where_they_are_seen_from_elsewhere():
    depth_camera = Camera(64, 48, 80.0, 80.0, 32.0, 24.0)
    T = np.eye(4)
    T[0, 3] = -0.1  # the depth camera is 0.1 m to the left of the colour camera
    depth = np.full((48, 64), 2.0, np.float32)
    depth[:, 32:] = 1.0
    depth[0] = 0
    seen = register_depth(depth, depth_camera, COLOR, T)
    assert set(np.unique(seen)) == {0.0, 1.0, 2.0}
    # the edge at the middle of the depth image lies at x = 0 there, so at -0.1 m here: 3 pixels to the left at 1 m,
    # and 1.5 pixels at 2 m, where the near side hides it
    assert seen[12, 12] == 2.0 and (seen[12, 13:19] == 1.0).all()
    assert not register_depth(np.zeros_like(depth), depth_camera, COLOR, T).any()
