"""The files that captures are made of: found, read, and named in the error where they cannot be."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lift_ros.data.image_codec import UNLABELLED, decode_compressed_rgb, depth_in_metres
from lift_ros.errors import ConfigError, DatasetError, FrameRejected

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MOSTLY = 0.6  # of an image that is ignored: it may be the wrong part


def require(path: Path, layout: str, what: str) -> Path:
    """``path`` if it is there, as it must be in that layout. Raises DatasetError."""
    if not path.exists():
        raise DatasetError(f"this looks like {layout}, but {path} is missing: {what}; see docs/datasets.md")
    return path


def natural_key(text: str) -> list[tuple[int, str]]:
    """Sort key that puts 9 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def files_by_key(folder: Path, pattern: str) -> dict[str, Path]:
    """Files in ``folder`` whose whole names match ``pattern``, by its first group, in natural order of it."""
    found = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        if match := re.fullmatch(pattern, file.name):
            found[match[1]] = file
    return {key: found[key] for key in sorted(found, key=natural_key)}


def images_by_stem(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Images in ``folder`` by their stems, in natural order."""
    return files_by_key(folder, rf"(.+)(?i:{'|'.join(map(re.escape, suffixes))})")


def unique_names(paths: list[str]) -> list[str]:
    """A file name for each path: its stem; where these are ambiguous (several cameras) with folders, or all of it."""
    files = [PurePosixPath(path) for path in paths]
    files = [file.relative_to(file.anchor) for file in files]
    for names in (
        [file.stem for file in files],
        ["_".join(file.with_suffix("").parts) for file in files],
        ["_".join(file.parts) for file in files],
    ):
        if len(set(names)) == len(names):
            return names
    return [f"{name}_{number}" for number, name in enumerate(names)]


def read_rgb(file: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB. Raises FrameRejected ``image_unreadable``."""
    if not file.is_file():
        raise FrameRejected("image_unreadable", f"{file} does not exist")
    try:
        return decode_compressed_rgb(file.read_bytes())
    except (OSError, FrameRejected) as error:
        raise FrameRejected("image_unreadable", f"cannot read {file}: {error}") from None


def read_image(file: Path, flags: int, reason: str) -> NDArray:
    """What OpenCV reads of an image with these ``flags`` of ``imread``. Raises FrameRejected ``reason``."""
    try:
        image = cv2.imread(str(file), flags)
    except cv2.error:  # that a format is switched off, or an image too large, it raises
        image = None
    if image is not None:
        return image
    if file.suffix.lower() == ".exr" and "OPENCV_IO_ENABLE_OPENEXR" not in os.environ:
        why = "cannot be read: EXR needs OPENCV_IO_ENABLE_OPENEXR=1 in the environment, or to be converted"
    else:
        why = "is damaged, too large or of an unknown type"
    raise FrameRejected(reason, f"{file} {why}")


def read_depth(file: Path, unit: float) -> NDArray[np.float32]:
    """Single-channel image or ``.npy`` -> (H, W) metres, 0 where unknown. ``unit``: metres per count.

    Raises:
        FrameRejected: ``depth_unreadable``, ``depth_encoding``.
    """
    if not file.is_file():
        raise FrameRejected("depth_unreadable", f"{file} does not exist")
    if file.suffix == ".npy":
        try:
            raw = np.load(file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise FrameRejected("depth_unreadable", f"cannot read {file}: {error}") from None
    else:
        raw = read_image(file, cv2.IMREAD_UNCHANGED, "depth_unreadable")
    raw = raw.squeeze()  # arrays are stored as (H, W, 1), too
    if raw.ndim != 2 or raw.dtype.kind not in "iuf" or raw.dtype.itemsize == 1:
        raise FrameRejected("depth_encoding", f"{file} holds {raw.dtype} {raw.shape}, not depth")
    return depth_in_metres(raw if raw.dtype == np.uint16 else raw * np.float32(unit), unit)


def read_labels(file: Path) -> NDArray[np.int32]:
    """Single-channel or palette image, or ``.npy`` -> (H, W) ids; 0 where a value cannot be one: not in [0, 2^31), or
    the greatest of 16 bits, which ``~/labels`` of the node has where nothing is labelled.

    Raises:
        FrameRejected: ``labels_unreadable``, ``labels_encoding``.
    """
    try:
        # Pillow, as OpenCV would turn the ids of palette images into colours
        labels = np.load(file, allow_pickle=False) if file.suffix == ".npy" else np.asarray(Image.open(file))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises SyntaxError for some broken files
        raise FrameRejected("labels_unreadable", f"cannot read {file}: {error}") from None
    labels = labels.squeeze()  # arrays are stored as (H, W, 1), too
    if labels.ndim != 2 or labels.dtype.kind not in "buif":
        raise FrameRejected("labels_encoding", f"{file} holds {labels.dtype} {labels.shape}, not one id per pixel")
    of_16_bits = labels.dtype == np.uint16 or file.suffix.lower() == ".png"  # of which older Pillow makes 32 bits
    end = UNLABELLED if of_16_bits else 2**31
    return np.where((labels > 0) & (labels < end), labels, 0).astype(np.int32)


def read_mask(file: Path) -> NDArray[np.bool_]:
    """(H, W) pixels that are black, and not to be used: the convention of COLMAP and nerfstudio.

    Black is darker than half of the brightest, as some masks are of 0 and 1, and JPEG blurs them.

    Raises:
        FrameRejected: ``mask_unreadable``, also where it is transparent in places, or nothing is left of the image.
    """
    if not file.is_file():
        raise FrameRejected("mask_unreadable", f"{file} is no file")
    image = read_image(file, cv2.IMREAD_UNCHANGED, "mask_unreadable")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels in (2, 4) and image[..., -1].min() < image[..., -1].max():
        raise FrameRejected("mask_unreadable", f"{file} is transparent in places; save it black and white")
    brightness = image if channels == 1 else image[..., :3].max(-1)
    ignored = brightness.reshape(image.shape[:2]) <= brightness.max() / 2
    if ignored.all():
        raise FrameRejected("mask_unreadable", f"{file} is black all over; white is what the camera sees of the world")
    return ignored


def camera_mask(name: str) -> NDArray[np.bool_] | None:
    """``read_mask`` for all images of a camera; None where no file is named. Logs how much of them it leaves out.

    Raises:
        ConfigError: as ``read_mask``, or none of it is black.
    """
    if not name:
        return None
    try:
        ignored = read_mask(Path(name).expanduser())
    except FrameRejected as error:
        raise ConfigError(f"camera_mask: {error}") from None
    if not ignored.any():
        raise ConfigError(f"camera_mask: none of {name} is black, as what the camera sees of the robot should be")
    log.log(
        logging.WARNING if ignored.mean() > MOSTLY else logging.INFO,
        "camera_mask leaves out %.1f %% of each image", 100 * ignored.mean(),
    )  # fmt: skip
    return ignored


def read_matrix(file: Path) -> NDArray[np.float64]:
    """Numbers of a text file, one row per line. Raises DatasetError."""
    try:
        return np.loadtxt(file, dtype=np.float64, ndmin=2)
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {file}: {error}") from None


def read_pose(file: Path | None) -> NDArray[np.float64]:
    """4x4 matrix of a text file. Raises FrameRejected ``pose_missing`` where there is none."""
    try:
        if file is None:
            raise DatasetError("there is no pose file for this image")
        return read_matrix(file).reshape(4, 4)
    except (DatasetError, ValueError) as error:
        raise FrameRejected("pose_missing", str(error)) from None
