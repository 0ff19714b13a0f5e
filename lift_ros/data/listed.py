"""Captures whose frames are image files that a listing or their names tell: what these layouts have in common."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lift_ros.camera import Camera
from lift_ros.data.capture import Capture, clip_depth
from lift_ros.data.files import read_depth, read_labels, read_mask, read_rgb
from lift_ros.data.undistort import UndistorterCache
from lift_ros.errors import FrameRejected
from lift_ros.frame import Frame, check_rigid
from lift_ros.resampling import median_depth, same_aspect

FRAME_INTERVAL = 0.1  # stands for the time between frames of layouts without times: ``Capture.timed`` is False
KINECT_INTERVAL = 1 / 30  # seconds, of the sensors of ScanNet and 7-Scenes


class Lens(NamedTuple):
    """Intrinsics of a recorded image: the arguments of ``Undistorter``."""

    camera: Camera
    D: tuple[float, ...] = ()
    model: str = "plumb_bob"

    def resized(self, width: int, height: int) -> Lens:
        """The lens of the same image resampled to ``width`` x ``height``.

        Raises:
            FrameRejected: ``image_size``, where more than the scale differs.
        """
        if not same_aspect((height, width), (self.camera.height, self.camera.width)):
            raise FrameRejected(
                "image_size", f"{width}x{height} pixels; its camera of {self.camera.width}x{self.camera.height} has "
                "another shape",
            )  # fmt: skip
        return self._replace(camera=self.camera.resized(width, height))


@dataclass(frozen=True)
class Entry:
    """The files of a frame.

    Attributes:
        name: of the frame, unique in the capture.
        depth: None where this frame has none.
        stamp: seconds.
        labels: recorded label images by the name they are offered under; they need not exist.
        mask: black where the image shows nothing of the scene; None: nowhere.
    """

    name: str
    image: Path
    stamp: float
    depth: Path | None = None
    labels: Mapping[str, Path] = field(default_factory=dict)
    mask: Path | None = None


class ListedCapture(Capture):
    """Frames given as files. A layout fills ``__init__`` and says what pose and lens each frame has."""

    world_frame = "map"

    def __init__(
        self,
        root: Path,
        entries: list[Entry],
        *,
        sources: list[Path],
        max_depth: float,
        depth_unit: float = 0.001,
        no_depth: str = "no depth",
    ) -> None:
        """Entries whose depth or mask is not there have none.

        Args:
            sources: files that tell of the frames what their own do not: the listing, cameras, poses.
            depth_unit: metres per count of the depth images.
            no_depth: what it is called that a frame has none while others have some.
        """
        super().__init__()
        self.name = Path(os.path.abspath(root)).name  # not of what it may be a link to
        bare = [entry.name for entry in entries if entry.depth is None]
        if 0 < len(bare) < len(entries):
            self.problems.append(
                f"{len(bare)} of {len(entries)} frames have {no_depth}: {bare[0]}" + (", ..." if len(bare) > 1 else "")
            )
        entries = self._without_missing(entries, "depth", "{} frames are used without depth, whose files are missing")
        entries = self._without_missing(entries, "mask", "all pixels count in {} frames, whose masks are missing")
        self.has_depth = any(entry.depth for entry in entries)
        self._depth_listed = len(bare) < len(entries)  # also where the files are missing, of which is told above
        self.recorded_names = tuple(dict.fromkeys(name for entry in entries for name in entry.labels))
        self._sources = sources
        self._entries = entries
        self._index = {entry.name: index for index, entry in enumerate(entries)}
        self._max_depth = max_depth
        self._depth_unit = depth_unit
        self._undistorter = UndistorterCache()

    def _without_missing(self, entries: list[Entry], kind: str, told: str) -> list[Entry]:
        """Entries without the file of this ``kind``, an attribute of theirs, where it is not there; ``told``: what that
        means for how many of them, for ``problems``.
        """
        missing = [file for entry in entries if (file := getattr(entry, kind)) and not file.is_file()]
        if missing:
            count = f"{len(missing)} of {len(entries)}"
            self.problems.append(f"{told.format(count)}: {missing[0]}" + (", ..." if len(missing) > 1 else ""))
        gone = set(missing)
        return [replace(entry, **{kind: None}) if getattr(entry, kind) in gone else entry for entry in entries]

    def _check_depth(self, files: Iterable[Path], expected: Path) -> None:
        """Note where no frame has depth although there are ``files`` of it; ``expected``: that of the first frame."""
        if not self._depth_listed and (file := min(filter(Path.is_file, files), default=None)):
            self.problems.append(
                f"no frame has depth: {file} belongs to no frame; that of the first would be {expected}"
            )

    @abstractmethod
    def _pose(self, index: int) -> NDArray[np.float64]:
        """(4, 4) camera-to-world, optical convention; checked by the caller. Raises FrameRejected."""

    @abstractmethod
    def _lens(self, index: int, width: int, height: int) -> Lens:
        """Of the recorded image, at the size it has on disk. Raises FrameRejected or ValueError."""

    def _register(self, depth: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
        """Depth at the pixels of the image seen by ``camera``; here a registered one, maybe of a coarser sensor."""
        return depth_at(depth, camera.height, camera.width)

    def __len__(self) -> int:
        return len(self._entries)

    def labelled(self, name: str) -> int:
        """See ``Capture.labelled``."""
        return sum(name in entry.labels and entry.labels[name].exists() for entry in self._entries)

    def first_labels(self, name: str) -> str:
        """See ``Capture.first_labels``."""
        return str(next(entry.labels[name] for entry in self._entries if name in entry.labels))

    @property
    def files(self) -> list[Path]:
        """See ``Capture.files``."""
        of_frames = (
            file for entry in self._entries for file in (entry.image, entry.depth, entry.mask, *entry.labels.values())
        )
        return [*self._sources, *filter(None, of_frames)]

    def load(self, index: int, depth: bool = True) -> Frame:
        """See ``Capture.load``."""
        entry = self._entries[index]
        T_world_camera = check_rigid(self._pose(index))
        image = read_rgb(entry.image)
        lens = self._checked_lens(index, image)
        undistorter = self._undistorter(*lens)
        image = undistorter.image(image)
        measured = None
        if depth and entry.depth is not None:
            measured = clip_depth(self._read_depth(entry.depth), self._max_depth)
            measured = undistorter.depth(self._register(measured, lens.camera))
        ignored = undistorter.ignored(read_mask(entry.mask)) if entry.mask else None
        return Frame(image, undistorter.camera, T_world_camera, entry.stamp, measured, entry.name, ignored)

    def _read_depth(self, path: Path) -> NDArray[np.float32]:
        return read_depth(path, self._depth_unit)

    def _load_labels(self, name: str, frame: Frame) -> NDArray | None:
        path = self._label_path(name, frame)
        return None if path is None else self._undistorted(self._read_labels(path), path, frame)

    def _label_path(self, name: str, frame: Frame) -> Path | None:
        """Where the recorded labels ``name`` of a frame are, None where there are none."""
        index = self._index.get(frame.name)
        path = None if index is None else self._entries[index].labels.get(name)
        return path if path is not None and path.exists() else None

    def _undistorted(self, labels: NDArray[np.int32], path: Path, frame: Frame) -> NDArray[np.int32]:
        """Labels read from ``path`` as ``frame`` is. Raises FrameRejected ``labels_size``."""
        try:
            lens = self._checked_lens(self._index[frame.name], labels)
        except FrameRejected as error:
            raise FrameRejected("labels_size", f"{path}: {error}") from None
        return self._undistorter(*lens).labels(labels)

    def _read_labels(self, path: Path) -> NDArray[np.int32]:
        return read_labels(path)

    def _checked_lens(self, index: int, image: NDArray) -> Lens:
        try:
            return self._lens(index, image.shape[1], image.shape[0])
        except ValueError as error:
            raise FrameRejected("camera_info", f"intrinsics of {self._entries[index].image}: {error}") from None
        except FrameRejected as error:
            raise FrameRejected(error.reason, f"{self._entries[index].image}: {error}") from None


def depth_at(depth: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """(h, w) registered depth at the size of its image; one of another shape is left as it is, to be rejected."""
    if depth.shape != (height, width) and same_aspect(depth.shape, (height, width)):
        return median_depth(depth, height, width)
    return depth
