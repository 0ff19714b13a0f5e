"""Segmentation on graphs: of pixels, by OpenCV, and of the regions that gives, by what separates them."""

from __future__ import annotations

import heapq

import cv2
import numpy as np
from numpy.typing import NDArray

from lift_ros.errors import ConfigError


def check_opencv() -> None:
    """Find out whether ``segment_pixels`` can work.

    Raises:
        ConfigError: this OpenCV was built without its contrib modules.
    """
    if not hasattr(cv2, "ximgproc"):
        raise ConfigError(
            "graph segmentation needs OpenCV's contrib modules: pip uninstall opencv-python-headless opencv-python, "
            "then pip install opencv-contrib-python-headless"
        )


def segment_pixels(features: NDArray[np.float32], k: float, sigma: float, min_size: int) -> NDArray[np.int32]:
    """Felzenszwalb and Huttenlocher's graph segmentation (2004).

    Args:
        features: (H, W, C) with differences of comparable size in every channel.
        k: scale of observation: larger gives larger regions.
        sigma: Gaussian smoothing before, in pixels.
        min_size: smaller regions are joined to a neighbour, in pixels.

    Returns:
        (H, W) regions, 0 .. R - 1.
    """
    algorithm = cv2.ximgproc.segmentation.createGraphSegmentation(sigma, k, min_size)
    return algorithm.processImage(np.ascontiguousarray(features, np.float32))


def boundary_pairs(regions: NDArray[np.int32], reach: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Pixels on both sides of the boundaries between regions, by rows and by columns.

    Args:
        regions: (H, W), 0 = no region.
        reach: the pixels returned lie this far from the pair of neighbours that touch, on either side.

    Returns:
        region_a (E,), region_b (E,) of every touching pair; pixel_a (E, 2), pixel_b (E, 2) as (row, column).
    """
    size = np.array(regions.shape)
    found = []
    for step in (np.array([0, 1]), np.array([1, 0])):
        here = regions[: size[0] - step[0], : size[1] - step[1]]
        there = regions[step[0] :, step[1] :]
        pixel = np.argwhere((here != there) & (here > 0) & (there > 0))
        neighbour = pixel + step
        away = reach * step
        found.append(
            (
                regions[tuple(pixel.T)],
                regions[tuple(neighbour.T)],
                np.maximum(pixel - away, 0),
                np.minimum(neighbour + away, size - 1),
            )
        )
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def merge_regions(
    count: int, region_a: NDArray, region_b: NDArray, separation: NDArray, threshold: float
) -> NDArray[np.int64]:
    """Join neighbouring regions, least separated first, until all that touch are separated.

    The separation of two regions is the mean over their common boundary, kept up to date as regions grow.

    Args:
        count: number of regions, numbered 0 .. count - 1.
        region_a, region_b, separation: (E,), one entry for each pair of pixels along a boundary.
        threshold: mean separation above which regions stay apart.

    Returns:
        (count,) group of every region, 0 .. G - 1.
    """
    low, high = np.minimum(region_a, region_b).astype(np.int64), np.maximum(region_a, region_b)
    pairs, inverse, length = np.unique(low * count + high, return_inverse=True, return_counts=True)
    total = np.bincount(inverse, separation, len(pairs))
    # neighbours[a][b] = (sum of the separation along the boundary of a and b, its length)
    neighbours: list[dict[int, tuple[float, int]]] = [{} for _ in range(count)]
    heap = []
    for pair, boundary in zip(pairs.tolist(), zip(total.tolist(), length.tolist(), strict=True), strict=True):
        a, b = divmod(pair, count)
        neighbours[a][b] = neighbours[b][a] = boundary
        heap.append((boundary[0] / boundary[1], a, b, boundary))
    heapq.heapify(heap)

    group = list(range(count))
    while heap:
        mean, a, b, boundary = heapq.heappop(heap)
        if mean > threshold:
            break
        if neighbours[a].get(b) != boundary:  # has been joined or has grown since
            continue
        if len(neighbours[a]) < len(neighbours[b]):
            a, b = b, a
        del neighbours[a][b]
        for other, (sum_b, length_b) in neighbours[b].items():
            if other == a:
                continue
            del neighbours[other][b]
            sum_a, length_a = neighbours[a].get(other, (0.0, 0))
            joined = (sum_a + sum_b, length_a + length_b)
            neighbours[a][other] = neighbours[other][a] = joined
            heapq.heappush(heap, (joined[0] / joined[1], min(a, other), max(a, other), joined))
        neighbours[b] = {}
        group[b] = a
    for region in range(count):
        root = region
        while group[root] != root:
            root = group[root]
        group[region] = root
    return np.unique(group, return_inverse=True)[1]
