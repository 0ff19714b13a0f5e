"""2D instance masks of single frames: SAM, graph segmentation, or masks made elsewhere."""

from lift_ros.masks.base import Masks, Prompts, Segmenter
from lift_ros.masks.config import SEGMENTERS
from lift_ros.masks.factory import check_segmenter, make_segmenter
from lift_ros.masks.generator import GeneratorConfig
from lift_ros.masks.prompting import make_prompts

__all__ = [
    "SEGMENTERS",
    "GeneratorConfig",
    "Masks",
    "Prompts",
    "Segmenter",
    "check_segmenter",
    "make_prompts",
    "make_segmenter",
]
