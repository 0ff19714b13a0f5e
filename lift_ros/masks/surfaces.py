"""Surfaces of a depth image: normals, and the planes that bound the scene."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

DEPTH_NOISE = 0.002  # standard deviation at 1 m, in m, growing with z^2: structured light and stereo (Khoshelham 2012)


@dataclass(frozen=True)
class Plane:
    """Points x with normal . x = offset, the normal towards the camera at the origin; ``noise``: as ``DEPTH_NOISE``."""

    normal: NDArray[np.float32]
    offset: float
    noise: float

    def height(self, points: NDArray) -> NDArray:
        """(..., 3) points -> signed distance, positive on the camera's side."""
        return points @ self.normal - self.offset

    def holds(self, points: NDArray) -> NDArray[np.bool_]:
        """(..., 3) points -> which of them lie on the plane, within four deviations of its noise and at least 4 mm."""
        return np.abs(self.height(points)) < np.maximum(4 * self.noise * points[..., 2] ** 2, 0.004)


def estimate_normals(points: NDArray[np.float32], radius: int = 3) -> NDArray[np.float32]:
    """Unit normals towards the camera of an organised point cloud.

    Cross products of differences of smoothed points; where a point's two neighbours along an axis disagree in depth,
    an edge is between, and only the nearer neighbour is used.

    Args:
        points: (H, W, 3) in the camera frame, z = 0 where unknown.
        radius: pixels to the neighbours.

    Returns:
        (H, W, 3), arbitrary where the depth is unknown.
    """
    size = (radius, radius)
    known = (points[..., 2] > 0).astype(np.float32)
    smooth = cv2.blur(points * known[..., None], size) / np.maximum(cv2.blur(known, size), 1e-6)[..., None]
    normals = _unit(np.cross(_difference(smooth, radius, 0), _difference(smooth, radius, 1)))
    return _unit(cv2.blur(normals * known[..., None], size))


def _difference(points: NDArray[np.float32], radius: int, axis: int) -> NDArray[np.float32]:
    """Central differences along ``axis``, one-sided at edges in depth and at the border."""
    points = np.moveaxis(points, axis, 0)
    step = points[radius:] - points[:-radius]
    forward = np.concatenate([step, step[-radius:]])[: len(points)]
    backward = np.concatenate([step[:radius], step])[-len(points) :]
    rise_f, rise_b = np.abs(forward[..., 2:]), np.abs(backward[..., 2:])
    one_sided = np.where(rise_f < rise_b, forward, backward)
    agree = 2 * np.minimum(rise_f, rise_b) > np.maximum(rise_f, rise_b)
    return np.moveaxis(np.where(agree, forward + backward, one_sided), 0, axis)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def bounding_planes(
    points: NDArray[np.float32], normals: NDArray[np.float32], min_share: float = 0.05, max_behind: float = 0.02
) -> list[Plane]:
    """Floor, walls and ceiling: the large planes that nothing lies behind.

    A table top is as large as a floor in the image, but the floor is seen below it: that tells them apart at any
    distance, which size does not, so the same surface is background in one view and in the next.

    Args:
        points, normals: (H, W, 3) in the camera frame, z = 0 where unknown.
        min_share: share of the known points a plane must hold.
        max_behind: share of the known points that may lie behind it.

    Returns:
        Planes by falling number of points, found by sequential RANSAC with a fixed seed.
    """
    stride = max(1, round(points.shape[1] / 80))
    points, normals = points[::stride, ::stride].reshape(-1, 3), normals[::stride, ::stride].reshape(-1, 3)
    known = points[:, 2] > 0
    points, normals = points[known], normals[known]
    tolerance = 0.004 + 2 * DEPTH_NOISE * points[:, 2] ** 2
    left = np.ones(len(points), bool)
    rng = np.random.default_rng(0)
    planes: list[Plane] = []
    for _ in range(6):
        rest = np.flatnonzero(left)
        if len(rest) < max(min_share * len(points), 10):
            break
        seeds = rng.choice(rest, min(200, len(rest)), replace=False)
        distance = np.abs(normals[seeds] @ points[rest].T - (normals[seeds] * points[seeds]).sum(1)[:, None])
        votes = ((distance < tolerance[rest]) & (normals[seeds] @ normals[rest].T > 0.8)).sum(1)
        normal = normals[seeds[votes.argmax()]]
        offset = normal @ points[seeds[votes.argmax()]]
        for _ in range(4):
            held = left & (np.abs(points @ normal - offset) < tolerance) & (normals @ normal > 0.8)
            if np.count_nonzero(held) < 3:
                break
            centre = points[held].mean(0)
            normal = np.linalg.eigh(np.cov((points[held] - centre).T))[1][:, 0].astype(np.float32)
            normal = -normal if normal @ centre > 0 else normal
            offset = normal @ centre
        if np.count_nonzero(held) < max(min_share * len(points), 3):
            break
        height = points @ normal - offset
        noise = 1.4826 * np.median(np.abs(height[held]) / points[held, 2] ** 2)
        behind = height < -np.maximum(6 * noise * points[:, 2] ** 2, 0.03)
        if np.count_nonzero(behind) <= max_behind * len(points):
            planes.append(Plane(normal, float(offset), float(noise)))
        left &= np.abs(height) > 1.5 * tolerance
    return planes
