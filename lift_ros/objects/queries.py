"""Which objects are at a point, in a box or along a ray. Geometry in the frame and unit of the map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lift_ros.objects.description import MapObject

FLAT = 1e-4  # of the largest extent: rounding must not push the points of a flat object out of its own box


def finite(name: str, vector: ArrayLike) -> NDArray[np.float64]:
    """``vector`` (3,) as float64. Nothing is near what is NaN or infinite, which would read as free space.

    Raises:
        ValueError: it is not finite; the message calls it ``name``.
    """
    vector = np.asarray(vector, np.float64)
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} must be of finite numbers, got {vector.tolist()}")
    return vector


def at_point(objects: Sequence[MapObject], point: ArrayLike, radius: float) -> list[tuple[int, float]]:
    """(id, distance from ``point`` to the centroid) of objects whose box holds the point, nearest first.

    Where no box does: the one object with the point nearest to it, and that point's distance, if it is within
    ``radius``.

    Raises:
        ValueError: the point is not finite, or the radius is NaN or negative.
    """
    point = finite("point", point)
    _check_radius(radius)
    inside = [o for o in objects if _in_box(point[None], o.box.center, o.box.axes, o.box.size)[0]]
    if inside:
        return sorted(((o.id, float(np.linalg.norm(o.centroid - point))) for o in inside), key=lambda hit: hit[1])
    nearest = [(o.id, float(np.linalg.norm(o.points - point, axis=1).min())) for o in objects if len(o.points)]
    return [hit for hit in sorted(nearest, key=lambda hit: hit[1])[:1] if hit[1] <= radius]


def in_box(objects: Sequence[MapObject], T_world_box: NDArray, size: ArrayLike) -> list[tuple[int, float]]:
    """(id, 0) of objects with points in the box at ``T_world_box`` (4, 4), greatest share of their points first.

    Raises:
        ValueError: the box's pose is not finite, or ``size`` (3,), its full extents, is no size.
    """
    size = np.asarray(size, np.float64)
    if not np.isfinite(size).all() or (size < 0).any() or not size.any():
        raise ValueError(
            f"box_size must be finite and positive (flat boxes may be 0 along an axis), got {size.tolist()}"
        )
    finite("the box's position", T_world_box[:3, 3])
    center, axes = T_world_box[:3, 3], T_world_box[:3, :3]
    shares = [(o.id, float(_in_box(o.points, center, axes, size).mean())) for o in objects if len(o.points)]
    return [(i, 0.0) for i, share in sorted(shares, key=lambda hit: -hit[1]) if share > 0]


def along_ray(
    objects: Sequence[MapObject], origin: ArrayLike, direction: ArrayLike, radius: float
) -> list[tuple[int, float]]:
    """(id, distance along the ray) of objects with a point within ``radius`` of the ray, nearest first.

    Raises:
        ValueError: the origin is not finite, the direction gives none, or the radius is NaN or negative.
    """
    origin, direction = finite("the ray's origin", origin), np.asarray(direction, np.float64)
    _check_radius(radius)
    length = np.linalg.norm(direction)
    if not np.isfinite(length) or length == 0:
        raise ValueError(f"the ray's direction must be finite and not zero, got {direction.tolist()}")
    direction = direction / length
    hits = []
    for item in objects:
        offset = item.points - origin
        along = offset @ direction
        off = np.linalg.norm(offset - along[:, None] * direction, axis=1)
        hit = along[(off <= radius) & (along >= 0)]
        if len(hit):
            hits.append((item.id, float(hit.min())))
    return sorted(hits, key=lambda hit: hit[1])


def _check_radius(radius: float) -> None:
    if not radius >= 0:  # NaN, too
        raise ValueError(f"radius must be a number, and not negative, got {radius}")


def _in_box(points: NDArray, center: NDArray, axes: NDArray, size: NDArray) -> NDArray[np.bool_]:
    local = (points - center) @ axes
    return (np.abs(local) <= size / 2 + FLAT * size.max()).all(axis=1)
