"""Objects that are no longer where the map has them: depth images look through them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.mapping.snapshot import MapSnapshot
from lift_ros.render import Rendering
from lift_ros.scene.trainer import in_view

WINDOW = np.ones((5, 5), np.uint8)  # pixels, all of whose depths must lie behind: poses are off by a little, edges too
BEHIND = 0.03  # relative to a depth, from which another is of something else
THROUGH = 0.6  # of what is visible of an object, that is looked through where it is gone
INTACT = 0.35  # the same, below which it is in its place
MOST = 0.5  # of an object, that is visible: a look past the edge of a wall tells nothing of the wall
FEW = 20  # visible Gaussians, of which a share tells something
OTHERS = 0.1  # mean share looked through of the other objects, above which it is the pose that is wrong
MANY = 0.5  # of the objects in view, more than which are not gone at once: again the pose
NEARER = 0.3  # of the pixels that show what is behind the map, as many that show what is before it: again the pose
OPAQUE = 0.8  # alpha of a pixel of which the map knows the depth
CONFIRMED = 3  # frames that miss an object, without one in between that sees it
LASTING = 1.0  # s between the first and the last of them: a localisation that slips is soon right again
FORGOTTEN = 60.0  # s after which a frame that missed an object does not count any more


@dataclass
class _Missed:
    """Frames that looked through an object since one saw it in its place: how many, the first and the last, s."""

    frames: int
    first: float
    last: float


class Departures:
    """Watches for objects that are gone, over the frames of a map.

    What is carried away leaves depths behind those of the map. A wrong pose brings as much before them, and moves all
    objects.
    """

    def __init__(self) -> None:
        self._missed: dict[int, _Missed] = {}

    def look(
        self, known: MapSnapshot, camera: PosedCamera, rendering: Rendering, depth: NDArray[np.float32], stamp: float
    ) -> list[int]:
        """Ids of the objects that are gone, now that a frame measured ``depth`` (H, W), 0 where unknown.

        Objects that are seen in part, or from where what is behind them is near, are left to other frames.

        Args:
            camera: of the frame; ``rendering``: the map seen by it.
            stamp: of the frame, seconds.
        """
        visible, through, size = _looked_at(known, camera, depth)
        share = through / np.maximum(visible, 1)
        asked = visible > MOST * size
        gone = asked & (share > THROUGH)
        for i in np.flatnonzero(asked & (share < INTACT)).tolist():
            self._missed.pop(i, None)
        others = share[(visible > FEW) & ~gone]
        certain = len(others) and others.mean() <= OTHERS and gone.sum() <= max(1, MANY * asked.sum())
        if not gone.any() or not certain or not _only_recedes(rendering, depth):
            return []
        return [i for i in np.flatnonzero(gone).tolist() if self._is_confirmed(i, stamp)]

    def _is_confirmed(self, i: int, stamp: float) -> bool:
        """Whether frames enough have missed an object, now that that of ``stamp`` did."""
        missed = self._missed.get(i)
        if missed is None or not 0 <= stamp - missed.last < FORGOTTEN:
            missed = self._missed[i] = _Missed(0, stamp, stamp)
        missed.frames, missed.last = missed.frames + 1, stamp
        if missed.frames < CONFIRMED or stamp - missed.first < LASTING:
            return False
        del self._missed[i]
        return True


def _only_recedes(rendering: Rendering, depth: NDArray[np.float32]) -> bool:
    """Whether ``depth`` (H, W) shows what is behind the map, but little that is before it."""
    alpha, rendered = rendering.alpha.cpu().numpy(), rendering.depth.cpu().numpy()
    nearest, farthest = _extremes(np.where(alpha > OPAQUE, rendered, 0))
    nearest_now, farthest_now = _extremes(depth)
    known = (nearest > 0) & (nearest_now > 0)
    nearer = known & (farthest_now < (1 - BEHIND) * nearest)
    behind = known & (nearest_now > (1 + BEHIND) * farthest)
    return np.count_nonzero(nearer) < NEARER * np.count_nonzero(behind)


def _looked_at(
    known: MapSnapshot, camera: PosedCamera, depth: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """By id (I,): how many Gaussians of each object nothing is in front of, how many of them depth looks through, and
    how many there are.
    """
    means, ids = known.surfaces
    shown = in_view(camera, means, torch.zeros(len(means), device=means.device)).nonzero().squeeze(1)
    viewmat = camera.viewmat
    uv, z = camera.intrinsics.project((means[shown] @ viewmat[:3, :3].T + viewmat[:3, 3]).cpu().numpy())
    inside = camera.intrinsics.inside(uv, z)  # but for what is just outside the corners
    z, (columns, rows) = z[inside], uv[inside].astype(int).T
    nearest, farthest = (extreme[rows, columns] for extreme in _extremes(depth))
    visible = (nearest > 0) & (z < (1 + BEHIND) * farthest)
    through = nearest > (1 + BEHIND) * z
    size = np.bincount(ids)
    ids = ids[shown.cpu().numpy()[inside]]
    return np.bincount(ids[visible], minlength=len(size)), np.bincount(ids[through], minlength=len(size)), size


def _extremes(depth: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(H, W) nearest and farthest depth around each pixel; the nearest is 0 where one is unknown."""
    return cv2.erode(depth, WINDOW), cv2.dilate(depth, WINDOW)
