"""2D instance masks of single frames: SAM, graph segmentation, or masks made elsewhere."""

from lift_ros.masks.base import Masks, Prompts, Segmenter
from lift_ros.masks.config import MasksConfig
from lift_ros.masks.factory import SEGMENTERS, check_segmenter, make_segmenter
from lift_ros.masks.prompting import make_prompts

__all__ = [
    "SEGMENTERS",
    "Masks",
    "MasksConfig",
    "Prompts",
    "Segmenter",
    "check_segmenter",
    "make_prompts",
    "make_segmenter",
]
