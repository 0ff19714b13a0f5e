"""Label images that follow the edges of the picture they belong to."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.native import call, pointer
from lift_ros.render import library

PASSES = 3
RADIUS = 3  # of the window, pixels of a 640 pixels wide image; smaller for smaller ones: a pass moves borders so far
DISTANCE = 2.0  # the rest: standard deviations of the weights; pixels of such an image
COLOR = 50.0  # of 255: beside depth, which is the surer sign, only great steps of colour count
COLOR_ALONE = 25.0  # where the depth of either pixel is unknown
DEPTH = 0.01  # share of the depth


def follow_edges(
    labels: NDArray[np.int32], image: NDArray[np.uint8], depth: NDArray[np.float32] | None = None
) -> NDArray[np.int32]:
    """Move the borders of labels to where colour and depth change.

    A map knows borders to about a pixel; the picture knows better. So each pixel near a border takes the label that
    most of its neighbourhood has, as far as that looks alike: weights fall with the distance in the image, in colour
    and in depth (the mode of a joint bilateral filter, Petschnigg et al. 2004). Borders move by a few pixels at most,
    and no label appears where there was none nearby.

    Args:
        labels: (H, W).
        image: (H, W, 3) RGB.
        depth: (H, W) of any unit, 0 where unknown; where it is, colour alone decides.

    Returns:
        (H, W) labels.

    Raises:
        ValueError: the shapes differ, or a label is -2**31, which stands for none here.
    """
    height, width = labels.shape
    if image.shape != (height, width, 3) or (depth is not None and depth.shape != (height, width)):
        raise ValueError(
            f"labels, image and depth must be of one size, got {labels.shape}, {image.shape} and "
            f"{None if depth is None else depth.shape}"
        )
    if labels.size and labels.min() == np.iinfo(np.int32).min:
        raise ValueError("labels must be greater than -2**31; give what has no label another number")
    scale = min(width / 640, 1)  # larger windows would take too long
    labels, image = np.ascontiguousarray(labels, np.int32), np.ascontiguousarray(image, np.uint8)
    depth = None if depth is None else np.ascontiguousarray(depth, np.float32)
    picture = library.Picture(width, height, pointer(image), pointer(depth))
    edge_filter = library.EdgeFilter(
        PASSES, max(round(RADIUS * scale), 2), max(DISTANCE * scale, 1.0), COLOR, COLOR_ALONE, DEPTH
    )
    out = np.empty_like(labels)
    call(library.best().lift_follow_edges, picture, edge_filter, labels, out, torch.get_num_threads())
    return out
