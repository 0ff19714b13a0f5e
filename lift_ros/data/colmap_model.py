"""COLMAP's sparse models, binary or text: cameras, poses of images, points.

The format is that of https://colmap.github.io/format.html. Rigs and frames of newer models repeat what ``images``
holds and are not read. ``pycolmap`` would read these files too, but brings a whole reconstruction system with it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from lift_ros.camera import Camera
from lift_ros.data.capture import COLMAP_MODELS, SparseCloud
from lift_ros.data.listed import Lens
from lift_ros.errors import DatasetError

# id -> name, indices of (fx, fy, cx, cy) in the parameters, distortion_model of sensor_msgs/CameraInfo, and the indices
# of its coefficients in OpenCV's order, None for zero. COLMAP puts pixel centres at +0.5, as this package does.
_MODELS: dict[int, tuple[str, tuple[int, ...], str, tuple[int | None, ...]]] = {
    0: ("SIMPLE_PINHOLE", (0, 0, 1, 2), "plumb_bob", ()),
    1: ("PINHOLE", (0, 1, 2, 3), "plumb_bob", ()),
    2: ("SIMPLE_RADIAL", (0, 0, 1, 2), "plumb_bob", (3, None, None, None)),
    3: ("RADIAL", (0, 0, 1, 2), "plumb_bob", (3, 4, None, None)),
    4: ("OPENCV", (0, 1, 2, 3), "plumb_bob", (4, 5, 6, 7)),
    5: ("OPENCV_FISHEYE", (0, 1, 2, 3), "equidistant", (4, 5, 6, 7)),
    6: ("FULL_OPENCV", (0, 1, 2, 3), "rational_polynomial", (4, 5, 6, 7, 8, 9, 10, 11)),
    8: ("SIMPLE_RADIAL_FISHEYE", (0, 0, 1, 2), "equidistant", (3, None, None, None)),
    9: ("RADIAL_FISHEYE", (0, 0, 1, 2), "equidistant", (3, 4, None, None)),
    14: ("SIMPLE_FISHEYE", (0, 0, 1, 2), "equidistant", (None, None, None, None)),
    15: ("FISHEYE", (0, 1, 2, 3), "equidistant", (None, None, None, None)),
}
_IDS = {model[0]: id for id, model in _MODELS.items()}


@dataclass(frozen=True)
class ColmapImage:
    """A registered image: its path relative to the folder of images, camera, and world-to-camera pose."""

    name: str
    camera_id: int
    quaternion_wxyz: NDArray[np.float64]
    translation: NDArray[np.float64]


def find_model(root: Path) -> Path | None:
    """The folder of the sparse model of a capture, by the places that tools put it."""
    for folder in COLMAP_MODELS:
        if _file(root / folder, "cameras") or _file(root / folder, "images"):
            return root / folder
    return None


def model_files(model: Path) -> list[Path]:
    """The files that are read of a model, as far as they are there."""
    return [file for name in ("cameras", "images", "points3D") if (file := _file(model, name))]


def read_cameras(model: Path) -> dict[int, Lens]:
    """Lenses by camera id. Raises DatasetError for a missing or damaged file or an unsupported model."""
    file = _required(model, "cameras")
    try:
        return dict(_binary_cameras(file) if file.suffix == ".bin" else _text_cameras(file))
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise DatasetError(f"cannot read {file} as COLMAP's cameras: {error}") from None


def read_images(model: Path) -> list[ColmapImage]:
    """Registered images in the order of the file. Raises DatasetError."""
    file = _required(model, "images")
    try:
        return list(_binary_images(file) if file.suffix == ".bin" else _text_images(file))
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise DatasetError(f"cannot read {file} as COLMAP's images: {error}") from None


def read_points(model: Path) -> SparseCloud | None:
    """The sparse cloud, None where the model has none. Raises DatasetError for a damaged file."""
    file = _file(model, "points3D")
    if file is None:
        return None
    try:
        rows = np.array(list(_binary_points(file) if file.suffix == ".bin" else _text_points(file))).reshape(-1, 6)
    except (OSError, ValueError, struct.error) as error:
        raise DatasetError(f"cannot read {file} as COLMAP's points: {error}") from None
    rows = rows[np.isfinite(rows).all(1)]
    return SparseCloud(rows[:, :3].astype(np.float32), rows[:, 3:].astype(np.uint8))


def _file(model: Path, name: str) -> Path | None:
    files = (model / f"{name}{suffix}" for suffix in (".bin", ".txt"))  # COLMAP prefers the binary one, too
    return next((file for file in files if file.is_file()), None)


def _required(model: Path, name: str) -> Path:
    file = _file(model, name)
    if file is None:
        raise DatasetError(
            f"this looks like COLMAP, but {model / name}.bin or .txt is missing: a sparse model has cameras, images "
            "and points3D; see docs/datasets.md"
        )
    return file


def _lens(model_id: int, width: int, height: int, parameters: list[float]) -> Lens:
    _, intrinsics, distortion_model, coefficients = _MODELS[model_id]
    camera = Camera(width, height, *(parameters[index] for index in intrinsics))
    D = tuple(0.0 if index is None else parameters[index] for index in coefficients)
    return Lens(camera, D, distortion_model)


def _supported(model: object) -> ValueError:
    return ValueError(
        f"camera model {model} is not supported; it must be one of {', '.join(_IDS)}. Undistort the images with "
        "'colmap image_undistorter'"
    )


def _unpack(file: BinaryIO, format: str) -> tuple:
    layout = struct.Struct("<" + format)
    return layout.unpack(file.read(layout.size))


def _binary_cameras(path: Path) -> Iterator[tuple[int, Lens]]:
    with path.open("rb") as file:
        for _ in range(_unpack(file, "Q")[0]):
            camera_id, model_id, width, height = _unpack(file, "iiQQ")
            if model_id not in _MODELS:
                raise _supported(f"number {model_id}")
            _, intrinsics, _, coefficients = _MODELS[model_id]
            used = max(*intrinsics, *(index or 0 for index in coefficients)) + 1
            yield camera_id, _lens(model_id, width, height, list(_unpack(file, f"{used}d")))


def _text_cameras(path: Path) -> Iterator[tuple[int, Lens]]:
    for line in _lines(path):
        camera_id, model, width, height, *parameters = line.split()
        if model not in _IDS:
            raise _supported(model)
        yield int(camera_id), _lens(_IDS[model], int(width), int(height), [float(value) for value in parameters])


def _binary_images(path: Path) -> Iterator[ColmapImage]:
    with path.open("rb") as file:
        for _ in range(_unpack(file, "Q")[0]):
            _, *pose, camera_id = _unpack(file, "i7di")
            name = bytearray()
            while (byte := file.read(1)) != b"\0":
                if not byte:
                    raise ValueError("it ends within the name of an image")
                name += byte
            file.seek(24 * _unpack(file, "Q")[0], 1)  # keypoints: x, y, id of the point
            yield _image(name.decode(), camera_id, pose)


def _text_images(path: Path) -> Iterator[ColmapImage]:
    lines = _lines(path, keep_empty=True)
    for line in lines:
        if not line:
            continue
        _, *numbers, name = line.split(maxsplit=9)
        yield _image(name, int(numbers[7]), [float(value) for value in numbers[:7]])
        next(lines, "")  # keypoints; an empty line where there are none


def _image(name: str, camera_id: int, pose: list[float]) -> ColmapImage:
    return ColmapImage(name, camera_id, np.array(pose[:4]), np.array(pose[4:]))


def _binary_points(path: Path) -> Iterator[tuple[float, ...]]:
    with path.open("rb") as file:
        for _ in range(_unpack(file, "Q")[0]):
            _, *point, _, track = _unpack(file, "Q3d3BdQ")
            file.seek(8 * track, 1)  # ids of image and keypoint
            yield tuple(point)


def _text_points(path: Path) -> Iterator[tuple[float, ...]]:
    for line in _lines(path):
        yield tuple(float(value) for value in line.split(maxsplit=7)[1:7])


def _lines(path: Path, keep_empty: bool = False) -> Iterator[str]:
    with path.open() as file:
        for line in file:
            line = line.strip()
            if (line or keep_empty) and not line.startswith("#"):
                yield line
