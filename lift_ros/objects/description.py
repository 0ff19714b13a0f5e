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
        parent: id of the object it is a part of, 0 for none.
        confidence: [0, 1], mean IoU with the masks of the views.
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
    first_seen: float
    last_seen: float
    views: int
    centroid: NDArray[np.float64]
    box: OrientedBox
    color: NDArray[np.uint8]
    points: NDArray[np.float32]
    colors: NDArray[np.uint8]


def describe(
    tracks: Sequence[Track], ids: NDArray[np.int64], points: NDArray[np.float32], colors: NDArray[np.uint8], up: str
) -> list[MapObject]:
    """Objects of the ``tracks``, ascending by id, made of the points (n, 3) whose ``ids`` (n,) are theirs.

    A track without points is left out.
    """
    order = np.argsort(ids, kind="stable")
    sorted_ids = ids[order]
    objects = []
    for track in sorted(tracks, key=lambda track: track.id):
        own = order[slice(*np.searchsorted(sorted_ids, (track.id, track.id + 1)))]
        if not len(own):
            continue
        objects.append(
            MapObject(
                id=track.id,
                parent=0,
                confidence=track.confidence,
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
