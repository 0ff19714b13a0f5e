"""7-Scenes (Shotton et al., CVPR 2013): a sequence, or a scene with all its sequences, which share one world.

    <scene>/seq-01/frame-000000.color.png
                   frame-000000.depth.png       16-bit millimetres, 65535 unknown
                   frame-000000.pose.txt        camera-to-world of the depth camera, optical convention, metres

Neither camera is calibrated. The data set gives the depth camera as f = 585 with the centre of its image; poses are of
that camera (KinectFusion). Of the colour camera nothing is given: its focal length and its place are those of another
Kinect that ACE (Brachmann et al., CVPR 2023) takes, from https://projet.liris.cnrs.fr/voir/activities-dataset/
kinect-calibration.html. Depth is registered to colour and the pose moved with them; expect errors of some pixels.
Sources: https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes, https://github.com/nianticlabs/ace,
datasets/setup_7scenes.py.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lift_ros.camera import Camera
from lift_ros.data.files import files_by_key, natural_key, read_pose
from lift_ros.data.listed import KINECT_INTERVAL, Entry, Lens, ListedCapture
from lift_ros.data.registration import register_depth
from lift_ros.errors import DatasetError
from lift_ros.frame import check_rigid

_DEPTH_CAMERA = Camera(640, 480, 585.0, 585.0, 320.0, 240.0)
_COLOR_CAMERA = Camera(640, 480, 525.0, 525.0, 320.0, 240.0)
_T_COLOR_DEPTH = np.array([
    [9.9996518012567637e-01, 2.6765126468950343e-03, -7.9041012313000904e-03, -2.5558943178152542e-02],
    [-2.7409311281316700e-03, 9.9996302803027592e-01, -8.1504520778013286e-03, 1.0109636268061706e-04],
    [7.8819942130445332e-03, 8.1718328771890631e-03, 9.9993554558014031e-01, 2.0318321729487039e-03],
    [0.0, 0.0, 0.0, 1.0],
])  # fmt: skip
_T_DEPTH_COLOR = np.linalg.inv(_T_COLOR_DEPTH)


def _sequences(path: Path) -> list[Path]:
    folders = [path, *sorted(path.glob("seq-*"), key=lambda folder: natural_key(folder.name))]
    return [folder for folder in folders if any(folder.glob("frame-*.color.png"))]


class SevenScenesCapture(ListedCapture):
    """A scene or a sequence of 7-Scenes."""

    def __init__(self, path: str | Path, *, max_depth: float = math.inf) -> None:
        """List the files. Raises DatasetError; see ``open_capture``."""
        root = Path(path)
        entries: list[Entry] = []
        self._poses: list[Path | None] = []
        for folder in _sequences(root):
            poses = files_by_key(folder, r"(frame-\d+)\.pose\.txt")
            depths = files_by_key(folder, r"(frame-\d+)\.depth\.png")
            if not poses:
                raise DatasetError(
                    f"this looks like 7-Scenes, but {folder}/frame-<n>.pose.txt are missing: a pose for each colour "
                    "image; see docs/datasets.md"
                )
            start = entries[-1].stamp + KINECT_INTERVAL if entries else 0.0
            for key, image in files_by_key(folder, r"(frame-\d+)\.color\.png").items():
                name = key if folder == root else f"{folder.name}_{key}"
                stamp = start + int(key.removeprefix("frame-")) * KINECT_INTERVAL
                entries.append(Entry(name, image, stamp, depths.get(key)))
                self._poses.append(poses.get(key))
        super().__init__(root, entries, sources=list(filter(None, self._poses)), max_depth=max_depth)
        first = entries[0].image
        self._check_depth(first.parent.glob("*.depth*"), first.with_name(first.name.replace("color", "depth")))

    def _pose(self, index: int) -> NDArray[np.float64]:
        return check_rigid(read_pose(self._poses[index])) @ _T_DEPTH_COLOR

    def _lens(self, index: int, width: int, height: int) -> Lens:
        return Lens(_COLOR_CAMERA).resized(width, height)

    def _register(self, depth: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
        height, width = depth.shape
        return register_depth(depth, _DEPTH_CAMERA.resized(width, height), camera, _T_COLOR_DEPTH)
