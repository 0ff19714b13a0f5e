"""Parameters of mask generation."""

from __future__ import annotations

from dataclasses import dataclass

from lift_ros.masks.factory import SEGMENTERS
from lift_ros.options import option


@dataclass(frozen=True)
class MasksConfig:
    """Where the masks of a keyframe come from."""

    segmenter: str = option(
        "graph",
        "Segmenter of the keyframes. graph needs no weights, and is no SAM; topic takes another node's masks.",
        choices=tuple(SEGMENTERS),
    )
    checkpoint: str = option(
        "", "File with the weights of a SAM; for mobile_sam_onnx the directory of the exported pair."
    )
    directory: str = option("", "Directory of label images <frame>.png, for the segmenter 'recorded'.")
    points_per_side: int = option(
        16,
        "Prompt points along each side of the image where the map explains nothing; SAM's own default is 32.",
        min=1,
        max=128,
    )
    pred_iou_thresh: float = option(
        0.88,
        "Quality that a SAM must expect of a mask for it to be kept; fewer and better ones above.",
        min=0.0,
        max=1.0,
    )
    stability_score_thresh: float = option(
        0.95, "Stability of a SAM's mask against a change of its threshold, to be kept.", min=0.0, max=1.0
    )
    box_nms_thresh: float = option(
        0.7, "Overlap of the boxes of two masks of a SAM, from which only the better is kept.", min=0.0, max=1.0
    )
