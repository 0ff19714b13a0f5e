"""LERF-Mask and the other captures released with Gaussian Grouping (Ye et al., ECCV 2024).

A COLMAP capture (colmap.py) with

    object_mask/<stem of the image>.png      ids by SAM and a tracker, offered as ``object_mask``
    images_train/                            copies of the images that are not test views
    test_mask/<view>/<text prompt>.png       true masks of some objects in the test views, offered as ``instances``

Source: https://github.com/lkeab/gaussian-grouping, scene/dataset_readers.py, render_lerf_mask.py and
script/eval_lerf_mask.py: view k is the k-th image by name that ``images_train`` lacks, and a mask holds where it is
above 128. Masks of two prompts may overlap; the labels show the smaller one there, ``overlapping_masks`` both. Ids
number the prompts of the capture in alphabetical order, from 1. The tracker did not see the test views: their
``object_mask`` is black.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from lift_ros.data.capture import COLMAP_MODELS, fit_labels
from lift_ros.data.colmap import ColmapCapture
from lift_ros.data.colmap_model import find_model, read_images
from lift_ros.data.files import images_by_stem, read_image, require
from lift_ros.errors import FrameRejected
from lift_ros.frame import Frame


class LerfMaskCapture(ColmapCapture):
    """A COLMAP capture with labels of Gaussian Grouping.

    Attributes:
        prompts: name of each true instance; instance i is ``prompts[i - 1]``.
    """

    def __init__(self, path: str | Path, *, max_depth: float = math.inf) -> None:
        """Read the model. Raises DatasetError; see ``open_capture``."""
        path = Path(path)
        root = path if (path / "object_mask").is_dir() or (path / "test_mask").is_dir() else path.parent
        if find_model(root) is None:
            require(root / COLMAP_MODELS[0], "LERF-Mask", "the COLMAP model, with cameras and images")
        self._object_masks = images_by_stem(root / "object_mask")
        self._masks_of = lru_cache(maxsize=1)(self._read_masks)  # asked for twice, as labels and one by one
        self._test_views, unknown = _test_views(root)
        self.prompts = tuple(sorted({mask.stem for mask in (root / "test_mask").glob("*/*.png")}))
        super().__init__(path, max_depth=max_depth)
        self.incomplete_names = ("instances",)  # of the prompts alone
        if unknown:
            self.problems.append(
                f"test_mask/{', '.join(unknown)} cannot be told to belong to an image: images_train/ with the names of "
                "the training views is missing, or has too many"
            )

    @property
    def files(self) -> list[Path]:
        """See ``Capture.files``: of a test view all its masks."""
        return [file for path in super().files for file in (sorted(path.glob("*.png")) if path.is_dir() else [path])]

    def _labels_of(self, image: str) -> dict[str, Path]:
        stem = PurePosixPath(image).name.split(".")[0]  # as in Gaussian Grouping
        found = {"object_mask": self._object_masks.get(stem), "instances": self._test_views.get(stem)}
        return {name: path for name, path in found.items() if path}

    def _read_labels(self, path: Path) -> NDArray[np.int32]:
        if not path.is_dir():
            return super()._read_labels(path)
        masks = self._masks_of(path)
        labels = np.zeros_like(masks[0])
        for mask in sorted(masks, key=np.count_nonzero, reverse=True):
            labels = np.where(mask, mask, labels)
        return labels

    def _read_masks(self, view: Path) -> list[NDArray[np.int32]]:
        """The masks of a folder of ``test_mask``, each (H, W) of its id and 0. Raises FrameRejected."""
        masks = []
        for file in sorted(view.glob("*.png")):
            mask = read_image(file, cv2.IMREAD_GRAYSCALE, "labels_unreadable")
            if masks and mask.shape != masks[0].shape:
                raise FrameRejected("labels_unreadable", f"{file} is of another size than its neighbours")
            masks.append(np.where(mask > 128, 1 + self.prompts.index(file.stem), 0).astype(np.int32))
        return masks

    def overlapping_masks(self, name: str, frame: Frame) -> list[NDArray[np.int32]]:
        """See ``Capture.overlapping_masks``."""
        view = self._label_path(name, frame)
        if view is None or not view.is_dir():
            return []
        return [fit_labels(self._undistorted(mask, view, frame), name, frame) for mask in self._masks_of(view)]


def _test_views(root: Path) -> tuple[dict[str, Path], list[str]]:
    """Folders of true masks by the stem of their image, and the names of those whose image is unknown."""
    views = [folder for folder in (root / "test_mask").glob("*") if any(folder.glob("*.png"))]
    model = find_model(root)
    if not views or model is None:
        return {}, []
    stems = sorted(PurePosixPath(image.name).name.split(".")[0] for image in read_images(model))
    train = {file.name.split(".")[0] for file in (root / "images_train").glob("*")}
    test = [stem for stem in stems if stem not in train] if train else []
    found, unknown = {}, []
    for view in views:
        if view.name.isdigit() and int(view.name) < len(test):
            found[test[int(view.name)]] = view
        elif view.name in stems:
            found[view.name] = view
        else:
            unknown.append(view.name)
    return found, unknown
