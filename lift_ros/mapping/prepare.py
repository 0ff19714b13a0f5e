"""What a mapper is made with: the device it trains on and the segmenter, as the configuration has them."""

from __future__ import annotations

import importlib.util
import logging

import torch

from lift_ros.config import Config
from lift_ros.errors import ConfigError
from lift_ros.masks import make_segmenter
from lift_ros.masks.base import Segmenter
from lift_ros.masks.generator import GeneratorConfig

log = logging.getLogger(__name__)


def make_mapper_segmenter(config: Config) -> Segmenter:
    """The segmenter that ``config.masks`` names. See ``make_segmenter`` for the errors."""
    masks = config.masks
    return make_segmenter(
        masks.segmenter,
        masks.checkpoint or None,
        str(training_device(config)),
        masks.directory or None,
        GeneratorConfig(
            points_per_side=masks.points_per_side,
            pred_iou_thresh=masks.pred_iou_thresh,
            stability_score_thresh=masks.stability_score_thresh,
            box_nms_thresh=masks.box_nms_thresh,
        ),
    )


def training_device(config: Config) -> torch.device:
    """The device that ``config.mapping.device`` stands for. auto is CUDA only where gsplat can rasterize there.

    Raises:
        ConfigError: CUDA was asked for and is not there, or gsplat is not.
    """
    wanted = config.mapping.device
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("mapping.device is cuda, but torch sees no CUDA device; set it to auto or cpu")
    if importlib.util.find_spec("gsplat") is None:
        if wanted == "cuda":
            raise ConfigError("mapping.device is cuda, which needs gsplat: pip install 'gsplat>=1.5.3'")
        log.warning(
            "there is a CUDA device, but no gsplat to use it with (pip install 'gsplat>=1.5.3'): mapping on the CPU"
        )
        return torch.device("cpu")
    return torch.device("cuda")
