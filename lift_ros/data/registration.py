"""Depth as the colour camera sees it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lift_ros.camera import Camera


def resample_depth(depth: NDArray[np.float32], depth_camera: Camera, camera: Camera) -> NDArray[np.float32]:
    """Depth of a camera in the same place as ``camera`` but with other intrinsics, at the pixels of ``camera``.

    Args:
        depth: (h, w) z-depth seen by ``depth_camera``.

    Returns:
        (H, W) the nearest measurement, 0 where ``depth_camera`` does not see.
    """
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    column = np.floor(x * depth_camera.fx + depth_camera.cx).astype(int)
    row = np.floor(y * depth_camera.fy + depth_camera.cy).astype(int)
    seen = ((row >= 0) & (row < depth_camera.height))[:, None] & (column >= 0) & (column < depth_camera.width)
    nearest = depth[row.clip(0, depth_camera.height - 1)[:, None], column.clip(0, depth_camera.width - 1)]
    return np.where(seen, nearest, np.float32(0))


def register_depth(
    depth: NDArray[np.float32], depth_camera: Camera, camera: Camera, T_camera_depth: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Depth of a camera elsewhere, at the pixels of ``camera``: each measurement goes to the pixel it falls on.

    Args:
        depth: (h, w) z-depth seen by ``depth_camera``, 0 unknown.
        T_camera_depth: (4, 4) pose of the depth camera in the frame of ``camera``.

    Returns:
        (H, W) z-depth, the nearest surface where several fall on a pixel, 0 where none does.
    """
    points = depth_camera.unproject(depth)[depth > 0] @ T_camera_depth[:3, :3].T + T_camera_depth[:3, 3]
    points = points[points[:, 2] > 0]
    pixels, z = camera.project(points)
    column, row = np.floor(pixels).astype(int).T
    inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    column, row, z = column[inside], row[inside], z[inside]
    far_to_near = np.argsort(-z)
    registered = np.zeros((camera.height, camera.width), np.float32)
    registered[row[far_to_near], column[far_to_near]] = z[far_to_near]  # of several, the last assignment stays
    return registered
