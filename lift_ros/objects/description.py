"""Objects as a planner wants them: where, how large, which points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lift_ros.objects.boxes import OrientedBox, oriented_box
from lift_ros.objects.registry import Track

UP = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0), "none": None}


@dataclass(frozen=True)
class MapObject:
    """An object of the map, in its world frame and unit. Stamps in seconds.

    Attributes:
        id: persistent, never given to another object.
        parent: id of the object it is a part of, 0 for none. That one has the points of all its parts.
        confidence: [0, 1], mean IoU with the masks of the views.
        uncertainty: [0, 1], of the lifting method about its points, their mean.
        views: keyframes that show it.
        centroid: (3,) mean of the points.
        box: oriented box of the points, stray ones left out.
        color: (3,) uint8, mean RGB.
        points: (n, 3) float32.
        colors: (n, 3) uint8.
    """

    id: int
    parent: int
    confidence: float
    uncertainty: float
    first_seen: float
    last_seen: float
    views: int
    centroid: NDArray[np.float64]
    box: OrientedBox
    color: NDArray[np.uint8]
    points: NDArray[np.float32]
    colors: NDArray[np.uint8]


def as_json(item: MapObject) -> dict[str, object]:
    """An object as written to objects.json: everything but its points."""
    return {
        "id": item.id,
        "parent": item.parent,
        "confidence": round(item.confidence, 4),
        "uncertainty": round(item.uncertainty, 4),
        "first_seen": item.first_seen,
        "last_seen": item.last_seen,
        "views": item.views,
        "points": len(item.points),
        "centroid": item.centroid.tolist(),
        "box": {
            "center": item.box.center.tolist(),
            "quaternion_wxyz": item.box.quaternion_wxyz.tolist(),
            "size": item.box.size.tolist(),
        },
        "color": item.color.tolist(),
    }


def parts(objects: Sequence[MapObject]) -> list[MapObject]:
    """The objects without the wholes of a hierarchy, whose points are those of their parts."""
    wholes = {item.parent for item in objects}
    return [item for item in objects if item.id not in wholes]


def describe(
    tracks: Sequence[Track],
    ids: NDArray[np.int64],
    points: NDArray[np.float32],
    colors: NDArray[np.uint8],
    uncertainty: NDArray[np.float32],
    up: str,
) -> list[MapObject]:
    """Objects of the ``tracks``, ascending by id, of the points whose id is theirs or that of a part of theirs.

    Args:
        ids, points, colors, uncertainty: (n,), (n, 3), (n, 3) uint8 and (n,) in [0, 1], of the points.
        up: as in ``ObjectsConfig``.

    Returns:
        a track without points is left out.
    """
    order = np.argsort(ids, kind="stable")
    sorted_ids = ids[order]
    objects = []
    for track in sorted(tracks, key=lambda track: track.id):
        members = [track.id, *(part.id for part in tracks if part.parent == track.id)]
        own = np.concatenate([order[slice(*np.searchsorted(sorted_ids, (i, i + 1)))] for i in members])
        if not len(own):
            continue
        objects.append(
            MapObject(
                id=track.id,
                parent=track.parent,
                confidence=track.confidence,
                uncertainty=float(uncertainty[own].mean()),
                first_seen=track.first_seen,
                last_seen=track.last_seen,
                views=track.views,
                centroid=points[own].mean(0, dtype=np.float64),
                box=oriented_box(points[own], UP[up]),
                color=colors[own].mean(0).round().astype(np.uint8),
                points=points[own],
                colors=colors[own],
            )
        )
    return objects
