"""How well the contours of objects agree: boundary IoU over all views, and the figures of LERF-Mask.

The inner band of a mask are its pixels near its contour (Cheng et al., Boundary IoU, CVPR 2021). Masks of one label
image do not overlap, so all their bands fit into one label image again, and counting pairs of labels in these
(``Contingency``) gives the boundary IoU of every pair of masks at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lift_ros.evaluation.metrics import Contingency

DILATION_RATIO = 0.02  # of the image diagonal: the width of a band
EMPTY_IOU = 0.2  # an answer that agrees less with the object counts as none


def band_width(shape: tuple[int, int], dilation_ratio: float = DILATION_RATIO) -> int:
    """Width in pixels of the bands in an image of ``shape`` (H, W), at least one pixel."""
    return max(1, round(dilation_ratio * float(np.hypot(*shape))))


def inner_bands(labels: ArrayLike, dilation_ratio: float = DILATION_RATIO) -> NDArray[np.int64]:
    """(H, W) integer labels -> the same where a pixel is near its mask's contour, 0 elsewhere.

    Near is within ``band_width`` in the maximum norm. The image's border is a contour, too.
    """
    labels = np.asarray(labels)
    width = band_width(labels.shape, dilation_ratio)
    ids, index = np.unique(labels, return_inverse=True)  # OpenCV's filters take no integers of more than 16 bits
    dense = index.reshape(labels.shape).astype(np.float32)
    framed = cv2.copyMakeBorder(dense, width, width, width, width, cv2.BORDER_CONSTANT, value=len(ids))
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    inside = (slice(width, -width),) * 2
    band = cv2.erode(framed, square)[inside] != cv2.dilate(framed, square)[inside]
    return np.where(band, labels, 0).astype(np.int64)


def pair_iou(table: Contingency, predicted: int, truth: int) -> float:
    """IoU of one predicted with one true label; 0 where neither occurs."""
    p, g, count = table.pairs
    union = int(count[(p == predicted) | (g == truth)].sum())
    return float(count[(p == predicted) & (g == truth)].sum() / union) if union else 0.0


def mean_boundary_iou(bands: Contingency, matched: Mapping[int, int]) -> float:
    """Mean boundary IoU over the objects that were found; 0 where none was.

    Args:
        bands: counts of ``inner_bands`` of predicted and true labels over all views.
        matched: true id -> predicted id, see ``matched_objects``. As with PQ_scene the two masks of an object are all
            its pixels over all views.
    """
    return float(np.mean([pair_iou(bands, p, g) for g, p in matched.items()])) if matched else 0.0


@dataclass(frozen=True)
class NamedQuality:
    """Figures of LERF-Mask.

    Attributes:
        miou, mbiou: mean over the objects of the mean IoU and boundary IoU over the views that show it.
    """

    miou: float
    mbiou: float


def named_quality(views: Sequence[Contingency], bands: Sequence[Contingency]) -> NamedQuality:
    """Quality of one label per named object (Ye et al., Gaussian Grouping, LERF-Mask; Unified-Lift, sec. 4.2).

    The published systems find the label of an object by its name; here, where there are no names, it is the label that
    agrees best with the object over all its views, those where it has true pixels. It counts as empty where their IoU
    over these is below ``EMPTY_IOU`` (Unified-Lift does not say its threshold).

    Args:
        views, bands: for each view the counts of its labels and of their ``inner_bands``. Where true masks of a view
            overlap it is there several times, each object in one of them.

    Returns:
        The quality; all zero without objects.
    """
    table = Contingency()
    for view in views:
        table.update(view)
    p, g, _ = table.pairs
    objects = np.unique(g[g != 0]).tolist()
    labels = np.setdiff1d(p, (0,)).tolist()  # a background is none here: the largest segment may be an object
    scores = []
    for truth in objects:
        candidates = [label for label in labels if ((p == label) & (g == truth)).any()]
        shown = [i for i, view in enumerate(views) if (view.pairs[1] == truth).any()]
        together = Contingency()
        for i in shown:
            together.update(views[i])
        iou, answer = max(((pair_iou(together, label, truth), label) for label in candidates), default=(0.0, 0))
        if iou < EMPTY_IOU or not candidates:
            scores.append((0.0, 0.0))
            continue
        scores.append(
            tuple(float(np.mean([pair_iou(tables[i], answer, truth) for i in shown])) for tables in (views, bands))
        )
    if not objects:
        return NamedQuality(0.0, 0.0)
    return NamedQuality(*np.mean(scores, axis=0).tolist())
