"""Other sizes of images of what must not be mixed: labels and depths.

OpenCV's nearest neighbour takes a corner of each block of pixels, which shifts the image by half a pixel and makes what
is thin come and go.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_SAMPLES = 4  # along each axis of a block
SAME_ASPECT = 0.02  # relative: sizes are rounded


def most_frequent(labels: NDArray[np.integer], height: int, width: int) -> NDArray[np.integer]:
    """(H, W) labels at another size: of each block of pixels the label that most have. Larger images repeat pixels."""
    blocks = _blocks(labels, height, width)
    votes = np.zeros(blocks.shape, np.uint8)
    for other in blocks:
        votes += blocks == other
    first, last = votes.argmax(0), len(blocks) - 1 - votes[::-1].argmax(0)
    return np.take_along_axis(blocks, np.where(_even(height, width), first, last)[None], axis=0)[0]


def same_aspect(shape: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes (height, width) are of one image at two scales."""
    return math.isclose(shape[0] * other[1], shape[1] * other[0], rel_tol=SAME_ASPECT)


def labels_at(labels: NDArray[np.integer], height: int, width: int) -> NDArray[np.integer]:
    """(h, w) labels of an image, brought to its size. Raises ValueError where more than the scale differs."""
    if labels.shape == (height, width):
        return labels
    if not same_aspect(labels.shape, (height, width)):
        raise ValueError(f"of {labels.shape[1]}x{labels.shape[0]} pixels, the image of {width}x{height}")
    return most_frequent(labels, height, width)


def any_of(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """(H, W) ``mask`` at another size: the pixels to which any that is True contributes where an image is resized."""
    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0


def median_depth(depth: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """(H, W) depth at another size: of each block of pixels the median of those that are known, 0 where none is."""
    blocks = _sorted(_blocks(depth, height, width))
    unknown = (blocks <= 0).sum(0)
    known = len(blocks) - unknown
    # of an even number the two in the middle take turns: a mean would lie in the air between two surfaces
    middle = np.where(_even(height, width), (known - 1) // 2, known // 2)
    index = np.minimum(unknown + np.maximum(middle, 0), len(blocks) - 1)
    return np.where(known > 0, np.take_along_axis(blocks, index[None], axis=0)[0], np.float32(0))


def _sorted(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S, H, W) ascending along the first axis."""
    if len(blocks) != 4:
        return np.sort(blocks, axis=0)
    for i, k in ((0, 1), (2, 3), (0, 2), (1, 3), (1, 2)):  # halves are common, and this takes a fifth of the time
        blocks[i], blocks[k] = np.minimum(blocks[i], blocks[k]), np.maximum(blocks[i], blocks[k])
    return blocks


def _blocks(image: NDArray, height: int, width: int) -> NDArray:
    """(S, height, width) pixels spread evenly over the block of each pixel of the smaller image."""
    samples = min(max(math.ceil(image.shape[0] / height), math.ceil(image.shape[1] / width)), MAX_SAMPLES)
    offsets = (np.arange(samples) + 0.5) / samples
    rows = ((np.arange(height)[:, None] + offsets) * image.shape[0] / height).astype(int)
    columns = ((np.arange(width)[:, None] + offsets) * image.shape[1] / width).astype(int)
    return np.stack([image[rows[:, i, None], columns[:, j]] for i in range(samples) for j in range(samples)])


def _even(height: int, width: int) -> NDArray[np.bool_]:
    """(height, width) a checkerboard: ties fall to either side by turns, so that borders stay where they are."""
    return (np.arange(height)[:, None] + np.arange(width)) % 2 == 0
