"""Masks stored with a data set, one label image a frame."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from numpy.typing import NDArray

from lift_ros.data.capture import Capture
from lift_ros.data.files import read_labels
from lift_ros.errors import ConfigError, DatasetError, FrameRejected
from lift_ros.frame import Frame
from lift_ros.masks.base import Masks, Prompts, ids_in
from lift_ros.resampling import labels_at

log = logging.getLogger(__name__)

MAX_IDS = 1000  # of a label image; each becomes a mask of the size of the image


class RecordedSegmenter:
    """Reads the masks of a frame from ``<directory>/<frame.name>.png``, a label image of the undistorted frame, 0 = no
    mask; its ids are those of ``read_labels``."""

    name = "recorded"
    promptable = False

    def __init__(self, directory: str | Path | None) -> None:
        """Masks in ``directory``.

        Raises:
            DatasetError: it is not a directory, or has no PNG files; names the mask directories beside it.
        """
        if not directory:
            raise DatasetError("recorded masks need the directory that holds them, for instance CAPTURE/masks_sam")
        self.directory = Path(os.path.expanduser(directory))
        if not any(self.directory.glob("*.png")):
            siblings = sorted(p.name for p in self.directory.parent.glob("masks_*") if p.is_dir())
            found = f"; there are {', '.join(siblings)}" if siblings else ""
            raise DatasetError(f"no masks (PNG label images) in {self.directory}{found}")

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        """The stored masks, one per label, at the frame's resolution; ``prompts`` change nothing.

        Raises:
            FrameRejected: ``masks_missing``, ``masks_size``; ``labels_unreadable``, ``labels_encoding``.
        """
        path = self.directory / f"{frame.name}.png"
        if not frame.name or not path.is_file():
            raise FrameRejected("masks_missing", f"no recorded masks for frame {frame.name!r} in {self.directory}")
        return masks_at(read_labels(path), frame)


class CaptureMasks:
    """Segmenter: the label images recorded with a capture under a name. Frames without one get no masks."""

    name = "recorded"
    promptable = False

    def __init__(self, capture: Capture, labels: str) -> None:
        """Logs how many frames have masks, if it is not all of them.

        Raises:
            ConfigError: the capture holds none of that name, or none that belong to a frame of it.
        """
        if labels not in capture.recorded_names:
            known = ", ".join(capture.recorded_names) or "none"
            raise ConfigError(f"{capture.name} has no recorded masks '{labels}'; it has: {known}")
        found = capture.labelled(labels)
        if not found:
            raise ConfigError(
                f"none of the {len(capture)} frames of {capture.name} has recorded masks '{labels}'; those of the "
                f"first are looked for in {capture.first_labels(labels)}"
            )
        if found < len(capture):
            log.warning("%d of %d frames have masks '%s'", found, len(capture), labels)
        self._capture = capture
        self._labels = labels

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        labels = self._capture.recorded_labels(self._labels, frame)
        return Masks.empty(*frame.image.shape[:2]) if labels is None else masks_at(labels, frame)


def masks_at(labels: NDArray, frame: Frame) -> Masks:
    """Masks of an (h, w) label image brought to the frame's resolution.

    Raises:
        FrameRejected: ``masks_size``, where the shapes differ by more than a change of scale; ``masks_too_many`` for
            more than ``MAX_IDS`` ids.
    """
    try:
        labels = labels_at(labels, *frame.image.shape[:2])
    except ValueError as error:
        raise FrameRejected("masks_size", f"masks are {error}") from None
    ids = ids_in(labels)
    if len(ids) > MAX_IDS:
        raise FrameRejected("masks_too_many", f"{len(ids)} masks, at most {MAX_IDS} are taken: is this a label image?")
    return Masks.from_label_image(labels, ids)
