"""Segmenters by name."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lift_ros.errors import ConfigError
from lift_ros.masks.base import Segmenter
from lift_ros.masks.checkpoints import CHECKPOINTS, checkpoint_file
from lift_ros.masks.config import SEGMENTERS
from lift_ros.masks.generator import AutomaticMaskSegmenter, GeneratorConfig

log = logging.getLogger(__name__)


def make_segmenter(
    name: str,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
    masks_dir: str | Path | None = None,
    generator: GeneratorConfig | None = None,
) -> Segmenter:
    """The segmenter ``name``, one of ``SEGMENTERS``.

    Args:
        checkpoint: file of weights of a SAM; for ``mobile_sam_onnx`` the directory of the exported pair.
        device: torch device of a SAM in torch.
        masks_dir: directory of label images, for ``recorded``.
        generator: grid and thresholds of a SAM's mask generator.

    Raises:
        ConfigError: there is no such segmenter, or a package that it needs is not installed.
        CheckpointError: its weights are missing or wrong.
        DatasetError: there are no recorded masks in ``masks_dir``.
    """
    with _packages_of(name):
        return _make(name, checkpoint, device, masks_dir, generator)


def check_segmenter(name: str, checkpoint: str | Path | None = None, masks_dir: str | Path | None = None) -> None:
    """Find out what ``make_segmenter`` would miss, without the time and memory that loading weights takes.

    Raises:
        ConfigError, CheckpointError, DatasetError: as ``make_segmenter``; weights that are there may yet be wrong.
    """
    with _packages_of(name):
        if name not in SEGMENTERS:
            raise _unknown(name)
        if name == "mobile_sam_onnx":
            from lift_ros.masks.onnx import exported_pair

            exported_pair(checkpoint)
        elif name in CHECKPOINTS:
            from lift_ros.masks.sam import segment_anything

            checkpoint_file(name, checkpoint)
            segment_anything("modeling")
        elif name == "graph":
            from lift_ros.masks.region_graph import check_opencv

            check_opencv()
        elif name == "recorded":
            _make(name, None, "cpu", masks_dir, None)


@contextmanager
def _packages_of(name: str) -> Iterator[None]:
    """Where a package of the segmenter ``name`` is not installed, ConfigError says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the segmenter {name} needs the Python package {error.name}: pip install -r requirements/sam.txt in a "
            "clone for SAM in torch, requirements/onnx.txt for the ONNX pair"
        ) from error


def _make(
    name: str,
    checkpoint: str | Path | None,
    device: str,
    masks_dir: str | Path | None,
    generator: GeneratorConfig | None,
) -> Segmenter:
    # Imported where used: a robot with the ONNX pair or recorded masks needs neither segment_anything nor its weights.
    match name:
        case "sam_vit_b" | "sam_vit_l" | "sam_vit_h":
            from lift_ros.masks.sam import load_sam

            return AutomaticMaskSegmenter(name, load_sam(name, checkpoint, device), generator)
        case "mobile_sam":
            from lift_ros.masks.mobile_sam import load_mobile_sam

            return AutomaticMaskSegmenter(name, load_mobile_sam(checkpoint, device), generator)
        case "mobile_sam_onnx":
            from lift_ros.masks.onnx import OnnxSam

            return AutomaticMaskSegmenter(name, OnnxSam(checkpoint), generator)
        case "graph":
            from lift_ros.masks.graph import GraphSegmenter

            log.warning(
                "masks come from graph segmentation of colour and depth, not from SAM: expect coarser objects. For SAM "
                "set the segmenter to mobile_sam or sam_vit_b, sam_vit_l, sam_vit_h and give its checkpoint file."
            )
            return GraphSegmenter()
        case "recorded":
            from lift_ros.masks.recorded import RecordedSegmenter

            return RecordedSegmenter(masks_dir)
        case "topic":
            from lift_ros.masks.topic import TopicSegmenter

            return TopicSegmenter()
    raise _unknown(name)


def _unknown(name: str) -> ConfigError:
    return ConfigError(f"there is no segmenter {name!r}; choose one of {', '.join(SEGMENTERS)}")
