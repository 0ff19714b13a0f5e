"""Sources of new Gaussians: a depth image, a sparse cloud, or random depths."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lift_ros.frame import Frame
from lift_ros.render import Rendering
from lift_ros.scene.gaussians import Seeds

SEED_OPACITY = 0.8
FAINT_OPACITY = 0.2  # of seeds that are guesses: training moves or removes what it cannot confirm
NEAR_SURFACE = 0.05  # share of the depth within which a Gaussian belongs to the surface that is seen
JUMP = 0.04  # step between neighbouring pixels, as a share of the depth, that hardly any surface has
FLATNESS = 0.2  # thickness of a seed along its normal, as a share of its radius
MAX_SLANT = 4.0  # how much a seed may be stretched on a surface seen at a grazing angle


def unexplained(frame: Frame, rendering: Rendering, min_alpha: float, depth_error: float) -> NDArray[np.bool_]:
    """(H, W) pixels of ``frame`` that the scene does not explain.

    That is where its alpha is below ``min_alpha``, or its depth differs from that of the frame by more than the share
    ``depth_error``; four times that where the scene is in front, since training removes fringes around objects. Pixels
    that are ignored need no explanation.
    """
    alpha = rendering.alpha.cpu().numpy()
    missing = alpha < min_alpha
    if frame.depth is not None:
        rendered = rendering.depth.cpu().numpy()
        with np.errstate(invalid="ignore"):
            error = (rendered - frame.depth) / np.maximum(frame.depth, 1e-12)
        missing |= (frame.depth > 0) & ((error > depth_error) | (error < -4 * depth_error))
    return missing if frame.ignored is None else missing & ~frame.ignored


def near_jumps(depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(H, W) pixels within two of a jump of the ``depth`` (0 unknown): where seeds must be small not to stick out."""
    jumps = np.zeros(depth.shape, np.uint8)
    for axis in (0, 1):
        one, other = (depth.take(range(k, depth.shape[axis] - 1 + k), axis) for k in (0, 1))
        jump = (one > 0) & (other > 0) & (np.abs(one - other) > JUMP * np.minimum(one, other))
        first, second = [slice(None)] * 2, [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        jumps[tuple(first)] |= jump
        jumps[tuple(second)] |= jump
    return cv2.dilate(jumps, np.ones((3, 3), np.uint8)) > 0


def half_width(where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(H, W) half the width, in pixels, of the patch of ``where`` (H, W) around each of its pixels, at least 1."""
    inside = cv2.distanceTransform(where.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return cv2.dilate(inside, np.ones((5, 5), np.uint8)).clip(1, None)


def too_coarse(
    frame: Frame, rendering: Rendering, means: NDArray[np.float32], labels: NDArray[np.int32], count: int
) -> NDArray[np.float32]:
    """(H, W) spacing in pixels at which masks of few Gaussians need more, 0 where nothing is missing.

    A mask that shows fewer than ``count`` Gaussians cannot be told from what surrounds it.

    Args:
        means: (N, 3) centres of the scene's Gaussians, world.
        labels: (H, W) mask numbers of the frame, 0 none.
    """
    uv, z = frame.camera.project((means - frame.T_world_camera[:3, 3]) @ frame.T_world_camera[:3, :3])
    inside = frame.camera.inside(uv, z)
    column, row = uv[inside].astype(int).T
    surface = rendering.depth.cpu().numpy()[row, column]
    shown = np.abs(z[inside] - surface) < NEAR_SURFACE * surface
    area = np.bincount(labels.reshape(-1))
    found = np.bincount(labels[row[shown], column[shown]], minlength=len(area))
    missing = (found < np.minimum(count, area)) & (np.arange(len(area)) > 0)
    # cells of seeds come in steps of two, up to 1.4 times as wide as asked for
    return np.where(missing, np.maximum(0.7 * np.sqrt(area / count), 1), 0).astype(np.float32)[labels]


def seeds_from_depth(
    frame: Frame,
    depth: NDArray[np.float32],
    where: NDArray[np.bool_],
    spacing: float | NDArray[np.float32],
    opacity: float = SEED_OPACITY,
    widest: float | NDArray[np.float32] = np.inf,
) -> Seeds:
    """Flat discs on the surface that ``depth`` (H, W) describes, at the pixels ``where`` (H, W) bool.

    The points are thinned to one per cell of a voxel grid whose cell is ``spacing`` pixels, one value or (H, W), wide
    at the point's depth, in steps of a factor of two: the density of seeds follows what the camera resolves. A disc's
    radius covers its cell, or ``widest`` pixels if that is less; its normal comes from the gradient of the depth.
    """
    valid = np.isfinite(depth) & (depth > 0)
    chosen = valid & where
    if not chosen.any():
        return Seeds.empty()
    camera_points = frame.camera.unproject(np.where(valid, depth, 0).astype(np.float32))
    normals, has_normal = _normals(camera_points, depth, valid)
    z = depth[chosen]
    angle = np.broadcast_to(spacing, depth.shape)[chosen] / frame.camera.fx
    octave = np.exp2(np.round(np.log2(z * angle / angle.max())))
    cell = (angle.max() * octave)[:, None]
    points = camera_points[chosen].astype(np.float64) @ frame.T_world_camera[:3, :3].T + frame.T_world_camera[:3, 3]
    first = _one_per_voxel(np.concatenate([np.floor(points / cell), np.log2(octave)[:, None]], axis=1))

    rotation = frame.T_world_camera[:3, :3].astype(np.float32)
    normal = normals[chosen][first]
    rays = camera_points[chosen][first]
    rays = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    known = has_normal[chosen][first]
    limit = np.broadcast_to(widest, depth.shape)[chosen] / frame.camera.fx
    radius = 0.7 * np.minimum(angle, limit)[first] * z[first]
    # a disc oriented along a grazing surface has to be larger to cover the same pixels
    slant = np.clip(1 / np.maximum(np.abs((normal * rays).sum(axis=1)), 1e-3), 1, MAX_SLANT)
    radius = np.where(known, radius * np.sqrt(slant), radius)
    thickness = np.where(known, FLATNESS * radius, radius)
    return Seeds(
        means=torch.from_numpy(points[first].astype(np.float32)),
        quats=_quats_of_normals(torch.from_numpy(np.where(known[:, None], normal, rays) @ rotation.T)),
        scales=torch.from_numpy(np.stack([radius, radius, thickness], axis=1).astype(np.float32)),
        opacities=torch.full((len(first),), opacity),
        colors=torch.from_numpy(frame.image[chosen][first].astype(np.float32) / 255),
    )


def seeds_from_cloud(points: NDArray, colors: NDArray) -> Seeds:
    """Balls at the (n, 3) ``points`` of a sparse cloud, with (n, 3) uint8 ``colors``.

    The radius is half the mean distance to the three nearest neighbours, bounded for points far from all others.
    Points that are not finite are left out.
    """
    good = np.isfinite(points).all(axis=1)
    points, colors = np.asarray(points, np.float64)[good], np.asarray(colors)[good]
    _, unique = np.unique(points, axis=0, return_index=True)
    points, colors = points[np.sort(unique)], colors[np.sort(unique)]
    n = len(points)
    if n < 2:
        return Seeds.empty()
    neighbours = min(3, n - 1)
    distance = cKDTree(points).query(points, k=neighbours + 1)[0][:, 1:].mean(axis=1)
    radius = np.minimum(distance, 5 * np.median(distance))
    return _balls(points, 0.5 * radius, colors.astype(np.float32) / 255, opacity=SEED_OPACITY)


def random_seeds(
    frame: Frame, where: NDArray[np.bool_], near: float, far: float, count: int, rng: np.random.Generator
) -> Seeds:
    """``count`` faint balls at random in the frustum of the pixels ``where`` (H, W), uniform in inverse depth."""
    rows, columns = np.nonzero(where)
    if not len(rows) or not count:
        return Seeds.empty()
    pick = rng.choice(len(rows), size=min(count, len(rows)), replace=False)
    z = 1 / rng.uniform(1 / far, 1 / near, len(pick))
    x = (columns[pick] + 0.5 - frame.camera.cx) / frame.camera.fx
    y = (rows[pick] + 0.5 - frame.camera.cy) / frame.camera.fy
    points = np.stack([x * z, y * z, z], axis=1) @ frame.T_world_camera[:3, :3].T + frame.T_world_camera[:3, 3]
    footprint = np.sqrt(len(rows) / len(pick)) / frame.camera.fx  # what it takes to cover the pixels without gaps
    colors = frame.image[rows[pick], columns[pick]].astype(np.float32) / 255
    return _balls(points, 0.6 * footprint * z, colors, opacity=FAINT_OPACITY)


def _balls(points: NDArray, radius: NDArray, colors: NDArray, opacity: float) -> Seeds:
    n = len(points)
    quats = torch.zeros(n, 4)
    quats[:, 0] = 1
    return Seeds(
        torch.from_numpy(points.astype(np.float32)),
        quats,
        torch.from_numpy(radius.astype(np.float32))[:, None].expand(n, 3).contiguous(),
        torch.full((n,), opacity),
        torch.from_numpy(colors.astype(np.float32)),
    )


def _one_per_voxel(cells: NDArray) -> NDArray[np.int64]:
    """Index of the first row of every distinct one, in ascending order."""
    packed = np.ascontiguousarray(cells.astype(np.int64)).view(np.dtype((np.void, 8 * cells.shape[1]))).ravel()
    return np.sort(np.unique(packed, return_index=True)[1])


def _normals(points: NDArray, depth: NDArray, valid: NDArray[np.bool_]) -> tuple[NDArray, NDArray[np.bool_]]:
    """(H, W, 3) unit normals facing the camera by central differences, and (H, W) where they can be trusted."""
    normals = np.zeros_like(points)
    known = np.zeros_like(valid)
    step = 2 if min(depth.shape) >= 16 else 1  # differences over two pixels average out the sensor's quantisation
    s = 2 * step
    if min(depth.shape) <= s:
        return normals, known
    inner = (slice(step, -step), slice(step, -step))
    dx = points[step:-step, s:] - points[step:-step, :-s]
    dy = points[s:, step:-step] - points[:-s, step:-step]
    normal = np.cross(dx, dy)
    length = np.linalg.norm(normal, axis=-1)
    z = depth[inner]
    # a jump across an edge is not a surface
    smooth = np.maximum(np.abs(dx[..., 2]), np.abs(dy[..., 2])) < 0.05 * z
    around = valid[step:-step, s:] & valid[step:-step, :-s] & valid[s:, step:-step] & valid[:-s, step:-step]
    known[inner] = around & smooth & valid[inner] & (length > 0)
    toward = np.where((normal * points[inner]).sum(axis=-1) > 0, -1.0, 1.0)
    normals[inner] = normal * (toward / np.maximum(length, 1e-20))[..., None]
    return normals, known


def _quats_of_normals(normals: torch.Tensor) -> torch.Tensor:
    """(n, 3) unit vectors -> (n, 4) rotations wxyz that take the z axis to them."""
    x, y, z = normals.float().unbind(-1)
    quats = torch.stack([1 + z, -y, x, torch.zeros_like(x)], dim=-1)
    opposite = quats.norm(dim=-1) < 1e-4
    quats[opposite] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    return torch.nn.functional.normalize(quats, dim=-1)
