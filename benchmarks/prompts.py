"""Prompt points spent per keyframe, as the map fills, with the real generator and mapper.

    python benchmarks/prompts.py CAPTURE [--masks L0] [--points-per-side 16]

The promptable model answers each point with the recorded mask under it, so that no SAM weights are needed and the masks
are those of the capture. Recall: the share of recorded masks (of at least 100 pixels) of which the generator returned
one with IoU above 0.5, with incremental prompts, and with full grids of several sizes on the same frames: the smallest
of them that finds as much says what as good masks would cost without a map.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
from pathlib import Path

import cv2
import numpy as np
from common import recorded
from numpy.typing import NDArray

from lift_ros.config import Config
from lift_ros.data import Capture, open_capture
from lift_ros.frame import Frame
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import map_capture
from lift_ros.masks.base import Masks, Prompts
from lift_ros.masks.config import MasksConfig
from lift_ros.masks.generator import AutomaticMaskSegmenter
from lift_ros.masks.sam_image import resized_shape


class RecordedModel:
    """A promptable model that knows the masks of the frame at hand: the mask under a point is its answer."""

    input_size = 1024

    def __init__(self) -> None:
        self.labels = np.zeros((1, 1), np.int32)

    def embed(self, image: NDArray[np.uint8]) -> NDArray[np.int32]:
        height, width = resized_shape(*image.shape[:2], self.input_size // 4)
        padded = np.zeros((self.input_size // 4, self.input_size // 4), np.int32)
        padded[:height, :width] = cv2.resize(
            self.labels.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST
        )
        return padded

    def decode(self, embedding: NDArray, points: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        column, row = (points / 4).astype(int).clip(0, self.input_size // 4 - 1).T
        under = embedding[row, column]
        logits = np.where(embedding[None] == under[:, None, None], np.float32(8), np.float32(-8))
        return logits[:, None], np.where(under > 0, np.float32(0.95), np.float32(0))[:, None]


class CountingSegmenter:
    """The generator on recorded masks; keeps the recall of each keyframe, and that of full grids beside it."""

    name = "recorded, by prompts"
    promptable = True

    def __init__(self, capture: Capture, masks: str, points_per_side: int) -> None:
        self._capture, self._masks = capture, masks
        self._model = RecordedModel()
        self.sides = range(4, points_per_side + 1, 2)
        self._grids = [
            AutomaticMaskSegmenter(self._model, MasksConfig(points_per_side=side))
            for side in (*self.sides, points_per_side)
        ]
        self.recalls: list[list[float]] = []
        self.spent: list[int] = []

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        labels = recorded(self._capture, self._masks, frame)
        if labels is None:
            return Masks.empty(*frame.image.shape[:2])
        self._model.labels = labels
        *full, incremental = self._grids
        masks = incremental.segment(frame, prompts)
        self.spent.append(masks.prompts_used)
        self.recalls.append([self._recall(masks), *(self._recall(grid.segment(frame)) for grid in full)])
        return masks

    def _recall(self, masks: Masks) -> float:
        wanted = [self._model.labels == k for k in np.unique(self._model.labels) if k > 0]
        wanted = [mask for mask in wanted if mask.sum() >= 100]
        found = [any((mask & m).sum() > 0.5 * (mask | m).sum() for m in masks.masks) for mask in wanted]
        return float(np.mean(found)) if found else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("capture", type=Path)
    parser.add_argument("--masks", default="L0")
    parser.add_argument("--points-per-side", type=int, default=16)
    args = parser.parse_args()
    with open_capture(args.capture) as capture:
        segmenter = CountingSegmenter(capture, args.masks, args.points_per_side)
        mapper = Mapper(Config(), segmenter, capture.world_frame)
        map_capture(capture, mapper)
    spent = segmenter.spent
    print("points per keyframe:", *spent)
    incremental, *full = np.mean(segmenter.recalls, axis=0)
    print(f"mean {np.mean(spent):.0f}, second half {np.mean(spent[len(spent) // 2 :]):.0f}, recall {incremental:.3f}")
    for side, recall in zip(segmenter.sides, full, strict=True):
        print(f"full grid of {side**2}: recall {recall:.3f}")


if __name__ == "__main__":
    main()
