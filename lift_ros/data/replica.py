"""Replica (Straub et al., 2019) as rendered by two projects. Poses are camera-to-world, optical convention, in metres.

Semantic-NeRF (also vMAP), one directory per sequence, such as ``room_0/Sequence_1``:

    rgb/rgb_0.png, ...                                  any size; horizontal field of view 90 degrees
    depth/depth_0.png, ...                              16-bit millimetres
    semantic_instance/semantic_instance_0.png, ...      offered as ``instances``
    semantic_class/semantic_class_0.png, ...            offered as ``semantic``
    traj_w_c.txt                                        a row of 16 numbers for each image

Semantic-NeRF releases ``semantic_instance`` apart from the rest, for ``Sequence_1`` alone.
Source: https://github.com/Harry-Zhi/semantic_nerf, SSR/datasets/replica/replica_datasets.py, SSR/training/trainer.py.

NICE-SLAM (most RGB-D SLAM since), one directory per scene, such as ``Replica/room0``:

    results/frame000000.jpg, ...
    results/depth000000.png, ...                        16-bit, ``scale`` counts per metre (6553.5)
    traj.txt                                            a row of 16 numbers for each image
    cam_params.json                                     {"camera": {w, h, fx, fy, cx, cy, scale}}, here or one up

Source: https://github.com/cvg/nice-slam, src/utils/datasets.py, configs/Replica/replica.yaml.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lift_ros.camera import Camera
from lift_ros.data.files import files_by_key, read_matrix, require
from lift_ros.data.listed import FRAME_INTERVAL, Entry, Lens, ListedCapture
from lift_ros.errors import DatasetError, FrameRejected

_SEMANTIC_NERF = "Replica as rendered by Semantic-NeRF"
_NICE_SLAM = "Replica as rendered by NICE-SLAM"
_LABELS = {"instances": "semantic_instance", "semantic": "semantic_class"}


class _Replica(ListedCapture):
    """Image n has row n of the trajectory."""

    timed = False

    def __init__(
        self,
        root: Path,
        numbers: list[str],
        entries: list[Entry],
        trajectory: Path,
        *others: Path,
        unit: float,
        max_depth: float,
    ) -> None:
        super().__init__(root, entries, sources=[trajectory, *others], max_depth=max_depth, depth_unit=unit)
        rows = read_matrix(trajectory)
        if rows.shape[1] != 16:
            raise DatasetError(f"{trajectory} has {rows.shape[1]} numbers a row; expected 16 of a 4x4 pose")
        self._trajectory = rows.reshape(-1, 4, 4)
        self._rows = [int(number) for number in numbers]

    def _pose(self, index: int) -> NDArray[np.float64]:
        row = self._rows[index]
        if row >= len(self._trajectory):
            raise FrameRejected("pose_missing", f"image {row} is beyond the {len(self._trajectory)} rows of poses")
        return self._trajectory[row]


class SemanticNerfCapture(_Replica):
    """A sequence of Replica as rendered by Semantic-NeRF."""

    def __init__(self, path: str | Path, *, max_depth: float = math.inf) -> None:
        """List the files. Raises DatasetError; see ``open_capture``."""
        root = Path(path)
        images = files_by_key(root / "rgb", r"rgb_(\d+)\.png")
        if not images:
            require(root / "rgb" / "rgb_0.png", _SEMANTIC_NERF, "colour images rgb/rgb_<n>.png")
        trajectory = require(root / "traj_w_c.txt", _SEMANTIC_NERF, "a camera-to-world pose of 16 numbers per image")
        depths = files_by_key(root / "depth", r"depth_(\d+)\.png")
        labels = {name: files_by_key(root / folder, rf"{folder}_(\d+)\.png") for name, folder in _LABELS.items()}
        entries = [
            Entry(
                image.stem,
                image,
                int(number) * FRAME_INTERVAL,
                depths.get(number),
                {name: files[number] for name, files in labels.items() if number in files},
            )
            for number, image in images.items()
        ]
        super().__init__(root, list(images), entries, trajectory, unit=0.001, max_depth=max_depth)
        self._check_depth((root / "depth").glob("[!.]*"), root / f"depth/depth_{next(iter(images))}.png")
        self.incomplete_names = ("instances",)  # walls and floor are instances, and one of them all has the number 0
        if labels["semantic"] and not labels["instances"]:
            self.problems.append(
                f"{root / _LABELS['instances']} with the true instances is missing: unpack there semantic_instance.zip "
                "of the archive Replica_Instance_Segmentation, which has it for each Sequence_1"
            )

    def _lens(self, index: int, width: int, height: int) -> Lens:
        return Lens(Camera(width, height, width / 2, width / 2, width / 2, height / 2))


class NiceSlamCapture(_Replica):
    """A scene of Replica as rendered by NICE-SLAM."""

    def __init__(self, path: str | Path, *, max_depth: float = math.inf) -> None:
        """List the files. Raises DatasetError; see ``open_capture``."""
        root = Path(path)
        images = files_by_key(root / "results", r"frame(\d+)\.(?:jpg|png)")
        depths = files_by_key(root / "results", r"depth(\d+)\.png")
        trajectory = require(root / "traj.txt", _NICE_SLAM, "a camera-to-world pose of 16 numbers per image")
        file = _camera_file(root)
        self._camera, scale = _camera_parameters(file)
        entries = [
            Entry(image.stem, image, int(number) * FRAME_INTERVAL, depths.get(number))
            for number, image in images.items()
        ]
        super().__init__(root, list(images), entries, trajectory, file, unit=1 / scale, max_depth=max_depth)
        self._check_depth(root.glob("results/depth*"), root / f"results/depth{next(iter(images))}.png")

    def _lens(self, index: int, width: int, height: int) -> Lens:
        return Lens(self._camera).resized(width, height)


def _camera_file(root: Path) -> Path:
    file = root / "cam_params.json"
    if not file.is_file() and (root.resolve().parent / file.name).is_file():
        file = root.resolve().parent / file.name
    return require(file, _NICE_SLAM, "the camera that all scenes share, here or one directory up")


def _camera_parameters(file: Path) -> tuple[Camera, float]:
    """The camera, and counts of depth per metre. Raises DatasetError."""
    try:
        values = json.loads(file.read_text())["camera"]
        w, h, fx, fy, cx, cy, scale = (float(values[key]) for key in ("w", "h", "fx", "fy", "cx", "cy", "scale"))
        if scale <= 0:
            raise ValueError(f"scale is {scale}")
        # the centre of the first pixel is at 0 there
        return Camera(int(w), int(h), fx, fy, cx + 0.5, cy + 0.5), scale
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{file} needs 'camera' with w, h, fx, fy, cx, cy and scale: {error}") from None
