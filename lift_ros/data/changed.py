"""Captures whose frames are not used as they are stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lift_ros.data.capture import Capture
from lift_ros.frame import Frame


class ChangedCapture(Capture):
    """``capture``, which stays its owner's to close, with every frame changed. Image and labels keep their size."""

    def __init__(self, capture: Capture, change: Callable[[Frame], Frame]) -> None:
        super().__init__()
        self._capture, self._change = capture, change
        self.name, self.world_frame, self.has_depth = capture.name, capture.world_frame, capture.has_depth
        self.sparse_cloud, self.recorded_names = capture.sparse_cloud, capture.recorded_names
        self.incomplete_names, self.timed = capture.incomplete_names, capture.timed
        self.problems = capture.problems

    def __len__(self) -> int:
        return len(self._capture)

    def labelled(self, name: str) -> int:
        """See ``Capture.labelled``."""
        return self._capture.labelled(name)

    def first_labels(self, name: str) -> str:
        """See ``Capture.first_labels``."""
        return self._capture.first_labels(name)

    @property
    def files(self) -> list[Path]:
        """See ``Capture.files``."""
        return self._capture.files

    def load(self, index: int, depth: bool = True) -> Frame:
        """See ``Capture.load``."""
        return self._change(self._capture.load(index, depth))

    def _load_labels(self, name: str, frame: Frame) -> NDArray | None:
        return self._capture._load_labels(name, frame)

    def overlapping_masks(self, name: str, frame: Frame) -> list[NDArray[np.int32]]:
        """See ``Capture.overlapping_masks``."""
        return self._capture.overlapping_masks(name, frame)

    def close(self) -> None:
        """Release the files of the capture that was changed."""
        self._capture.close()


class WithoutDepth(ChangedCapture):
    """``capture`` as if it had been taken with a camera that measures no depth: what it has is not read."""

    def __init__(self, capture: Capture) -> None:
        super().__init__(capture, lambda frame: frame)
        self.has_depth = False

    def load(self, index: int, depth: bool = True) -> Frame:
        """See ``Capture.load``."""
        return super().load(index, depth=False)
