"""Captures in nerfstudio's ``transforms.json`` layout.

Poses are camera-to-world in the OpenGL convention (x right, y up, z backward); intrinsics are given once or per frame.
``applied_transform`` tells how nerfstudio turned the reconstruction's world into that of the poses; the poses and
``ply_file_path`` are both given after it, so nothing has to be undone. ``mask_path`` is not used: all pixels count.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lift_ros.camera import Camera
from lift_ros.data.capture import Capture, clip_depth
from lift_ros.data.image_codec import depth_in_metres
from lift_ros.data.ply import read_points
from lift_ros.data.undistort import Undistorter
from lift_ros.errors import DatasetError, FrameRejected
from lift_ros.frame import Frame, check_rigid

OPENGL_TO_OPTICAL = np.diag([1.0, -1.0, -1.0, 1.0])
FRAME_INTERVAL = 0.1  # seconds between frames that carry no "time"

# camera_model -> distortion_model of sensor_msgs/CameraInfo and the coefficients in OpenCV's order
_MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "OPENCV": ("plumb_bob", ("k1", "k2", "p1", "p2", "k3")),
    "OPENCV_FISHEYE": ("fisheye", ("k1", "k2", "k3", "k4")),
    "SIMPLE_PINHOLE": ("plumb_bob", ()),
    "PINHOLE": ("plumb_bob", ()),
}


class NerfstudioCapture(Capture):
    """A directory with ``transforms.json``.

    Recorded labels are ``masks_<name>/<stem of the image>.png`` beside it, called ``<name>``, and the images of
    ``instance_file_path``, called ``instances``.
    """

    world_frame = "map"

    def __init__(self, path: str | Path, *, max_depth: float = math.inf) -> None:
        """Read the listing. Raises DatasetError; see ``open_capture``."""
        super().__init__()
        path = Path(path)
        self._file = path / "transforms.json" if path.is_dir() else path
        self._root = self._file.parent
        self._max_depth = max_depth
        self.name = self._root.resolve().name
        self._meta = _read_listing(self._file)
        self._entries = _in_order(self._meta.pop("frames"))
        self._stems = _unique_stems(self._entries)
        self._index = {stem: index for index, stem in enumerate(self._stems)}
        self.has_depth = any(entry.get("depth_file_path") for entry in self._entries)
        masks = sorted(p.name.removeprefix("masks_") for p in self._root.glob("masks_*") if p.is_dir())
        if any(entry.get("instance_file_path") for entry in self._entries):
            masks.append("instances")
        self.recorded_names = tuple(masks)
        if cloud := self._meta.get("ply_file_path"):
            self.sparse_cloud = read_points(self._root / cloud)
        self._undistorter = lru_cache(maxsize=64)(_undistorter)  # cameras are few, or one per frame

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, index: int) -> Frame:
        """See ``Capture.load``."""
        entry = self._entries[index]
        try:
            T_world_gl = np.array(entry["transform_matrix"], np.float64)
            stamp = float(entry.get("time", index * FRAME_INTERVAL))
        except (KeyError, TypeError, ValueError) as error:
            raise FrameRejected("pose_missing", f"{self._stems[index]} has no 4x4 transform_matrix: {error}") from None
        if T_world_gl.shape == (3, 4):
            T_world_gl = np.vstack([T_world_gl, (0.0, 0.0, 0.0, 1.0)])
        T_world_camera = check_rigid(T_world_gl) @ OPENGL_TO_OPTICAL

        image = cv2.cvtColor(
            self._read(entry["file_path"], cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, "image"),
            cv2.COLOR_BGR2RGB,
        )
        undistorter = self._camera_of(entry, image.shape[1], image.shape[0])
        depth = None
        if path := entry.get("depth_file_path"):
            depth = _enlarged(self._read_depth(path), image.shape[:2])
            depth = undistorter.depth(clip_depth(depth, self._max_depth))
        return Frame(
            undistorter.image(image), undistorter.camera, T_world_camera, stamp, depth, self._stems[index]
        )  # fmt: skip

    def _load_labels(self, name: str, frame: Frame) -> NDArray | None:
        index = self._index.get(frame.name)
        if index is None:
            return None
        entry = self._entries[index]
        path = entry.get("instance_file_path") if name == "instances" else f"masks_{name}/{frame.name}.png"
        if not path or not (self._root / path).is_file():
            return None
        labels = self._read(path, cv2.IMREAD_UNCHANGED, "labels")
        if labels.ndim != 2:
            raise FrameRejected("labels_encoding", f"{self._root / path} is not a single-channel label image")
        return self._camera_of(entry, labels.shape[1], labels.shape[0]).labels(labels)

    def _camera_of(self, entry: dict[str, Any], width: int, height: int) -> Undistorter:
        try:
            return self._undistorter(*_intrinsics({**self._meta, **entry}, width, height))
        except (KeyError, TypeError, ValueError) as error:
            raise FrameRejected("camera_info", f"intrinsics of {entry['file_path']}: {error}") from None

    def _read_depth(self, path: str) -> NDArray[np.float32]:
        unit = float(self._meta.get("depth_unit_scale_factor", 0.001))  # nerfstudio's default: millimetres
        if path.endswith(".npy"):
            try:
                raw = np.load(self._root / path, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise FrameRejected("depth_unreadable", f"cannot read {self._root / path}: {error}") from None
        else:
            raw = self._read(path, cv2.IMREAD_UNCHANGED, "depth")
        if raw.ndim != 2 or raw.dtype.kind not in "uf":
            raise FrameRejected("depth_encoding", f"{self._root / path} holds {raw.dtype} {raw.shape}, not depth")
        return depth_in_metres(raw if raw.dtype == np.uint16 else raw * np.float32(unit), unit)

    def _read(self, path: str, flags: int, what: str) -> NDArray:
        file = self._root / path
        if not file.suffix:
            file = file.with_suffix(".png")  # listings of the Blender scenes leave it out
        image = cv2.imread(str(file), flags) if file.is_file() else None
        if image is None:
            state = "is damaged or of an unknown type" if file.is_file() else "does not exist"
            raise FrameRejected(f"{what}_unreadable", f"{file} {state}")
        return image


def _read_listing(file: Path) -> dict[str, Any]:
    try:
        listing = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {file}: {error}") from None
    frames = listing.get("frames") if isinstance(listing, dict) else None
    if not isinstance(frames, list) or not frames:
        raise DatasetError(f"{file} lists no frames: expected nerfstudio's layout with a list 'frames'")
    if not all(isinstance(entry, dict) and isinstance(entry.get("file_path"), str) for entry in frames):
        raise DatasetError(f"{file}: every entry of 'frames' needs a 'file_path'")
    model = listing.get("camera_model", "OPENCV")
    if model not in _MODELS:
        raise DatasetError(f"{file}: camera_model '{model}' is not one of {', '.join(_MODELS)}")
    for key in ("fl_x", "camera_angle_x"):
        if key in listing or all(key in entry for entry in frames):
            return listing
    raise DatasetError(f"{file}: neither 'fl_x' nor 'camera_angle_x' is given, for all frames or for each")


def _in_order(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By time where all have it, else by file name with numbers in their order: listings are often shuffled."""
    if all(isinstance(entry.get("time"), (int, float)) for entry in entries):
        return sorted(entries, key=lambda entry: entry["time"])

    def natural(entry: dict[str, Any]) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", entry["file_path"])
        return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]

    return sorted(entries, key=natural)


