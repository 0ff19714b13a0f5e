"""Masks without weights: graph segmentation of colour and, where there is one, of depth.

The default where no SAM checkpoint is configured. It knows no objects: with depth it finds connected surfaces that
bulge towards the camera and stand apart from floor and walls; without depth it finds patches of like colour.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from lift_ros.frame import Frame
from lift_ros.masks.base import Masks, Prompts
from lift_ros.masks.region_graph import boundary_pairs, check_opencv, merge_regions, segment_pixels
from lift_ros.masks.surfaces import DEPTH_NOISE, bounding_planes, estimate_normals

WORKING_AREA = 320 * 240  # pixels; the scales below are pixels and region sizes at about this resolution
MIN_AREA, MAX_AREA = 0.0006, 0.95  # share of the image: less is a speck, more says nothing
MIN_INSIDE = 0.2  # share of a region that is not its edge: less is a sliver along the edge of something else
MIN_DEPTH = 0.1  # share of pixels with depth below which depth is ignored
SAME = 0.8  # IoU above which masks of two scales are the same


class GraphSegmenter:
    """Segments by colour and depth; see the module."""

    name = "graph"
    promptable = False

    def __init__(self) -> None:
        """Raises ConfigError: this OpenCV cannot do it; not to be found out at the first keyframe."""
        check_opencv()

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        """Masks of ``frame``, of ``WORKING_AREA`` at most; ``prompts`` change nothing and none are used.

        With depth the masks are disjoint and leave floor and walls out. Without, those of three scales are kept, so
        that they overlap.
        """
        height, width = frame.image.shape[:2]
        scale = min(1.0, (WORKING_AREA / (height * width)) ** 0.5)
        small = frame.resized(max(1, round(width * scale)), max(1, round(height * scale)))
        lab = cv2.cvtColor(small.image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        if min(small.image.shape[:2]) < 16:
            return Masks.empty(*small.image.shape[:2])
        if small.depth is not None and np.count_nonzero(small.depth) > MIN_DEPTH * small.depth.size:
            labels = segment_surfaces(lab, small.camera.unproject(small.depth))
            return Masks.from_label_image(_without_slivers(labels))
        return masks_of_scales([_without_slivers(labels) for labels in segment_colours(lab)])


def segment_surfaces(lab: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.int64]:
    """(H, W, 3) Lab colours and (H, W, 3) points in metres, z = 0 unknown -> (H, W) surfaces, 0 = none.

    Two scales: small regions alike in colour, normal and depth, then joined across every boundary that is not one
    of an object: where a surface is convex it goes on, where it is concave or jumps another begins (locally convex
    connected patches, Stein et al., 2014). Colour weighs little, since objects are seldom of one.
    """
    normals = estimate_normals(points)
    z = points[..., 2]
    foreground = z > 0
    for plane in bounding_planes(points, normals):
        foreground &= ~plane.holds(points)

    # Scaled so that 1 is about what tells two surfaces apart: 3 units of Lab, 4 degrees, 1.7 % in depth.
    log_depth = np.log(np.where(z > 0, z, 1.0))
    features = [0.3 * lab, 15 * normals, 60 * log_depth[..., None], 1e3 * ~foreground[..., None]]
    regions = segment_pixels(np.concatenate(features, -1), k=100, sigma=0.6, min_size=40)
    regions = np.unique(np.where(foreground, regions + 1, 0), return_inverse=True)[1].reshape(z.shape)
    regions += int(foreground.all())  # number 0 is the background's, also where there is none

    region_a, region_b, pixel_a, pixel_b = boundary_pairs(regions, reach=3)
    steps = surface_steps(points, normals, pixel_a, pixel_b)
    smooth = cv2.GaussianBlur(lab, (0, 0), 1.0)
    contrast = np.linalg.norm(smooth[tuple(pixel_a.T)] - smooth[tuple(pixel_b.T)], axis=-1)
    separation = steps + 0.004 * np.minimum(contrast, 50)
    groups = merge_regions(int(regions.max()) + 1, region_a, region_b, separation, threshold=0.6)
    return np.where(regions > 0, groups[regions] + 1, 0)


def surface_steps(
    points: NDArray[np.float32], normals: NDArray[np.float32], pixel_a: NDArray, pixel_b: NDArray
) -> NDArray[np.float32]:
    """How much the surface turns inwards or jumps between pixels: 0 convex or flat .. 1; 0.5 where unknown.

    Each point's height above the other's tangent plane, relative to their distance: both are negative across a
    convex edge; one is positive across a concave edge and where one surface lies before another.

    Args:
        points, normals: (H, W, 3).
        pixel_a, pixel_b: (E, 2) as (row, column).

    Returns:
        (E,).
    """
    a, b = points[tuple(pixel_a.T)], points[tuple(pixel_b.T)]
    gap = a - b
    above = np.maximum((normals[tuple(pixel_b.T)] * gap).sum(-1), -(normals[tuple(pixel_a.T)] * gap).sum(-1))
    far = np.maximum(a[:, 2], b[:, 2])
    slope = (above - DEPTH_NOISE * far**2) / np.maximum(np.linalg.norm(gap, axis=-1), 1e-6)
    known = (a[:, 2] > 0) & (b[:, 2] > 0)
    return np.where(known, np.clip(slope / 0.5, 0, 1), 0.5)


def segment_colours(lab: NDArray[np.float32]) -> list[NDArray[np.int32]]:
    """(H, W, 3) Lab colours -> (H, W) regions, 1 .. R, at three scales, finest first."""
    return [segment_pixels(2.55 * lab, k=k, sigma=0.5, min_size=60) + 1 for k in (200, 700, 2500)]


def masks_of_scales(scales: list[NDArray[np.int32]]) -> Masks:
    """Label images (0 = none) of several scales, finest first -> their masks.

    Of a mask and the next coarser one that is the same, by an IoU above ``SAME``, the finer is kept.
    """
    masks = [scales[0] == label for label in np.unique(scales[0][scales[0] > 0])]
    for finer, labels in pairwise(scales):
        same = label_ious(finer, labels).max(0) > SAME
        masks += [labels == label for label in np.unique(labels[labels > 0]) if not same[label]]
    return Masks(np.stack(masks)) if masks else Masks.empty(*scales[0].shape)


def label_ious(a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.float64]:
    """(H, W) label images -> (max(a) + 1, max(b) + 1) IoU of every label of one with every label of the other.

    Label 0 is no label: its row and column are 0.
    """
    rows, columns = int(a.max()) + 1, int(b.max()) + 1
    both = np.bincount((a.astype(np.int64) * columns + b).ravel(), minlength=rows * columns).reshape(rows, columns)
    union = both.sum(1)[:, None] + both.sum(0)[None, :] - both
    iou = both / np.maximum(union, 1)
    iou[0], iou[:, 0] = 0, 0
    return iou


def _without_slivers(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Drop the labels that cover too little or too much of the image, and those that are all edge."""
    labels = labels.astype(np.int32)
    area = np.bincount(labels.ravel())
    square, image = np.ones((3, 3), np.uint8), labels.astype(np.float32)  # OpenCV erodes no int32
    inside = np.bincount(labels[cv2.erode(image, square) == cv2.dilate(image, square)], minlength=len(area))
    keep = (area >= MIN_AREA * labels.size) & (area <= MAX_AREA * labels.size) & (inside >= MIN_INSIDE * area)
    return np.where(keep[labels], labels, 0)
