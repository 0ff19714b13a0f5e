"""Oriented boxes of object point sets that hold a few stray points."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.transform import Rotation

from lift_ros.render.cpu import nearest

MAX_POINTS = 4000  # a box of more points than this is that of a random subset: the extents differ by well under 1 %
NEIGHBOURS = 8
LINK_LENGTH = 2.0  # in distances to the eighth neighbour
MIN_SHARE = 0.05  # of all points: a group of linked points smaller than this is stray
MIN_BODY = 0.5  # of all points, that must not be stray
TOLERANCE = 1e-6  # relative: less is rounding
MAX_FACETS = 64  # largest hull facets tried as faces of a box without known gravity
MAX_REFINED = 16  # of the boxes on these facets: to turn all to the smallest takes longer and saves 0.1 % in the mean


class OrientedBox(NamedTuple):
    """A box, in the frame and unit of the points."""

    center: NDArray[np.float64]  # (3,)
    quaternion_wxyz: NDArray[np.float64]  # (4,) box to world, w >= 0
    size: NDArray[np.float64]  # (3,) full edge lengths along the box's own x, y, z

    @property
    def axes(self) -> NDArray[np.float64]:
        """(3, 3), the box's own x, y, z as columns."""
        return Rotation.from_quat(np.roll(self.quaternion_wxyz, -1)).as_matrix()


def oriented_box(points: ArrayLike, up: ArrayLike | None = None) -> OrientedBox:
    """The tightest box around the main body of ``points`` (n, 3).

    Stray points, that is those in small groups away from the rest (:func:`main_body`), are left out.

    With gravity known, ``up`` (3,) is the box's z axis, its x axis the longer side of the minimal-area rectangle that
    holds the points seen from above. Without, the box is the smallest by volume that a local search finds from the
    principal axes and from the largest facets of the convex hull, its axes in descending order of length. Each of x
    and y (without gravity; else x alone) points so that its largest component is positive; the axes are right-handed.

    Points that lie in a plane, on a line or in one place give a box with zero lengths.

    Raises:
        ValueError: no points, not (n, 3), not finite, or ``up`` has no direction.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0:
        raise ValueError(f"a box needs (n, 3) points with n > 0, got shape {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("a box needs finite points, got NaN or infinity")
    body = main_body(points)
    origin = body.mean(0)  # near zero float32 resolves what OpenCV is given
    body = body - origin
    axes = _gravity_axes(body, np.asarray(up, np.float64)) if up is not None else _free_axes(body)
    low, high = _extent(body, axes)
    w_last = Rotation.from_matrix(axes).as_quat(canonical=True)
    return OrientedBox(origin + axes @ (low + high) / 2, np.roll(w_last, 1), high - low)


def main_body(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distinct points of (n, 3), at most ``MAX_POINTS``, without those that are stray.

    Two neighbours are linked if their distance is usual around *both* of them, so that a sparse part of an object is
    as good a part as a dense one; groups of linked points that hold less than 5 % of all are stray. Percentiles of
    the coordinates would instead cut into every box. Points that are mostly in such groups have no body, and none of
    them is stray.
    """
    if len(points) > MAX_POINTS:
        points = points[np.random.default_rng(0).choice(len(points), MAX_POINTS, replace=False)]
    points = points[np.lexsort(points.T)]  # np.unique of rows takes three times as long
    points = points[np.append(True, (points[1:] != points[:-1]).any(1))]
    n = len(points)
    if n <= NEIGHBOURS:
        return points
    centred = torch.from_numpy((points - points.mean(0)).astype(np.float32))  # far from zero float32 is coarse
    distance, neighbour = (each.numpy() for each in nearest(centred, NEIGHBOURS))
    usual = distance[:, -1]
    linked = distance <= LINK_LENGTH * np.minimum(usual[:, None], usual[neighbour])
    row_ends = np.append(0, linked.sum(1).cumsum())
    links = csr_array((np.ones(row_ends[-1]), neighbour[linked], row_ends), (n, n))
    group = connected_components(links, connection="weak")[1]
    main = np.bincount(group)[group] >= MIN_SHARE * n
    return points[main] if main.mean() > MIN_BODY else points


