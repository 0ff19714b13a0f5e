"""Captures reconstructed by COLMAP, and data sets published that way: Mip-NeRF 360, 3D Gaussian Splatting.

    <capture>/sparse/0/{cameras,images,points3D}.{bin,txt}   or sparse/, or colmap/sparse/0/
    <capture>/images/                                        named as in the model
    <capture>/images_2/, images_4/, images_8/                the same, downscaled (Mip-NeRF 360)

Of the folders of images, that of the highest resolution is read, or the one that is opened (``<capture>/images_4``).
Sources: https://colmap.github.io/format.html, nerfstudio's colmap_dataparser.py, the scene readers of 3D Gaussian
Splatting. ``poses_bounds.npy`` of Mip-NeRF 360 repeats the poses and is not read.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from lift_ros.data.colmap_model import find_model, model_files, read_cameras, read_images, read_points
from lift_ros.data.files import IMAGE_SUFFIXES, natural_key, unique_names
from lift_ros.data.listed import FRAME_INTERVAL, Entry, Lens, ListedCapture
from lift_ros.data.ply import read_points as read_ply
from lift_ros.data.transforms import pose_matrix
from lift_ros.errors import DatasetError, FrameRejected

_FOLDER = r"images(?:_(\d+))?"
_SUFFIXES = (*IMAGE_SUFFIXES, ".bmp", ".tif", ".tiff", ".webp")  # COLMAP reads more than most do


class ColmapCapture(ListedCapture):
    """A directory with a sparse model and its images. Poses have the scale of the reconstruction."""

    timed = False

    def __init__(self, path: str | Path, *, max_depth: float = math.inf) -> None:
        """Read the model. Raises DatasetError; see ``open_capture``."""
        path = Path(path)
        root, images = (path, None) if find_model(path) else (path.parent, path)
        model = find_model(root)
        if model is None:
            raise DatasetError(f"{path} holds no COLMAP model: sparse/0/cameras.bin or .txt is missing")
        self.root = root
        self._folder = images or _largest_images(root)
        self._lenses = read_cameras(model)
        self._images = sorted(read_images(model), key=lambda image: natural_key(image.name))
        if not self._images:
            raise DatasetError(f"the COLMAP model in {model} registers no image")
        on_disk = _ImageFiles(self._folder, [image.name for image in self._images])
        names = unique_names([image.name for image in self._images])
        entries = [
            Entry(name, on_disk.find(image.name), index * FRAME_INTERVAL, labels=self._labels_of(image.name))
            for index, (name, image) in enumerate(zip(names, self._images, strict=True))
        ]
        sources = model_files(model)
        self.sparse_cloud = read_points(model)
        if self.sparse_cloud is None and (model / "points3D.ply").is_file():
            self.sparse_cloud = read_ply(model / "points3D.ply")  # what 3D Gaussian Splatting makes of it
            sources.append(model / "points3D.ply")
        super().__init__(root, entries, sources=sources, max_depth=max_depth)
        if unposed := on_disk.files.difference(entry.image for entry in entries):
            self.problems.append(f"{len(unposed)} images in {self._folder} have no pose in {model} and are not used")
        if (model.parent / "1").is_dir() and model.name == "0":
            self.problems.append(f"{model.parent} holds several models; only 0 is read")

    def _labels_of(self, image: str) -> dict[str, Path]:
        """Recorded labels of an image of the model."""
        return {}

    def _pose(self, index: int) -> NDArray[np.float64]:
        image = self._images[index]
        return np.linalg.inv(pose_matrix(image.translation, np.roll(image.quaternion_wxyz, -1)))

    def _lens(self, index: int, width: int, height: int) -> Lens:
        image = self._images[index]
        if image.camera_id not in self._lenses:
            raise FrameRejected("camera_info", f"{image.name} has camera {image.camera_id}, which the model lacks")
        return self._lenses[image.camera_id].resized(width, height)


class _ImageFiles:
    """Images below a folder, found by the names of a model: none of them for two.

    Attributes:
        files: all that are there.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        """``names``: all those of the model."""
        self._folder = folder
        self._stems = Counter(_stem(name) for name in names)
        self._bare_stems = Counter(PurePosixPath(name).stem for name in names)
        self.files = {file for file in _files_below(folder) if file.suffix.lower() in _SUFFIXES}
        self._by_path = {file.relative_to(folder).as_posix(): file for file in sorted(self.files)}
        # downscaled copies may be of another type, and some releases drop the folders
        self._by_stem = {_stem(name): file for name, file in self._by_path.items()}

    def find(self, name: str) -> Path:
        """The file of an image; where there is none, or another image may be meant, the path it would have."""
        stem, bare = _stem(name), PurePosixPath(name).stem
        return (
            self._by_path.get(name)
            or (self._by_stem.get(stem) if self._stems[stem] == 1 else None)
            or (self._by_stem.get(bare) if self._bare_stems[bare] == 1 else None)
            or self._folder / name
        )


def _files_below(folder: Path) -> Iterator[Path]:
    """Also those in linked folders. Each folder is entered once, under its own name if that lies below: a link may lead
    back up, or beside.
    """
    entered, starts = set(), [folder]
    for start in starts:
        for path, folders, files in os.walk(start):  # enters no links
            if (real := os.path.realpath(path)) in entered:
                folders.clear()
                continue
            entered.add(real)
            starts += [Path(path, name) for name in folders if os.path.islink(os.path.join(path, name))]
            yield from (Path(path, file) for file in files)


def _stem(name: str) -> str:
    """The path of an image without its suffix."""
    return str(PurePosixPath(name).with_suffix(""))


def _largest_images(root: Path) -> Path:
    factors = {}
    for folder in root.iterdir():
        if folder.is_dir() and (match := re.fullmatch(_FOLDER, folder.name)):
            factors[int(match[1] or 1)] = folder
    if not factors:
        raise DatasetError(
            f"this looks like COLMAP, but {root / 'images'} is missing: the images of the model, or images_2, images_4 "
            "with downscaled ones; see docs/datasets.md"
        )
    return factors[min(factors)]
