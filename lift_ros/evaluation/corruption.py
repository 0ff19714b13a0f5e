"""What a 2D segmenter might make of true instances: labels that disagree between views, with faults of graded severity.

Used to test lifting against exact truth. The noise of PCF-Lift (Zhu et al., ECCV 2024, section 4.4) is ``PCF``: squares
anywhere take the label of one of their pixels. The levels L1 and L2 put as many squares on borders, where segmenters
err, and scramble them pixel by pixel, which frays all borders instead of moving some.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

DROP, MERGE, SPLIT = range(3)  # faults of an instance


@dataclass(frozen=True)
class Corruption:
    """Faults of one level.

    An instance of a view has one of the faults ``split``, ``merge`` and ``drop`` or none; their rates are probabilities
    and sum to 1 at most.

    Attributes:
        anchors: squares of a view that are disturbed.
        window: side of such a square, pixels of a 640 pixels wide image (scaled with the width).
        scramble: squares lie on borders, and each of their pixels takes the label of another; else they lie anywhere,
            and all their pixels take the label of one, as published.
        split: an instance falls into two or three masks.
        merge: an instance shares the mask of one it touches; if it touches none that has a mask, it keeps its own.
        drop: an instance has no mask.
        background: per view, the background falls into several masks.
        pieces: least and greatest number of these.
        min_area: masks with fewer pixels vanish (scaled with the image's area).
    """

    anchors: int = 0
    window: int = 0
    scramble: bool = True
    split: float = 0.0
    merge: float = 0.0
    drop: float = 0.0
    background: float = 0.0
    pieces: tuple[int, int] = (2, 5)
    min_area: int = 0


LEVELS = {
    "L0": Corruption(),
    "L1": Corruption(anchors=100, window=9),
    "L2": Corruption(anchors=100, window=15, split=0.15, merge=0.1, drop=0.1, background=0.8, min_area=16),
}
PCF = Corruption(anchors=100, window=9, scramble=False)


def corrupt_masks(instances: NDArray[np.integer], level: Corruption, rng: Generator) -> NDArray[np.uint16]:
    """Masks of one view: (H, W) true instances, 0 background -> (H, W) mask ids, 0 = no mask.

    The background is a mask as any other; ids are shuffled anew at each call, so that views do not agree.
    """
    scale = instances.shape[1] / 640
    ids, masks = _without_gaps(instances)
    background = 1 if ids[0] == 0 else 0
    objects = list(range(background + 1, len(ids) + 1))
    next_id = len(ids) + 1

    # decided on the true shapes, so that faults do not feed on each other
    faults = np.searchsorted(np.cumsum((level.drop, level.merge, level.split)), rng.random(len(objects)), "right")
    shapes = {i: masks == i for i in objects}
    for i, fault in zip(objects, faults.tolist(), strict=True):
        if fault == DROP:
            masks[shapes[i]] = 0
        elif fault == MERGE:
            touching = _touching(masks, shapes[i], {0, i, background})
            if touching:
                masks[shapes[i]] = touching[int(rng.integers(len(touching)))]
        elif fault == SPLIT:
            cells = _cells(shapes[i], int(rng.integers(2, 4)), rng)
            masks[shapes[i]] = np.where(cells == 0, i, next_id + cells)
            next_id += int(cells.max(initial=0)) + 1
    if background and rng.random() < level.background:
        shape = masks == background
        masks[shape] = next_id + _cells(shape, int(rng.integers(level.pieces[0], level.pieces[1] + 1)), rng)

    if level.anchors:
        _disturb(masks, level.anchors, max(round(level.window * scale), 2), level.scramble, rng)
    areas = np.bincount(masks.ravel())
    areas[0] = 0
    kept = areas >= max(level.min_area * scale**2, 1)
    shuffled = np.zeros(len(areas), np.uint16)
    shuffled[kept] = rng.permutation(int(kept.sum())) + 1
    return shuffled[masks]


def _without_gaps(instances: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """The ids there are, ascending, and for each pixel the place of its own among them, from 1."""
    if instances.max() >= 2**16:  # they may be anything below 2^31: a table would be too large
        ids, index = np.unique(instances, return_inverse=True)
        return ids, index.reshape(instances.shape).astype(np.int64) + 1
    there = np.bincount(instances.ravel()) > 0
    return np.flatnonzero(there), np.cumsum(there)[instances]


def _touching(masks: NDArray, shape: NDArray[np.bool_], excluded: set[int]) -> list[int]:
    """Ids of the masks beside ``shape``."""
    border = cv2.dilate(shape.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & ~shape
    return [int(i) for i in np.unique(masks[border]) if int(i) not in excluded]


def _cells(shape: NDArray[np.bool_], count: int, rng: Generator) -> NDArray[np.int64]:
    """For each pixel of ``shape`` in raster order: its nearest of ``count`` random pixels of the shape, 0 first."""
    pixels = np.argwhere(shape)
    seeds = pixels[rng.choice(len(pixels), min(count, len(pixels)), replace=False)]
    return ((pixels[:, None] - seeds[None]) ** 2).sum(-1).argmin(1)


def _disturb(masks: NDArray, anchors: int, window: int, scramble: bool, rng: Generator) -> None:
    """Mix up labels in squares round random pixels, in place; see ``Corruption.scramble``."""
    candidates = np.ones(masks.shape, bool)
    if scramble:
        candidates[:] = False
        candidates[:, 1:] |= masks[:, 1:] != masks[:, :-1]
        candidates[1:] |= masks[1:] != masks[:-1]
    pixels = np.argwhere(candidates)
    if not len(pixels):
        return
    for row, column in pixels[rng.choice(len(pixels), min(anchors, len(pixels)), replace=False)]:
        top, left = max(row - window // 2, 0), max(column - window // 2, 0)
        patch = masks[top : row + (window + 1) // 2, left : column + (window + 1) // 2]
        patch[...] = rng.choice(patch.ravel(), patch.shape if scramble else None)
