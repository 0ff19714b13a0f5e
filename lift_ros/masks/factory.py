"""Segmenters by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from lift_ros.errors import ConfigError
from lift_ros.masks.base import Segmenter
from lift_ros.masks.checkpoints import checkpoint_file
from lift_ros.masks.generator import AutomaticMaskSegmenter
from lift_ros.masks.graph import GraphSegmenter
from lift_ros.masks.mobile_sam import load_mobile_sam
from lift_ros.masks.recorded import RecordedSegmenter
from lift_ros.masks.sam import load_sam, segment_anything
from lift_ros.masks.topic import TopicSegmenter

if TYPE_CHECKING:
    from lift_ros.masks.config import MasksConfig

log = logging.getLogger(__name__)


class _Kind(NamedTuple):
    """How a segmenter is made, for a torch device, and how what it misses is found without loading weights."""

    make: Callable[[MasksConfig, str], Segmenter]
    check: Callable[[MasksConfig], object]


def make_segmenter(config: MasksConfig, device: str = "cpu") -> Segmenter:
    """The segmenter that ``config`` names.

    Args:
        device: torch device of a SAM in torch.

    Raises:
        ConfigError: there is no such segmenter, or a package that it needs is not installed.
        CheckpointError: its weights are missing or wrong.
        DatasetError: there are no recorded masks in the directory.
    """
    with packages_of(config.segmenter):
        return _kind(config.segmenter).make(config, device)


def check_segmenter(config: MasksConfig) -> None:
    """Find out what ``make_segmenter`` would miss, without the time and memory that loading weights takes.

    Raises:
        ConfigError, CheckpointError, DatasetError: as ``make_segmenter``; weights that are there may yet be wrong.
    """
    with packages_of(config.segmenter):
        _kind(config.segmenter).check(config)


def _kind(name: str) -> _Kind:
    if name not in SEGMENTERS:
        raise ConfigError(f"there is no segmenter {name!r}; choose one of {', '.join(SEGMENTERS)}")
    return SEGMENTERS[name]


@contextmanager
def packages_of(name: str) -> Iterator[None]:
    """Where a package of the segmenter ``name`` is not installed, ConfigError says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the segmenter {name} needs the Python package {error.name}: pip install -r requirements/sam.txt in a "
            "clone for SAM in torch, requirements/onnx.txt for the ONNX pair"
        ) from error


def _check_sam(config: MasksConfig) -> None:
    checkpoint_file(config.segmenter, config.checkpoint)
    segment_anything("modeling")


def _make_onnx(config: MasksConfig, device: str) -> Segmenter:
    from lift_ros.masks.onnx import OnnxSam  # late, as it needs ONNX Runtime

    return AutomaticMaskSegmenter(OnnxSam(config.checkpoint), config)


def _check_onnx(config: MasksConfig) -> None:
    from lift_ros.masks.onnx import exported_pair

    exported_pair(config.checkpoint)


def _make_graph(config: MasksConfig, device: str) -> Segmenter:
    log.warning(
        "masks come from graph segmentation of colour and depth, not from SAM: expect coarser objects. For SAM set the "
        "segmenter to mobile_sam or sam_vit_b, sam_vit_l, sam_vit_h and give its checkpoint file."
    )
    return GraphSegmenter()


_SAM = _Kind(
    lambda config, device: AutomaticMaskSegmenter(load_sam(config.segmenter, config.checkpoint, device), config),
    _check_sam,
)

SEGMENTERS: dict[str, _Kind] = {
    "sam_vit_b": _SAM,
    "sam_vit_l": _SAM,
    "sam_vit_h": _SAM,
    "mobile_sam": _Kind(
        lambda config, device: AutomaticMaskSegmenter(load_mobile_sam(config.checkpoint, device), config), _check_sam
    ),
    "mobile_sam_onnx": _Kind(_make_onnx, _check_onnx),
    "graph": _Kind(_make_graph, lambda config: GraphSegmenter()),
    "recorded": _Kind(
        lambda config, device: RecordedSegmenter(config.directory), lambda config: RecordedSegmenter(config.directory)
    ),
    "topic": _Kind(lambda config, device: TopicSegmenter(), lambda config: None),
}
