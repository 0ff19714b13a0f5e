"""Small captures on disk, for the tests of every layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

W, H = 32, 24


def pose(index: int) -> NDArray[np.float64]:
    """Camera-to-world, optical convention; no two axes alike, so that a wrong convention shows."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", [0.3 + 0.1 * index, -0.7, 1.1]).as_matrix()
    T[:3, 3] = 1 + index, -2, 0.5
    return T


def quaternion_xyzw(T: NDArray) -> NDArray[np.float64]:
    """Of the rotation of a pose."""
    return Rotation.from_matrix(T[:3, :3]).as_quat()


def text(values: NDArray) -> str:
    """A matrix as text, a line per row."""
    return "\n".join(" ".join(f"{value:.9g}" for value in row) for row in np.atleast_2d(values)) + "\n"


def write(file: Path, content: str | bytes) -> None:
    """A file and the folders it is in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def files_below(folder: Path) -> set[Path]:
    """What a reader can be expected to say it reads."""
    return {file for file in folder.rglob("*") if file.is_file()}


def write_rgb(file: Path, red: int = 0, size: tuple[int, int] = (W, H)) -> None:
    """A picture of one colour (red, 20, 30)."""
    write_image(file, np.full((size[1], size[0], 3), (30, 20, red), np.uint8))


def write_depth(file: Path, counts: int | NDArray, size: tuple[int, int] = (W, H)) -> None:
    """A 16-bit image, its first pixel unknown where one value is given."""
    if isinstance(counts, int):
        counts = np.full((size[1], size[0]), counts, np.uint16)
        counts[0, 0] = 0
    write_image(file, counts)


def write_labels(file: Path, id: int, size: tuple[int, int] = (W, H)) -> None:
    """One id on the left half, 0 on the right, as PNG or ``.npy``."""
    labels = np.zeros((size[1], size[0]), np.uint16)
    labels[:, : size[0] // 2] = id
    if file.suffix == ".npy":
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, labels.astype(np.int64))
    else:
        write_image(file, labels)


def write_palette_labels(file: Path, id: int) -> None:
    """As ``write_labels``, with a palette, as tools of video segmentation write them."""
    labels = np.zeros((H, W), np.uint8)
    labels[:, : W // 2] = id
    image = Image.fromarray(labels, "P")
    image.putpalette(list(np.random.default_rng(0).integers(0, 255, 768)))
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)


def write_image(file: Path, image: NDArray) -> None:
    """By OpenCV: colour is BGR."""
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), image)


def assert_labels(labels: NDArray | None, id: int) -> None:
    """That these are the labels of ``write_labels``."""
    assert labels is not None and labels.shape == (H, W) and labels.dtype == np.int32
    assert (labels[:, : W // 2] == id).all() and not labels[:, W // 2 :].any()
