"""What a recorded capture offers, whatever its layout on disk, and how to open one.

Each layout is one module with a subclass of ``Capture`` (nerfstudio.py, rosbag.py).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from lift_ros.errors import DatasetError, FrameRejected
from lift_ros.frame import Frame

if TYPE_CHECKING:
    from lift_ros.data.rosbag import BagOptions


@dataclass(frozen=True)
class SparseCloud:
    """Points of a structure-from-motion reconstruction: ``points`` (M, 3) world, ``colors`` (M, 3) uint8 RGB."""

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]


class Capture(ABC):
    """A recorded sequence of posed images, read lazily. Not thread-safe.

    Attributes:
        name: short name for logs and outputs.
        world_frame: name of the frame the poses are given in.
        has_depth: whether frames may carry depth.
        sparse_cloud: points known of the scene, None where there are none.
        recorded_names: names that ``recorded_labels`` knows.
        problems: what is wrong with the capture as a whole but does not stop it from being read (a truncated file).
    """

    name: str
    world_frame: str
    has_depth: bool
    sparse_cloud: SparseCloud | None = None
    recorded_names: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._skipped: dict[int, str] = {}

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames listed; those that cannot be used are counted here and skipped in ``frames``."""

    @abstractmethod
    def load(self, index: int) -> Frame:
        """Frame ``index`` of the listing, 0-based.

        Raises:
            FrameRejected: the frame cannot be used; its ``reason`` is the key it is counted under.
        """

    @abstractmethod
    def _load_labels(self, name: str, frame: Frame) -> NDArray | None:
        """Labels of ``frame`` at the size of the recorded image, undistorted as it is; None where there are none."""

    @property
    def frames(self) -> Frames:
        """The usable frames in the order of time; each iteration reads them anew."""
        return Frames(self)

    @property
    def skipped(self) -> Counter[str]:
        """Frames of the listing that turned out unusable so far, counted by reason."""
        return Counter(self._skipped.values())

    def recorded_labels(self, name: str, frame: Frame) -> NDArray[np.int32] | None:
        """Label image recorded with the capture for ``frame``: masks of a segmenter, or the true instances.

        Returns:
            (H, W) int32 at the size of ``frame``, 0 = no label; None where this frame has none.

        Raises:
            DatasetError: the capture holds nothing of that name.
            FrameRejected: ``labels_encoding``, ``labels_size``, ``labels_unreadable``.
        """
        if name not in self.recorded_names:
            raise DatasetError(
                f"{self.name} holds no recorded labels '{name}'; it has: {', '.join(self.recorded_names) or 'none'}"
            )
        labels = self._load_labels(name, frame)
        if labels is None:
            return None
        height, width = frame.image.shape[:2]
        if labels.shape != (height, width):
            # OpenCV resizes no int32; float32 holds every id below 2^24
            labels = cv2.resize(labels.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
        return labels.astype(np.int32)

    def close(self) -> None:  # noqa: B027  layouts that keep no file open need none
        """Release open files."""

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Frames:
    """The usable frames of a capture: ``len`` counts the listing, iteration skips what cannot be used."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture

    def __len__(self) -> int:
        return len(self._capture)

    def __getitem__(self, index: int) -> Frame:
        """Raises FrameRejected where that frame cannot be used."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return self._capture.load(index % len(self))

    def __iter__(self) -> Iterator[Frame]:
        """Frames in order; unusable ones are counted in ``Capture.skipped``.

        Raises:
            DatasetError: not one frame could be used.
        """
        capture = self._capture
        usable = 0
        last = None
        for index in range(len(capture)):
            try:
                frame = capture.load(index)
            except FrameRejected as error:
                capture._skipped[index] = error.reason
                last = error
                continue
            usable += 1
            yield frame
        if not usable:
            reasons = ", ".join(f"{count} x {reason}" for reason, count in capture.skipped.most_common())
            raise DatasetError(
                f"none of the {len(capture)} frames of {capture.name} can be used ({reasons}); the last: {last}"
            )


def clip_depth(depth: NDArray[np.float32], max_depth: float) -> NDArray[np.float32]:
    """Depth beyond ``max_depth`` is no measurement: 0."""
    return depth if math.isinf(max_depth) else np.where(depth <= max_depth, depth, np.float32(0))


def open_capture(path: str | Path, *, max_depth: float = math.inf, bag: BagOptions | None = None) -> Capture:
    """Open a capture by what lies at ``path``.

    Args:
        path: a directory with ``transforms.json`` or that file (nerfstudio), a rosbag2 directory, or an ``.mcap`` or
            ``.db3`` file.
        max_depth: depth beyond this counts as unknown, in the unit of the poses.
        bag: which topics of a bag to read; found by their types where not named.

    Raises:
        DatasetError: nothing readable is there; the message says what was looked for.
    """
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    if path.suffix == ".json" or (path / "transforms.json").is_file():
        from lift_ros.data.nerfstudio import NerfstudioCapture

        return NerfstudioCapture(path, max_depth=max_depth)
    storage = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
    is_bag = path.name.endswith(storage)
    if path.is_dir():
        is_bag = (path / "metadata.yaml").is_file() or any(f.name.endswith(storage) for f in path.iterdir())
    if is_bag:
        from lift_ros.data.rosbag import BagCapture  # rosbags is imported only where a bag is read

        return BagCapture(path, bag, max_depth=max_depth)
    expected = "transforms.json (nerfstudio), or metadata.yaml or .mcap or .db3 files (rosbag2)"
    if path.is_dir():
        raise DatasetError(f"{path} is not a capture: it holds no {expected}")
    raise DatasetError(f"{path} is not a capture: expected a directory with {expected}, or one of these files")