def _gravity_axes(points: NDArray, up: NDArray) -> NDArray[np.float64]:
    length = np.linalg.norm(up) if up.shape == (3,) else 0.0
    if not np.isfinite(length) or length == 0:
        raise ValueError(f"up must be a finite (3,) vector of non-zero length, got {up}")
    axes, _ = _turned(points, _axes_with(up[None] / length)[0], 2)
    x, y, z = axes.T
    low, high = _extent(points, axes)
    x = _positive(y if high[1] - low[1] > high[0] - low[0] else x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def _free_axes(points: NDArray) -> NDArray[np.float64]:
    least_principal = np.linalg.eigh(points.T @ points)[1][:, 0]
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):
        # flat: the plane normal to the least principal axis holds every point, no other face can do better
        best, _ = _turned(points, _axes_with(least_principal[None])[0], 2)
    else:
        corners = points[hull.vertices]
        faces = np.stack([least_principal, *_facet_normals(points, hull)])
        boxes = sorted((_turned(corners, axes, 2) for axes in _axes_with(faces)), key=lambda box: box[1])
        best, _ = min((_refined(corners, *box) for box in boxes[:MAX_REFINED]), key=lambda box: box[1])
    low, high = _extent(points, best)
    x, y = best[:, np.argsort(low - high, kind="stable")[:2]].T
    x, y = _positive(x), _positive(y)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def _facet_normals(points: NDArray, hull: ConvexHull) -> NDArray[np.float64]:
    """Unit normals (n, 3) of the hull's largest facets; triangles that are parallel within a degree are one facet."""
    a, b, c = points[hull.simplices].transpose(1, 0, 2)
    scaled = _positive(np.cross(b - a, c - a))  # as long as twice the area
    area = np.linalg.norm(scaled, axis=1)
    scaled, area = scaled[area > 0], area[area > 0]
    rounded, facet = np.unique((scaled / area[:, None]).round(2), axis=0, return_inverse=True)
    total = np.zeros_like(rounded)
    np.add.at(total, facet.ravel(), scaled)
    length = np.linalg.norm(total, axis=1)
    largest = np.argsort(-length, kind="stable")[:MAX_FACETS]
    return total[largest] / length[largest, None]


def _refined(points: NDArray, axes: NDArray, volume: float) -> tuple[NDArray[np.float64], float]:
    """Turn the box about each of its axes in turn to the best angle, as long as its volume falls."""
    while True:
        turned, less = min((_turned(points, axes, k) for k in range(3)), key=lambda box: box[1])
        if less >= volume * (1 - TOLERANCE):
            return axes, volume
        axes, volume = turned, less


def _axes_with(z: NDArray) -> NDArray[np.float64]:
    """Unit vectors (n, 3) -> right-handed axes (n, 3, 3), of which they are the last column."""
    helper = np.eye(3)[np.argmin(np.abs(z), axis=1)]
    x = helper - (helper * z).sum(1, keepdims=True) * z
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return np.stack([x, np.cross(z, x), z], axis=2)


def _turned(points: NDArray, axes: NDArray, about: int) -> tuple[NDArray[np.float64], float]:
    """Axes (3, 3) and volume of the smallest box around points, near the origin, whose axis ``about`` is that of
    ``axes``.
    """
    i, j = (about + 1) % 3, (about + 2) % 3
    local = points @ axes
    _, (along_i, along_j), angle = cv2.minAreaRect(local[:, [i, j]].astype(np.float32))
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turned = axes.copy()
    turned[:, i] = c * axes[:, i] + s * axes[:, j]
    turned[:, j] = c * axes[:, j] - s * axes[:, i]
    return turned, along_i * along_j * float(np.ptp(local[:, about]))


def _extent(points: NDArray, axes: NDArray) -> tuple[NDArray, NDArray]:
    projected = points @ axes
    return projected.min(0), projected.max(0)


def _positive(axes: NDArray) -> NDArray[np.float64]:
    """Each axis (..., 3) or its opposite, whichever has its component of greatest magnitude positive."""
    greatest = np.abs(axes).argmax(-1)[..., None]
    return axes * np.where(np.take_along_axis(axes, greatest, -1) < 0, -1.0, 1.0)
