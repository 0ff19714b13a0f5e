"""From what the map renders into a new view to the prompts worth spending on it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lift_ros.masks.base import Prompts

MIN_SHARE = 0.6  # blend weight from which a pixel is explained
MIN_AREA = 64  # explained pixels that an object needs to get a point of its own
MIN_GAP = 5  # pixels: narrower strips that are not explained are silhouettes, not news


def make_prompts(
    labels: NDArray[np.integer],
    share: NDArray[np.float32],
    alpha: NDArray[np.float32],
    ignored: NDArray[np.bool_] | None = None,
) -> Prompts:
    """Prompts for a view of which the map has rendered a label image.

    A pixel is explained where one object outweighs everything else along its ray, unlabelled Gaussians and what lies
    behind the map included: the map can only be trusted about what it has both seen and named.

    Args:
        labels: (H, W) persistent object ids, 0 = unlabelled.
        share: (H, W) summed blend weight of the label, at most ``alpha``.
        alpha: (H, W) accumulated opacity in [0, 1].
        ignored: (H, W) bool, see ``Frame``: there is nothing to ask for.

    Returns:
        One point for each object, on its explained pixel farthest from all others, in ascending order of the ids; and
        the explained pixels, gaps closed.
    """
    if not labels.shape == share.shape == alpha.shape:
        raise ValueError(f"labels {labels.shape}, share {share.shape} and alpha {alpha.shape} differ in size")
    confident = (labels > 0) & (np.minimum(share, alpha) >= MIN_SHARE)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (MIN_GAP, MIN_GAP))
    unexplained = ~confident
    if ignored is not None:
        confident &= ~ignored
        unexplained &= ~ignored
    unexplained = cv2.morphologyEx(unexplained.astype(np.uint8), cv2.MORPH_OPEN, kernel)

    ids, index = np.unique(np.where(confident, labels, 0), return_inverse=True)
    index = index.reshape(labels.shape) + (ids[0] != 0)  # objects from 1 on, also where every pixel is one
    points = []
    for number, box in enumerate(ndimage.find_objects(index), start=1):
        inside = index[box] == number
        if np.count_nonzero(inside) >= MIN_AREA:
            row, column = most_interior_pixel(inside)
            points.append((box[1].start + column + 0.5, box[0].start + row + 0.5))
    return Prompts(np.array(points, np.float32).reshape(-1, 2), unexplained == 0)


def most_interior_pixel(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """(row, column) of the pixel of a non-empty (H, W) mask that is farthest from its outside."""
    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    row, column = np.unravel_index(np.argmax(distance), distance.shape)
    return int(row) - 1, int(column) - 1
