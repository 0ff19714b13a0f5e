"""Messy Rooms, the data set of Contrastive Lift (Bhalgat et al., NeurIPS 2023), rendered with Kubric.

    color/<n>.png
    metadata.json                                   "camera": {"K", "positions", "quaternions"}
    instance/<n>.npy, semantic/<n>.npy              true labels, offered as ``instances`` and ``semantic``
    detic_instance/<n>.npy, detic_semantic/<n>.npy  those of Detic, offered under these names

``K`` is 3x3 in units of the image's width and height. Pose i is that of the i-th image in order of their names:
camera-to-world, quaternions wxyz, in Blender's convention (x right, y up, z backward). Depth is not read.
Source: https://github.com/yashbhalgat/Contrastive-Lift, dataset/many_object_scenes.py.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lift_ros.camera import Camera
from lift_ros.data.files import require
from lift_ros.data.listed import Lens, ListedCapture
from lift_ros.data.scannet import color_entries
from lift_ros.data.transforms import pose_matrix
from lift_ros.errors import DatasetError, FrameRejected

_LAYOUT = "Messy Rooms"
_BLENDER_TO_OPTICAL = np.diag([1.0, -1.0, -1.0, 1.0])


class MessyRoomsCapture(ListedCapture):
    """A scene of Messy Rooms, whose views were drawn at random."""

    timed = False

    def __init__(self, path: str | Path, *, max_depth: float = math.inf) -> None:
        """Read the metadata. Raises DatasetError; see ``open_capture``."""
        root = Path(path)
        entries = [replace(entry, depth=None) for entry in color_entries(root, _LAYOUT)]  # Kubric's is along the ray
        file = require(root / "metadata.json", _LAYOUT, "the cameras")
        super().__init__(root, entries, sources=[file], max_depth=max_depth)
        try:
            camera = json.loads(file.read_text())["camera"]
            self._K = np.abs(np.array(camera["K"], np.float64).reshape(3, 3))  # Kubric's y axis points up
            self._positions = np.array(camera["positions"], np.float64).reshape(-1, 3)
            self._quaternions = np.array(camera["quaternions"], np.float64).reshape(-1, 4)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{file} needs 'camera' with K, positions and quaternions: {error}") from None
        if len(self._positions) != len(entries):
            self.problems.append(f"{file} has {len(self._positions)} cameras for {len(entries)} images")

    def _pose(self, index: int) -> NDArray[np.float64]:
        if index >= min(len(self._positions), len(self._quaternions)):
            raise FrameRejected("pose_missing", f"metadata.json has no camera for {self._entries[index].image}")
        return pose_matrix(self._positions[index], np.roll(self._quaternions[index], -1)) @ _BLENDER_TO_OPTICAL

    def _lens(self, index: int, width: int, height: int) -> Lens:
        return Lens(Camera.from_K(np.diag([width, height, 1.0]) @ self._K, width, height))
