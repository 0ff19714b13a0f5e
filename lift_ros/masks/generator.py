"""Automatic mask generation with any promptable model: segment_anything's algorithm in numpy.

Follows segment_anything's ``SamAutomaticMaskGenerator`` (Kirillov et al., Segment Anything, 2023, appendix B) over
the whole image, without its optional image crops: a grid of point prompts, three masks a point, a filter on the
predicted IoU and one on stability, then non-maximum suppression of the masks' boxes. What it adds is incremental
prompting: where the map explains the image, one point per known object takes the place of the grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lift_ros.frame import Frame
from lift_ros.masks.base import Masks, Prompts
from lift_ros.masks.sam_image import resized_shape, upscale_logits

if TYPE_CHECKING:
    from lift_ros.masks.config import MasksConfig

POINTS_PER_BATCH = 64
STABILITY_OFFSET = 1.0  # of the logits; both are segment_anything's


class PromptableModel(Protocol):
    """A SAM: an image encoder that runs once a frame and a mask decoder that runs for every prompt."""

    input_size: int

    def embed(self, image: NDArray[np.uint8]) -> Any:
        """(H, W, 3) uint8 RGB -> whatever ``decode`` needs of the image."""
        ...

    def decode(self, embedding: Any, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(P, 2) foreground points in pixels of the model's input -> (P, M, h, w) mask logits and (P, M) predicted IoU.

        The logits cover the model's padded square input at a lower resolution (h = w = input_size / 4).
        """
        ...


class AutomaticMaskSegmenter:
    """Segments everything a promptable model finds in a frame."""

    promptable = True

    def __init__(self, model: PromptableModel, config: MasksConfig) -> None:
        """``config``: its name, the grid of points and the thresholds."""
        self.name = config.segmenter
        self.model = model
        self.config = config

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        """Masks of ``frame``, best predicted IoU first; see ``Segmenter``."""
        config = self.config
        height, width = frame.image.shape[:2]
        points = prompt_points(config.points_per_side, height, width, prompts)
        if len(points) == 0:
            return Masks.empty(height, width)

        embedding = self.model.embed(frame.image)
        resized = resized_shape(height, width, self.model.input_size)
        to_input = np.array([resized[1] / width, resized[0] / height], np.float32)
        packed, boxes, ious = [], [], []
        for start in range(0, len(points), POINTS_PER_BATCH):
            logits, predicted_iou = self.model.decode(embedding, points[start : start + POINTS_PER_BATCH] * to_input)
            # The IoU filter comes first: what it drops need not be brought to the image's size.
            for index in np.argwhere(predicted_iou > config.pred_iou_thresh):
                logit = upscale_logits(logits[tuple(index)], self.model.input_size, height, width)
                mask = logit > 0
                if stability_score(logit) < config.stability_score_thresh or not mask.any():
                    continue
                packed.append(np.packbits(mask))  # a grid gives a thousand masks before suppression: keep bits
                boxes.append(mask_box(mask))
                ious.append(predicted_iou[tuple(index)])

        masks = Masks.empty(height, width)
        if packed:
            keep = box_nms(np.array(boxes), np.array(ious, np.float32), config.box_nms_thresh)
            bits = np.unpackbits(np.stack([packed[k] for k in keep]), axis=1, count=height * width)
            masks = Masks(bits.reshape(-1, height, width).astype(bool))
        masks.prompts_used = len(points)
        return masks


def point_grid(points_per_side: int) -> NDArray[np.float64]:
    """(n * n, 2) points in the unit square at the centres of an n x n grid, row by row."""
    centres = (np.arange(points_per_side) + 0.5) / points_per_side
    x, y = np.meshgrid(centres, centres)
    return np.stack([x.ravel(), y.ravel()], axis=-1)


def prompt_points(points_per_side: int, height: int, width: int, prompts: Prompts | None) -> NDArray[np.float32]:
    """(P, 2) pixel coordinates to prompt: the known objects' points, then the grid where nothing is explained."""
    grid = (point_grid(points_per_side) * (width, height)).astype(np.float32)
    if prompts is None:
        return grid
    if prompts.explained is not None:
        if prompts.explained.shape != (height, width):
            raise ValueError(f"explained is {prompts.explained.shape}, the image {(height, width)}")
        column, row = grid.astype(int).T
        grid = grid[~prompts.explained[row, column]]
    return np.concatenate([prompts.points.reshape(-1, 2).astype(np.float32), grid])


def stability_score(logits: NDArray[np.float32]) -> float:
    """IoU of the mask cut at ``STABILITY_OFFSET`` above 0 and as much below; 0 for an empty mask."""
    union = np.count_nonzero(logits > -STABILITY_OFFSET)
    return np.count_nonzero(logits > STABILITY_OFFSET) / union if union else 0.0


def mask_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Box (x0, y0, x1, y1) of a non-empty (H, W) mask, the last row and column included."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1], rows[-1]


def box_nms(boxes: NDArray, scores: NDArray, iou_threshold: float) -> NDArray[np.int64]:
    """Greedy non-maximum suppression, as torchvision's ``nms``.

    Args:
        boxes: (N, 4) as x0, y0, x1, y1.
        scores: (N,).

    Returns:
        Indices of the boxes kept, by falling score (equal scores in the order given).
    """
    x0, y0, x1, y1 = boxes.astype(np.float64).T
    areas = (x1 - x0) * (y1 - y0)
    order = np.argsort(-scores, kind="stable")
    keep = []
    while len(order):
        best, rest = order[0], order[1:]
        keep.append(best)
        overlap_x = np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest])
        overlap_y = np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest])
        intersection = np.maximum(overlap_x, 0) * np.maximum(overlap_y, 0)
        # Cross-multiplied: two boxes one pixel wide have no area, and neither suppresses the other.
        order = rest[intersection <= iou_threshold * (areas[best] + areas[rest] - intersection)]
    return np.array(keep, np.int64)
