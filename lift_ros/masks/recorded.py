"""Masks stored with a data set, one label image a frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lift_ros.errors import DatasetError, FrameRejected
from lift_ros.frame import Frame
from lift_ros.masks.base import Masks, Prompts


class RecordedSegmenter:
    """Reads the masks of a frame from ``<directory>/<frame.name>.png``, an 8- or 16-bit label image, 0 = no mask."""

    name = "recorded"
    promptable = False

    def __init__(self, directory: str | Path | None) -> None:
        """Masks in ``directory``.

        Raises:
            DatasetError: it is not a directory, or has no PNG files; names the mask directories beside it.
        """
        if not directory:
            raise DatasetError("recorded masks need the directory that holds them, for instance CAPTURE/masks_sam")
        self.directory = Path(directory)
        if not any(self.directory.glob("*.png")):
            siblings = sorted(p.name for p in self.directory.parent.glob("masks_*") if p.is_dir())
            found = f"; there are {', '.join(siblings)}" if siblings else ""
            raise DatasetError(f"no masks (PNG label images) in {self.directory}{found}")

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        """The stored masks, one per label, at the frame's resolution; ``prompts`` change nothing.

        Raises:
            FrameRejected: ``masks_missing``, ``masks_size``.
            DatasetError: the file is no label image.
        """
        path = self.directory / f"{frame.name}.png"
        if not frame.name or not path.is_file():
            raise FrameRejected("masks_missing", f"no recorded masks for frame {frame.name!r} in {self.directory}")
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if labels is None:
            raise DatasetError(f"{path} is not a readable image")
        if labels.ndim != 2:
            raise DatasetError(f"{path} has {labels.shape[2]} channels; a label image has one (8 or 16 bit)")
        return masks_at(labels, frame)


def masks_at(labels: NDArray, frame: Frame) -> Masks:
    """Masks of an (h, w) label image brought to the frame's resolution.

    Raises:
        FrameRejected: ``masks_size``, where the shapes differ by more than a change of scale.
    """
    height, width = frame.image.shape[:2]
    if labels.shape != (height, width):
        if abs(labels.shape[0] * width - labels.shape[1] * height) > 0.01 * labels.shape[0] * width:
            raise FrameRejected(
                "masks_size", f"masks are {labels.shape[1]}x{labels.shape[0]}, the image {width}x{height}"
            )
        labels = cv2.resize(labels.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST)
    return Masks.from_label_image(labels)
