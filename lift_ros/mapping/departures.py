"""Objects that are no longer where the map has them: depth images look through them."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.mapping.snapshot import MapSnapshot
from lift_ros.scene.trainer import in_view

AROUND = 5  # pixels, a window all of whose depths must lie behind: poses are off by a little, and so are edges
BEHIND = 0.06  # relative to the depth of a Gaussian, from which a depth is of something else
THROUGH = 0.6  # of what is visible of an object, that is looked through where it is gone
INTACT = 0.35  # the same, below which it is in its place
MOST = 0.5  # of an object, that is visible: a look past the edge of a wall tells nothing of the wall
WRONG = 0.2  # of what is visible of everything else, that is looked through where it is the pose that is wrong
MANY = 0.25  # of the objects in view, more than which are not gone at once: again the pose
CONFIRMED = 3  # frames that miss an object, without one in between that sees it


class Departures:
    """Watches for objects that are gone, over the frames of a map."""

    def __init__(self) -> None:
        self._missed: Counter[int] = Counter()  # frames that looked through an object since one saw it in its place

    def look(self, known: MapSnapshot, camera: PosedCamera, depth: NDArray[np.float32]) -> list[int]:
        """Ids of the objects that are gone, now that a frame seen by ``camera`` measured ``depth`` (H, W), 0 where
        unknown. Objects that are seen in part, or from where what is behind them is near, are left to other frames.
        """
        visible, through, size = _looked_at(known, camera, depth)
        share = through / np.maximum(visible, 1)
        asked = visible > MOST * size
        gone = asked & (share > THROUGH)
        for i in np.flatnonzero(asked & (share < INTACT)).tolist():
            self._missed.pop(i, None)
        rest = visible[~gone].sum()
        wrong = through[~gone].sum() > WRONG * rest or visible[gone].sum() > rest
        if not gone.any() or wrong or gone.sum() > max(1, MANY * asked.sum()):
            return []
        self._missed.update(np.flatnonzero(gone).tolist())
        found = [i for i in np.flatnonzero(gone).tolist() if self._missed[i] >= CONFIRMED]
        for i in found:
            del self._missed[i]
        return found


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
    window = np.ones((AROUND, AROUND), np.uint8)
    # where one depth around is unknown, the nearest is 0: nothing is said of what lies there
    nearest, farthest = (extreme(depth, window)[rows, columns] for extreme in (cv2.erode, cv2.dilate))
    visible = (nearest > 0) & (z < (1 + BEHIND) * farthest)
    through = nearest > (1 + BEHIND) * z
    size = np.bincount(ids)
    ids = ids[shown.cpu().numpy()[inside]]
    return np.bincount(ids[visible], minlength=len(size)), np.bincount(ids[through], minlength=len(size)), size
