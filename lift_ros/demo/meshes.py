"""Textured triangle meshes of simple shapes. Metres; z up; objects stand on z = 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Mesh:
    """Triangles by corner: ``corners`` (F, 3, 3), unit ``normals`` (F, 3, 3), texture coordinates ``uv`` (F, 3, 2)."""

    corners: NDArray[np.float64]
    normals: NDArray[np.float64]
    uv: NDArray[np.float64]

    def transformed(self, T: NDArray) -> Mesh:
        """Under a rigid transform (4, 4)."""
        R = T[:3, :3]
        return Mesh(self.corners @ R.T + T[:3, 3], self.normals @ R.T, self.uv)

    def moved(self, x: float, y: float, z: float) -> Mesh:
        """Shifted."""
        return Mesh(self.corners + (x, y, z), self.normals, self.uv)


def revolve(profile: ArrayLike, segments: int = 40, smooth: bool = True) -> Mesh:
    """Surface of a profile (P, 2) of (radius, height) turned round z.

    u runs once round, v from 1 at the start of the profile to 0 at its end: textures stand upright on profiles that
    go up.
    """
    profile = np.asarray(profile, np.float64)
    steps = np.linalg.norm(np.diff(profile, axis=0), axis=1)
    v = 1.0 - np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    angle = np.linspace(0.0, 2 * np.pi, segments + 1)
    radial = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    points = np.empty((len(profile), segments + 1, 3))
    points[..., :2] = profile[:, None, :1] * radial
    points[..., 2] = profile[:, None, 1]
    uv = np.stack(np.meshgrid(angle / (2 * np.pi), v), axis=-1)
    return _grid(points, uv, smooth)


def tube(path: ArrayLike, radius: ArrayLike, segments: int = 16) -> Mesh:
    """Round tube along ``path`` (P, 3) with one radius or one per point; open ends unless the radius goes to 0."""
    path = np.asarray(path, np.float64)
    radius = np.broadcast_to(np.asarray(radius, np.float64), len(path))
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # a fixed side direction is enough for paths in a plane: the plane's normal
    side = np.cross(tangent[0], tangent[-1])
    if np.linalg.norm(side) < 1e-6:
        side = np.cross(tangent[0], (0.0, 0.0, 1.0) if abs(tangent[0, 2]) < 0.9 else (1.0, 0.0, 0.0))
    side /= np.linalg.norm(side)
    up = np.cross(side, tangent)
    angle = np.linspace(0.0, 2 * np.pi, segments + 1)[None, :, None]
    points = path[:, None] + radius[:, None, None] * (np.cos(angle) * side + np.sin(angle) * up[:, None])
    uv = np.stack(np.meshgrid(np.linspace(0, 1, segments + 1), np.linspace(0, 1, len(path))), axis=-1)
    return _grid(points, uv, smooth=True)


def box(x: float, y: float, z: float) -> Mesh:
    """Box standing on z = 0. The texture is a 3 x 2 sheet: front, right, back above left, top, bottom."""
    corner = np.array([x, y, z]) / 2
    faces = []
    sides = [  # (normal, right, up) as seen from outside
        ((0, -1, 0), (1, 0, 0), (0, 0, 1)), ((1, 0, 0), (0, 1, 0), (0, 0, 1)), ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
        ((-1, 0, 0), (0, -1, 0), (0, 0, 1)), ((0, 0, 1), (1, 0, 0), (0, 1, 0)), ((0, 0, -1), (1, 0, 0), (0, -1, 0)),
    ]  # fmt: skip
    for index, (normal, right, up) in enumerate(np.array(sides, np.float64)):
        cell = np.array([index % 3, index // 3])
        faces.append(quad((normal - right - up) * corner, 2 * right * corner, 2 * up * corner, cell, cell + 1.0))
    scale = np.array([3.0, 2.0])
    return Mesh(
        np.concatenate([face.corners for face in faces]) + (0, 0, z / 2),
        np.concatenate([face.normals for face in faces]),
        np.concatenate([face.uv for face in faces]) / scale,
    )


def quad(
    origin: ArrayLike, right: ArrayLike, up: ArrayLike, uv_from: ArrayLike = (0, 0), uv_to: ArrayLike = (1, 1)
) -> Mesh:
    """Parallelogram whose front shows ``uv_from`` at its upper left and ``uv_to`` at its lower right."""
    origin, right, up = (np.asarray(vector, np.float64) for vector in (origin, right, up))
    (u0, v0), (u1, v1) = np.asarray(uv_from, np.float64), np.asarray(uv_to, np.float64)
    points = np.array([[origin + up, origin + up + right], [origin, origin + right]])
    return _grid(points, np.array([[[u0, v0], [u1, v0]], [[u0, v1], [u1, v1]]]), smooth=False)


def merge(meshes: list[Mesh]) -> Mesh:
    """One mesh of several that share a texture."""
    return Mesh(*(np.concatenate([getattr(mesh, name) for mesh in meshes]) for name in ("corners", "normals", "uv")))


def _grid(points: NDArray, uv: NDArray, smooth: bool) -> Mesh:
    """Two triangles for each cell of a grid of points (M, N, 3) with texture coordinates (M, N, 2)."""

    def cells(grid: NDArray) -> NDArray:
        a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]
        return np.stack([a, c, b, b, c, d], axis=2).reshape(-1, 3, grid.shape[2])

    corners = cells(points)
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(flat, axis=1)
    keep = area > 1e-12  # the tips of cones and spheres
    normals = np.repeat((flat / np.maximum(area, 1e-12)[:, None])[:, None], 3, axis=1)
    if smooth:
        normals = _smoothed(corners, flat, normals)
    return Mesh(corners[keep], normals[keep], cells(uv)[keep])


def _smoothed(corners: NDArray, weighted: NDArray, normals: NDArray, crease: float = 0.6) -> NDArray:
    """Normals averaged over the triangles that meet at a point, where they differ by less than ``crease`` (cosine)."""
    _, point = np.unique(np.round(corners.reshape(-1, 3), 7), axis=0, return_inverse=True)
    point = point.reshape(-1)
    total = np.zeros((point.max() + 1, 3))
    np.add.at(total, point, np.repeat(weighted, 3, axis=0))
    mean = total[point] / np.maximum(np.linalg.norm(total[point], axis=1, keepdims=True), 1e-12)
    mean = mean.reshape(normals.shape)
    agree = (mean * normals).sum(-1, keepdims=True) > crease
    return np.where(agree, mean, normals)