def _unique_stems(entries: list[dict[str, Any]]) -> list[str]:
    """File stems, with their folders where stems alone are ambiguous (several cameras)."""
    stems = [Path(entry["file_path"]).stem for entry in entries]
    if len(set(stems)) < len(stems):
        stems = ["_".join(Path(entry["file_path"]).with_suffix("").parts) for entry in entries]
    return stems


def _intrinsics(entry: dict[str, Any], width: int, height: int) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """(w, h, fx, fy, cx, cy), distortion coefficients and model, of a frame's entry merged over the global one."""
    w, h = int(entry.get("w", width)), int(entry.get("h", height))
    fx = float(entry["fl_x"]) if "fl_x" in entry else 0.5 * w / math.tan(0.5 * float(entry["camera_angle_x"]))
    fy = float(entry.get("fl_y", fx))
    cx, cy = float(entry.get("cx", w / 2)), float(entry.get("cy", h / 2))
    name = "OPENCV_FISHEYE" if entry.get("is_fisheye") else entry.get("camera_model", "OPENCV")
    model, keys = _MODELS[name]
    if name == "OPENCV" and entry.get("k4"):
        raise ValueError("a fourth radial coefficient k4 is not part of the OPENCV model")
    return (w, h, fx, fy, cx, cy), tuple(float(entry.get(key, 0.0)) for key in keys), model


def _undistorter(intrinsics: tuple[float, ...], D: tuple[float, ...], model: str) -> Undistorter:
    width, height, *rest = intrinsics
    return Undistorter(Camera(int(width), int(height), *rest), D, model)


def _enlarged(depth: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Registered depth of a coarser sensor (phones) at the image's size; another aspect is left to be rejected."""
    height, width = shape
    if depth.shape != shape and abs(depth.shape[1] / depth.shape[0] - width / height) < 0.01:
        return cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)
    return depth
