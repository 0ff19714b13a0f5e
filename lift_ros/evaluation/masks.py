"""Where the masks of an evaluation come from."""

from __future__ import annotations

import zlib

import numpy as np

from lift_ros.config import Config
from lift_ros.data.capture import Capture
from lift_ros.errors import ConfigError
from lift_ros.evaluation.corruption import LEVELS, PCF, Corruption, corrupt_masks
from lift_ros.frame import Frame
from lift_ros.mapping.prepare import make_mapper_segmenter
from lift_ros.masks.base import Masks, Prompts, Segmenter
from lift_ros.masks.factory import SEGMENTERS
from lift_ros.masks.recorded import CaptureMasks

TRUTH = "instances"  # name under which captures hold their true instances
PARTS = "parts"  # name under which they hold the parts of these
NESTED = "nested"
RECORDED = "recorded:"
CORRUPTIONS = {**LEVELS, "PCF": PCF}
MOST_FRAMES = 0.5  # that must have true instances, where masks are made from these


class CorruptedMasks:
    """Segmenter: the true instances with faults, the same for one seed and frame whichever frames are asked for."""

    promptable = False

    def __init__(self, capture: Capture, level: str, seed: int, truth: str = TRUTH) -> None:
        """``level``: one of ``CORRUPTIONS``; ``truth``: name under which the capture holds its true instances."""
        self.name = level
        self._capture, self._truth = capture, truth
        self._faults: Corruption = CORRUPTIONS[level]
        self._seed = seed

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        truth = self._capture.recorded_labels(self._truth, frame)
        if truth is None:
            return Masks.empty(*frame.image.shape[:2])
        rng = np.random.default_rng((self._seed, zlib.crc32(frame.name.encode())))
        return Masks.from_label_image(corrupt_masks(truth, self._faults, rng))


class NestedMasks:
    """Segmenter: the masks of true instances and those of their parts over them, all with the faults of L1."""

    name = NESTED
    promptable = False

    def __init__(self, capture: Capture, seed: int, truth: str = TRUTH) -> None:
        self._levels = [CorruptedMasks(capture, "L1", seed + k, name) for k, name in enumerate((truth, PARTS))]

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        wholes, parts = (level.segment(frame) for level in self._levels)
        return Masks(np.concatenate([wholes.masks, parts.masks]))


class SparseMasks:
    """Segmenter: another one's masks for an even share of the frames, and none for the rest.

    Only keyframes need masks. So the next keyframe has them as soon as fewer than ``share`` of the frames so far had.
    Frames of which the other one has none do not count as having had any.

    Attributes:
        used: frames that had masks.
    """

    def __init__(self, segmenter: Segmenter, share: float) -> None:
        """``share`` in (0, 1]."""
        self.name, self.promptable = segmenter.name, segmenter.promptable
        self.used = 0
        self._segmenter = segmenter
        self._share = share
        self._frames = 0

    def next_frame(self) -> None:
        """To be called after each frame, keyframe or not."""
        self._frames += 1

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        if self.used >= self._share * (self._frames + 1):
            return Masks.empty(*frame.image.shape[:2])
        masks = self._segmenter.segment(frame, prompts)
        self.used += len(masks) > 0
        return masks


def mask_settings(source: str) -> dict[str, object]:
    """Parameters that a source of masks stands for: ``recorded:NAME``, a name in ``CORRUPTIONS``, ``nested``, or a
    segmenter.
    """
    ours = source in CORRUPTIONS or source == NESTED or source.startswith(RECORDED)
    return {"masks.segmenter": "recorded" if ours else source}


def make_masks(source: str, capture: Capture, config: Config, seed: int, truth: str = TRUTH) -> Segmenter:
    """The segmenter for ``source``, see ``mask_settings``; errors as ``check_masks`` and ``make_segmenter``."""
    if source.startswith(RECORDED):
        return CaptureMasks(capture, source.removeprefix(RECORDED))
    check_masks(source, capture, truth)
    if source in CORRUPTIONS:
        return CorruptedMasks(capture, source, seed, truth)
    if source == NESTED:
        return NestedMasks(capture, seed, truth)
    return make_mapper_segmenter(config)


def check_masks(source: str, capture: Capture, truth: str = TRUTH) -> None:
    """Refuse masks that a capture cannot have.

    Raises:
        ConfigError: it holds no masks of that name, or for none of its frames, or too few true instances to corrupt;
            there is no such segmenter.
    """
    known = ", ".join(capture.recorded_names) or "none"
    if source == NESTED and PARTS not in capture.recorded_names:
        raise ConfigError(f"masks {NESTED} need true parts, recorded as '{PARTS}'; {capture.name} has: {known}")
    if source in (*CORRUPTIONS, NESTED):
        if truth not in capture.recorded_names:
            raise ConfigError(
                f"masks {source} are made from true instances, and {capture.name} has none named '{truth}'; "
                f"what it has: {known} (--truth NAME if one of them is the truth; else --masks {RECORDED}NAME or a "
                "segmenter, as --masks graph)" + "".join(f"; {problem}" for problem in capture.problems)
            )
        labelled = capture.labelled(truth)
        if not labelled:
            raise ConfigError(
                f"masks {source} are made from true instances, and none of the {len(capture)} frames of {capture.name} "
                f"has any; those of the first are looked for in {capture.first_labels(truth)}"
            )
        if labelled < MOST_FRAMES * len(capture):
            raise ConfigError(
                f"masks {source} are made from true instances, and {capture.name} has these for {labelled} of its "
                f"{len(capture)} frames only, on which it is to be judged: use {RECORDED}NAME (it has: {known}) or a "
                "segmenter"
            )
    elif source.startswith(RECORDED):
        CaptureMasks(capture, source.removeprefix(RECORDED))
    else:
        segmenters = tuple(name for name in SEGMENTERS if name != "topic")  # nobody publishes any here
        if source not in segmenters:
            raise ConfigError(
                f"--masks '{source}' is none of {RECORDED}NAME, {', '.join((*CORRUPTIONS, NESTED, *segmenters))}"
            )
