"""Captures with a ``transforms.json``, as nerfstudio and instant-ngp write and read them.

    transforms.json             "frames": [{"file_path", "transform_matrix", ...}], and intrinsics, once or per frame
    masks_<name>/<image>.png    labels, offered as ``<name>``. <image>: the name of the frame (see ``unique_names``), or
                                the path of the image below the folder of all images, without suffix or with it

Poses are camera-to-world in the OpenGL convention (x right, y up, z backward). ``applied_transform`` tells how
nerfstudio turned the reconstruction's world into that of the poses; the poses and ``ply_file_path`` are both given
after it, so nothing has to be undone. ``applied_scale`` was applied to the poses alone: depth and points are multiplied
by it.

Of nerfstudio are ``depth_file_path``, ``mask_path`` (black where pixels do not count), ``camera_model``, and
``distortion_params`` (k1, k2, k3, k4, p1, p2), which goes before coefficients given by their names; of instant-ngp
angles of view for focal lengths, paths without extension, ``is_fisheye``, and ``depth_path``. As there, one focal
length stands for both, and those of a frame replace those of the listing together. Its lenses that are neither
perspective nor fisheye are refused. What it says of its volume (``aabb_scale``, ``scale``, ``offset``) and its choice
of frames (``sharpness``) does not matter here.
``instance_file_path`` is ours: true instances, offered as ``instances``.

A count of depth, also in files of floating point numbers, is ``integer_depth_scale`` metres, a key of instant-ngp, else
0.001. The key ``depth_unit_scale_factor``, which goes before it, is ours: nerfstudio has an option of its dataparser by
that name, whose value stands in none of its files.
Sources: nerfstudio's nerfstudio_dataparser.py and instant_ngp_dataparser.py, instant-ngp's src/nerf_loader.cu.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lift_ros.camera import Camera
from lift_ros.data.files import IMAGE_SUFFIXES, natural_key, unique_names
from lift_ros.data.listed import FRAME_INTERVAL, Entry, Lens, ListedCapture
from lift_ros.data.ply import read_points
from lift_ros.errors import DatasetError, FrameRejected
from lift_ros.frame import MIN_DEPTH, check_rigid

OPENGL_TO_OPTICAL = np.diag([1.0, -1.0, -1.0, 1.0])

# camera_model -> distortion_model of sensor_msgs/CameraInfo and the coefficients in OpenCV's order; those of all
# perspective ones are the same, as in nerfstudio
_PERSPECTIVE = ("OPENCV", "RADIAL", "SIMPLE_RADIAL", "PINHOLE", "SIMPLE_PINHOLE")
_MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    **dict.fromkeys(_PERSPECTIVE, ("plumb_bob", ("k1", "k2", "p1", "p2", "k3"))),
    "OPENCV_FISHEYE": ("fisheye", ("k1", "k2", "k3", "k4")),
}
_DISTORTION_PARAMS = ("k1", "k2", "k3", "k4", "p1", "p2")
_NGP_LENSES = ("ftheta_p0", "latlong", "equirectangular", "orthographic")  # told by the key, whatever its value
_FOCAL_KEYS = ("fl_x", "camera_angle_x", "x_fov", "fl_y", "camera_angle_y", "y_fov")
_DEPTH_UNIT_KEYS = ("depth_unit_scale_factor", "integer_depth_scale")  # the first that is given counts
MIN_USABLE_DEPTH = 0.01  # of the known pixels: with fewer it is the unit that is wrong
_PATH_KEYS = ("file_path", "depth_file_path", "depth_path", "mask_path", "instance_file_path", "ply_file_path")


class NerfstudioCapture(ListedCapture):
    """A directory with ``transforms.json``, or a file like it."""

    def __init__(self, path: str | Path, *, max_depth: float = math.inf) -> None:
        """Read the listing. Raises DatasetError; see ``open_capture``."""
        path = Path(path)
        file = path / "transforms.json" if path.is_dir() else path
        root = file.parent
        self._meta = _read_listing(file)
        timed, self._frames = _in_order(self._meta.pop("frames"))
        names = unique_names([frame["file_path"] for frame in self._frames])
        images = [_image_file(root / frame["file_path"]) for frame in self._frames]
        masks_of = _mask_names(names, images)
        # masks_2, masks_4 are nerfstudio's own, of what is valid in downscaled images
        folders = (p.name.removeprefix("masks_") for p in root.glob("masks_*") if p.is_dir())
        masks = sorted(name for name in folders if not name.isdigit())
        entries = []
        for index, (name, frame) in enumerate(zip(names, self._frames, strict=True)):
            labels = {mask: _mask_file(root / f"masks_{mask}", masks_of[index]) for mask in masks}
            if instances := frame.get("instance_file_path"):
                labels["instances"] = root / instances
            depth = frame.get("depth_file_path") or frame.get("depth_path")
            entries.append(
                Entry(
                    name,
                    images[index],
                    float(frame["time"]) if timed else index * FRAME_INTERVAL,
                    root / depth if depth else None,
                    labels,
                    root / frame["mask_path"] if frame.get("mask_path") else None,
                )
            )
        given = (self._meta[key] for key in _DEPTH_UNIT_KEYS if key in self._meta)
        unit = _positive(file, next(given, 0.001), "unit of depth, metres per count")
        scale = _positive(file, self._meta.get("applied_scale", 1.0), "applied_scale")
        cloud = root / self._meta["ply_file_path"] if self._meta.get("ply_file_path") else None
        sources = [file, cloud] if cloud else [file]
        super().__init__(root, entries, sources=sources, max_depth=max_depth, depth_unit=unit * scale)
        self.timed, self._scale = timed, scale
        if cloud and cloud.is_file():
            read = read_points(cloud)
            self.sparse_cloud = replace(read, points=read.points * np.float32(scale))
        elif cloud:
            self.problems.append(f"the points of the scene are not used, whose file is missing: {cloud}")

    def _pose(self, index: int) -> NDArray[np.float64]:
        try:
            return optical_pose(self._frames[index]["transform_matrix"])
        except (KeyError, TypeError, ValueError) as error:
            name = self._entries[index].name
            raise FrameRejected("pose_missing", f"{name} has no 4x4 transform_matrix: {error}") from None

    def _read_depth(self, path: Path) -> NDArray[np.float32]:
        depth = super()._read_depth(path)
        known = depth[depth > 0]
        if known.size and (known > MIN_DEPTH).mean() < MIN_USABLE_DEPTH:
            raise FrameRejected(
                "depth_encoding",
                f"{path}: depth is {np.median(known):.2g}, taken in counts of {self._depth_unit / self._scale:g} m, "
                f"times an applied_scale of {self._scale:g}, and what is nearer than {MIN_DEPTH} is not used; give the "
                f"metres of a count (1 for depth in metres) as '{_DEPTH_UNIT_KEYS[0]}' or '{_DEPTH_UNIT_KEYS[1]}' in "
                f"{self._sources[0].name}, or poses of a larger scale",
            )
        return depth

    def _lens(self, index: int, width: int, height: int) -> Lens:
        try:
            return _lens(_merged(self._meta, self._frames[index]), width, height)
        except TypeError as error:
            raise ValueError(error) from None


def optical_pose(transform_matrix: list) -> NDArray[np.float64]:
    """(4, 4) camera-to-world, optical convention, of a frame's entry: OpenGL's convention, (4, 4) or (3, 4).

    Raises:
        FrameRejected: ``pose_not_finite``, ``pose_not_rigid``. TypeError, ValueError: these are no numbers.
    """
    T_world_gl = np.array(transform_matrix, np.float64)
    if T_world_gl.shape == (3, 4):
        T_world_gl = np.vstack([T_world_gl, (0.0, 0.0, 0.0, 1.0)])
    return check_rigid(T_world_gl) @ OPENGL_TO_OPTICAL


def _read_listing(file: Path) -> dict[str, Any]:
    try:
        listing = json.loads(file.read_text("utf-8-sig"))  # Windows' editors mark UTF-8
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {file}: {error}") from None
    frames = listing.get("frames") if isinstance(listing, dict) else None
    if not isinstance(frames, list) or not frames:
        raise DatasetError(f"{file} lists no frames: expected nerfstudio's layout with a list 'frames'")
    listing = _given(listing)
    listing["frames"] = frames = [_given(entry) if isinstance(entry, dict) else {} for entry in frames]
    if not all("file_path" in entry for entry in frames):
        raise DatasetError(f"{file}: every entry of 'frames' needs a 'file_path'")
    if not all(isinstance(entry.get("time", 0), (int, float)) for entry in frames):
        raise DatasetError(f"{file}: a 'time' is not a number of seconds")
    for entry in (listing, *frames):
        for key in entry.keys() & _PATH_KEYS:
            if not isinstance(entry[key], str):
                raise DatasetError(f"{file}: a '{key}' is {entry[key]!r}, no path")
            entry[key] = entry[key].replace("\\", "/")  # written under Windows
    try:
        _camera_model(listing)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{file}: {error}") from None
    if not _has_focal_length(listing) and not all(map(_has_focal_length, frames)):
        keys = " nor ".join(map(repr, _FOCAL_KEYS))
        raise DatasetError(f"{file}: neither {keys} is given, for all frames or for each")
    return listing


def _positive(file: Path, value: Any, what: str) -> float:
    try:
        number = float(value)
        if 0 < number < math.inf:
            return number
    except (TypeError, ValueError):
        pass
    raise DatasetError(f"{file}: {value!r} is no {what}")


def _has_focal_length(entry: dict[str, Any]) -> bool:
    return any(key in entry for key in _FOCAL_KEYS)


def _given(entry: dict[str, Any]) -> dict[str, Any]:
    """What an entry holds but for nulls, which some tools write for what they do not know."""
    return {key: value for key, value in entry.items() if value is not None}


def _in_order(frames: list[dict[str, Any]]) -> tuple[bool, list[dict[str, Any]]]:
    """By time, then by file name with numbers in their order, as listings are often shuffled; and whether they have
    times, which are none if not all have one or all have the same.
    """
    by_name = sorted(frames, key=lambda frame: natural_key(frame["file_path"]))
    times = {frame.get("time") for frame in frames}
    if None in times or len(times) == 1 < len(frames):
        return False, by_name
    return True, sorted(by_name, key=lambda frame: frame["time"])


def _image_file(path: Path) -> Path:
    """The image of a path that may lack its extension, as in listings of the Blender scenes."""
    if path.is_file():
        return path
    files = (path.with_name(path.name + suffix) for suffix in IMAGE_SUFFIXES)
    return next((file for file in files if file.is_file()), path)


def _mask_names(names: list[str], images: list[Path]) -> list[tuple[str, ...]]:
    """For each frame what its label images may be called, the likeliest first."""
    files = [image.absolute() for image in images]
    folder = os.path.commonpath([file.parent for file in files])
    below = [file.relative_to(folder) for file in files]
    plain = [path.with_suffix("") for path in below]
    if len(set(plain)) < len(plain):  # those of two images would be the same
        plain = below
    return [tuple(dict.fromkeys(f"{name}.png" for name in one)) for one in zip(names, plain, below, strict=True)]


def _mask_file(folder: Path, names: tuple[str, ...]) -> Path:
    """The first that there is; where there is none, the first."""
    return next((file for file in (folder / name for name in names) if file.is_file()), folder / names[0])


def _merged(listing: dict[str, Any], frame: dict[str, Any]) -> dict[str, Any]:
    """What holds for a frame: its entry over that of all. Its focal lengths replace the others, whatever their keys."""
    if _has_focal_length(frame):
        listing = {key: value for key, value in listing.items() if key not in _FOCAL_KEYS}
    return {**listing, **frame}


def _camera_model(entry: dict[str, Any]) -> str:
    """A key of ``_MODELS``. Raises ValueError for a lens that is none of these."""
    if lens := next((key for key in _NGP_LENSES if key in entry), None):
        raise ValueError(f"'{lens}' is a lens of instant-ngp that is not supported; render perspective images from it")
    name = entry.get("camera_model", "OPENCV")
    if name not in _MODELS:
        raise ValueError(f"camera_model '{name}' is not one of {', '.join(_MODELS)}")
    return "OPENCV_FISHEYE" if entry.get("is_fisheye") else name


def _lens(entry: dict[str, Any], width: int, height: int) -> Lens:
    """Of a frame's entry merged over the global one, for an image of ``width`` x ``height``: maybe a smaller copy."""
    name = _camera_model(entry)
    model, keys = _MODELS[name]
    w, h = int(entry.get("w", width)), int(entry.get("h", height))
    fx, fy = _focal_length(entry, "x", w), _focal_length(entry, "y", h)
    camera = Camera(w, h, fx or fy, fy or fx, float(entry.get("cx", w / 2)), float(entry.get("cy", h / 2)))
    if "distortion_params" in entry:
        values = entry["distortion_params"]
        if len(values) != len(_DISTORTION_PARAMS):
            raise ValueError(f"distortion_params are {len(values)}, not the 6 of {', '.join(_DISTORTION_PARAMS)}")
        entry = {**entry, **dict(zip(_DISTORTION_PARAMS, values, strict=True))}
    if name in _PERSPECTIVE and entry.get("k4"):
        raise ValueError(f"a fourth radial coefficient k4 is not part of the {name} model")
    return Lens(camera, tuple(float(entry.get(key, 0.0)) for key in keys), model).resized(width, height)


def _focal_length(entry: dict[str, Any], axis: str, size: int) -> float:
    """In pixels; from the angle of view where it is not given: in radians, or in degrees under instant-ngp's name.
    0 where neither is.
    """
    if f"fl_{axis}" in entry:
        return float(entry[f"fl_{axis}"])
    if f"camera_angle_{axis}" in entry:
        angle = float(entry[f"camera_angle_{axis}"])
    elif f"{axis}_fov" in entry:
        angle = math.radians(float(entry[f"{axis}_fov"]))
    else:
        return 0.0
    return 0.5 * size / math.tan(0.5 * angle) if angle else math.inf
