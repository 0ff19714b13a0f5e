"""What a recorded capture offers, whatever its layout on disk, and how to open one.

Each layout is one module with a subclass of ``Capture``, and a line in ``LAYOUTS``.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lift_ros.errors import ConfigError, DatasetError, FrameRejected
from lift_ros.frame import Frame
from lift_ros.resampling import labels_at

if TYPE_CHECKING:
    from lift_ros.data.bag_topics import BagOptions


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
        incomplete_names: those of them in which 0 is what nobody labelled; else it is background.
        timed: whether the stamps of frames are times; else they only tell the order.
        problems: what is wrong with the capture as a whole but does not stop it from being read (a truncated file).
        frames: the usable frames in the order of time; each iteration reads them anew.
    """

    name: str
    world_frame: str
    has_depth: bool
    sparse_cloud: SparseCloud | None = None
    recorded_names: tuple[str, ...] = ()
    incomplete_names: tuple[str, ...] = ()
    timed: bool = True

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.frames = Frames(self)

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames listed; those that cannot be used are counted here and skipped in ``frames``."""

    @abstractmethod
    def load(self, index: int, depth: bool = True) -> Frame:
        """Frame ``index`` of the listing, 0-based; its depth is read only if ``depth``.

        Raises:
            FrameRejected: the frame cannot be used; its ``reason`` is the key it is counted under.
        """

    @property
    @abstractmethod
    def files(self) -> list[Path]:
        """What frames and labels are read from, in a fixed order. Some may not be there (yet)."""

    @abstractmethod
    def _load_labels(self, name: str, frame: Frame) -> NDArray | None:
        """Labels of ``frame`` at the size of the recorded image, undistorted as it is; None where there are none."""

    @abstractmethod
    def labelled(self, name: str) -> int:
        """How many frames of the listing have recorded labels ``name``."""

    @abstractmethod
    def first_labels(self, name: str) -> str:
        """Where the recorded labels ``name`` of the first frame that is to have any are looked for, for messages."""

    @property
    def skipped(self) -> Counter[str]:
        """Frames of the listing that turned out unusable so far, counted by reason."""
        return Counter(self.frames.unusable.values())

    @property
    def usable(self) -> list[int]:
        """Indices of the frames of the listing that did not turn out unusable so far."""
        return [index for index in range(len(self)) if index not in self.frames.unusable]

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
        return None if labels is None else fit_labels(labels, name, frame)

    def overlapping_masks(self, name: str, frame: Frame) -> list[NDArray[np.int32]]:
        """The masks of ``recorded_labels`` one by one, where they overlap and it shows no more than a part of some.

        Returns:
            for each mask (H, W) at the size of ``frame``: its id, and 0. Empty where ``recorded_labels`` shows all.

        Raises:
            FrameRejected: as ``recorded_labels``.
        """
        return []

    def close(self) -> None:  # noqa: B027  layouts that keep no file open need none
        """Release open files."""

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Frames:
    """The usable frames of a capture: ``len`` counts the listing, iteration skips what cannot be used.

    Attributes:
        unusable: why frames of the listing could not be used, by index, as far as iterations have come.
    """

    def __init__(self, capture: Capture) -> None:
        self.unusable: dict[int, str] = {}
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
                self.unusable[index] = error.reason
                last = error
                continue
            usable += 1
            yield frame
        if not usable:
            reasons = ", ".join(f"{count} x {reason}" for reason, count in capture.skipped.most_common())
            raise DatasetError(
                f"none of the {len(capture)} frames of {capture.name} can be used ({reasons}); the last: {last}"
            )


def fit_labels(labels: NDArray, name: str, frame: Frame) -> NDArray[np.int32]:
    """Labels of the recorded image at the size of ``frame``. Raises FrameRejected ``labels_size``."""
    try:
        return labels_at(labels, *frame.image.shape[:2]).astype(np.int32)
    except ValueError as error:
        raise FrameRejected("labels_size", f"labels {name} of {frame.name} are {error}") from None


def clip_depth(depth: NDArray[np.float32], max_depth: float) -> NDArray[np.float32]:
    """Depth beyond ``max_depth`` is no measurement: 0."""
    return depth if math.isinf(max_depth) else np.where(depth <= max_depth, depth, np.float32(0))


def _has(path: Path, *patterns: str) -> bool:
    """Whether something below the directory ``path`` matches each pattern."""
    return path.is_dir() and all(any(path.glob(pattern)) for pattern in patterns)


COLMAP_MODELS = ("sparse/0", "sparse", "colmap/sparse/0")  # the last by nerfstudio's ns-process-data


def _is_colmap(path: Path) -> bool:
    return any(_has(path, f"{model}/{name}.*") for model in COLMAP_MODELS for name in ("cameras", "images"))


def _is_lerf_mask(path: Path) -> bool:
    return _has(path, "object_mask/") or _has(path, "test_mask/")


def _is_nerfstudio(path: Path) -> bool:
    """Panoptic Lifting leaves the transforms.json of its own captures beside what it made of it; see scannet.py."""
    if not _has(path, "transforms.json"):
        return path.suffix == ".json"
    return not _has(path, "color/", "pose/", "intrinsic/") or _lists_images(path / "transforms.json")


def _lists_images(file: Path) -> bool:
    """Whether an image of a listing is there. What cannot be read counts as there: its reader says what is wrong."""
    try:
        images = [
            file.parent / frame["file_path"].replace("\\", "/") for frame in json.loads(file.read_text())["frames"]
        ]
        return any(image.exists() or any(image.parent.glob(f"{image.name}.*")) for image in images)
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        return True


def _is_scannet(path: Path) -> bool:
    return _has(path, "color/") and (_has(path, "pose/") or _has(path, "intrinsic*"))


def _is_semantic_nerf(path: Path) -> bool:
    """Panoptic Lifting leaves a traj_w_c.txt with its scenes, too, for DM-NeRF."""
    return _has(path, "rgb/rgb_*.png") or _has(path, "traj_w_c.txt") and not _is_scannet(path)


def _is_messy_rooms(path: Path) -> bool:
    """By metadata.json or, where it is missing, by its labels. Scenes of Panoptic Lifting have these, too, and cameras
    in files of their own.
    """
    told = any(_has(path, name) for name in ("metadata.json", "instance/", "detic_*/"))
    return told and _has(path, "color/") and not _is_scannet(path)


_BAG_FILES = ("*.mcap", "*.db3", "*.mcap.zstd", "*.db3.zstd")


@dataclass(frozen=True)
class Layout:
    """A layout of captures on disk.

    Attributes:
        name: as users know it.
        marker: what it is told by, in words.
        matches: whether a path may hold it, told from names. Incomplete ones match too: their reader knows best what is
            missing.
        reader: module of ``lift_ros.data`` and class in it; imported only where such a capture is opened.
    """

    name: str
    marker: str
    matches: Callable[[Path], bool]
    reader: tuple[str, str]


BAG = Layout(
    "rosbag2",
    "metadata.yaml or .mcap or .db3 files",
    lambda path: any(path.match(name) or _has(path, name) for name in _BAG_FILES) or _has(path, "metadata.yaml"),
    ("rosbag", "BagCapture"),
)

# the first that matches is read: what was converted for us before what it was made from, special before general
LAYOUTS = (
    Layout(
        "nerfstudio, instant-ngp",
        "transforms.json",
        _is_nerfstudio,
        ("nerfstudio", "NerfstudioCapture"),
    ),
    BAG,
    Layout(
        "LERF-Mask",
        "sparse/ with object_mask/ or test_mask/",
        lambda path: _is_lerf_mask(path) or path.name.startswith("images") and _is_lerf_mask(path.parent),
        ("lerf_mask", "LerfMaskCapture"),
    ),
    Layout(
        "COLMAP, Mip-NeRF 360",
        "sparse/0/cameras.bin or .txt",
        lambda path: _is_colmap(path) or path.name.startswith("images") and _is_colmap(path.parent),
        ("colmap", "ColmapCapture"),
    ),
    Layout(
        "Replica by NICE-SLAM",
        "results/frame000000.jpg",
        lambda path: _has(path, "results/frame*"),
        ("replica", "NiceSlamCapture"),
    ),
    Layout(
        "Replica by Semantic-NeRF",
        "traj_w_c.txt",
        _is_semantic_nerf,
        ("replica", "SemanticNerfCapture"),
    ),
    Layout("TUM RGB-D", "rgb.txt", lambda path: _has(path, "rgb.txt"), ("tum", "TumCapture")),
    Layout(
        "7-Scenes",
        "frame-000000.color.png, here or in seq-01/",
        lambda path: _has(path, "frame-*.color.png") or _has(path, "seq-*/frame-*.color.png"),
        ("seven_scenes", "SevenScenesCapture"),
    ),
    Layout(
        "Messy Rooms",
        "color/ with metadata.json",
        _is_messy_rooms,
        ("messy_rooms", "MessyRoomsCapture"),
    ),
    Layout(
        "ScanNet, Panoptic Lifting",
        "color/ with pose/ or intrinsic/",
        _is_scannet,
        ("scannet", "ScannetCapture"),
    ),
)

_MODEL_AT_ROOT = "{} is of a model by COLMAP; move its files to sparse/0/, beside images/"

# of what is opened before it is ready: files by which it is told, and what to do with {}, such a file
_HINTS = (
    ("*.bag", "{} is a recording of ROS 1; convert it: rosbags-convert --src FILE.bag --dst DIRECTORY"),
    ("cameras.bin", _MODEL_AT_ROOT),
    ("cameras.txt", _MODEL_AT_ROOT),
    ("sparse/[1-9]*", "{} is a model by COLMAP, and sparse/0/ is what is read; rename it to that"),
    ("associations.txt", "{} pairs the images of a TUM RGB-D sequence, but rgb.txt, which lists them, is missing"),
    ("*.sens", "{} is a scan of ScanNet as released; export it with SensReader/python, all four --export options"),
    ("frame-*.color.jpg", "{} is of ScanNet's SensReader in C++; export the scene with SensReader/python instead"),
    ("seq-*.zip", "{} is a packed sequence of 7-Scenes; unpack it there"),
    ("transforms_train.json", "name the file to open, {}: Blender scenes have several"),
)


def find_layout(path: Path) -> Layout | None:
    """The layout of what lies at ``path``, None if it is none that can be read."""
    return next((layout for layout in LAYOUTS if layout.matches(path)), None)


def open_capture(path: str | Path, *, max_depth: float = math.inf, bag: BagOptions | None = None) -> Capture:
    """Open a capture by what lies at ``path``; docs/datasets.md lists the layouts that are known.

    Args:
        path: a directory, a file like ``transforms.json``, or an ``.mcap`` or ``.db3`` file, also with ``.zstd``.
        max_depth: depth beyond this counts as unknown, in the unit of the poses.
        bag: which topics of a bag to read; found by their types where not named.

    Raises:
        DatasetError: nothing readable is there; the message says what was looked for.
        ConfigError: ``max_depth`` is not positive.
    """
    path = Path(path)
    if not max_depth > 0:  # nor NaN
        raise ConfigError(f"--max-depth must be positive, got {max_depth:g}; depth beyond it is not used")
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    layout = find_layout(path)
    if layout is None:
        raise DatasetError(_unknown(path))
    module, name = layout.reader
    reader = getattr(import_module(f"lift_ros.data.{module}"), name)
    return reader(path, bag, max_depth=max_depth) if layout is BAG else reader(path, max_depth=max_depth)


def _unknown(path: Path) -> str:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    here = path.resolve()
    of_model = (here.parents[model.count("/")] for model in reversed(COLMAP_MODELS) if here.match(model))
    for near in (*files, *of_model, here.parent):
        if path.is_dir() and near.is_dir() and (layout := find_layout(near)):
            return f"{path} is not a capture, but {near} looks like one of {layout.name}"
    for pattern, hint in _HINTS:
        told = path.glob(pattern) if path.is_dir() else [path] if path.match(pattern) else []
        if file := min(told, default=None):
            return f"{path} is not a capture: {hint.format(file)}"
    markers = "; ".join(f"{layout.marker} ({layout.name})" for layout in LAYOUTS)
    if not path.is_dir():
        return f"{path} is not a capture: expected a directory with one of: {markers}"
    return f"{path} is not a capture: it holds no {markers}"
