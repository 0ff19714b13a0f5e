"""ScanNet (Dai et al., CVPR 2017) as exported from its ``.sens`` files, and captures preprocessed to that layout.

    color/<n>.jpg
    depth/<n>.png                               16-bit millimetres, of another size than the colour images
    pose/<n>.txt                                camera-to-world, optical convention, metres; -inf where it was lost
    intrinsic/intrinsic_color.txt               3x3 or 4x4; or intrinsics_color.txt, without a folder
    intrinsic/intrinsic_depth.txt               optional
    instance-filt/<n>.png, label-filt/<n>.png   offered as ``instances`` and ``semantic``

Colour and depth share one place ("already aligned", https://github.com/ScanNet/ScanNet/issues/92), so depth is looked
up through the two intrinsic matrices, or resized where that of depth is not given.
Source: https://github.com/ScanNet/ScanNet, SensReader/python, nerfstudio's scannet_dataparser.py.

Panoptic Lifting (Siddiqui et al., CVPR 2023) and Contrastive Lift preprocess ScanNet, Replica, HyperSim and own
captures to the same folders, with true labels in ``rs_instance`` and ``rs_semantics``. Those of networks are in folders
``<name>_instance``, ``<name>_semantics`` (``m2f_instance``) and offered under the names of these. Own captures have no
true labels: what is named so is a copy of ``m2f_instance`` or ``m2f_semantics``, and not offered. Nor are the colour
pictures of labels in ``visualized_<name>``. In ``rs_instance`` stuff is 0 and, in ScanNet, what nobody annotated.
Frames of ScanNet keep the numbers of SensReader; those of renderings and own captures are named 0_0000 or 0000.
Source: https://github.com/nihalsid/panoptic-lifting, dataset/panopli.py, dataset/preprocessing.
"""

from __future__ import annotations

import filecmp
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lift_ros.camera import Camera
from lift_ros.data.files import images_by_stem, read_matrix, read_pose, require
from lift_ros.data.listed import FRAME_INTERVAL, KINECT_INTERVAL, Entry, Lens, ListedCapture
from lift_ros.data.registration import resample_depth
from lift_ros.errors import DatasetError, FrameRejected
from lift_ros.frame import Frame

_LAYOUT = "ScanNet"
_COLOR_K = ("intrinsic/intrinsic_color.txt", "intrinsics_color.txt", "intrinsic_color.txt")
_DEPTH_K = ("intrinsic/intrinsic_depth.txt", "intrinsics_depth.txt", "intrinsic_depth.txt")
# the first folder that is there holds the true labels; {} is the name of the scene, as ScanNet's archives unpack
_TRUE = {
    "instances": ("instance-filt", "{}_2d-instance-filt/instance-filt", "rs_instance", "instance"),
    "semantic": ("label-filt", "{}_2d-label-filt/label-filt", "rs_semantics", "semantics", "semantic", "label"),
}
OFF_CENTRE = 0.2  # most that the principal point is off the centre, as a share of the image
_PREDICTED = ("*_instance", "*_semantics", "*_semantic", "*_segments")
_COPIED = {"instances": "m2f_instance", "semantic": "m2f_semantics"}
_NOT_PREDICTED = ("rs_", "visualized_")


def label_folders(root: Path) -> dict[str, Path]:
    """Folders of label images by the name they are offered under."""
    found = {}
    for name, places in _TRUE.items():
        folders = (root / place.format(root.resolve().name) for place in places)
        predicted = root / _COPIED[name]
        if folder := next((folder for folder in folders if folder.is_dir() and not _is_copy(folder, predicted)), None):
            found[name] = folder
    for pattern in _PREDICTED:
        for folder in sorted(root.glob(pattern)):
            if folder.is_dir() and not folder.name.startswith(_NOT_PREDICTED):
                found[folder.name] = folder
    return found


def _is_copy(folder: Path, other: Path) -> bool:
    """Whether two folders hold the same files, by all names and the contents of a few."""
    names, others = (sorted(file.name for file in place.glob("*")) for place in (folder, other))
    if not names or names != others:
        return False
    some = {names[0], names[len(names) // 2], names[-1]}
    return all(filecmp.cmp(folder / name, other / name, shallow=False) for name in some)


def color_entries(root: Path, layout: str, interval: float | None = None) -> list[Entry]:
    """Frames of ``color/``, with the depth and labels of the same stem. Raises DatasetError where there are none.

    ``interval``: seconds from one number of a frame to the next; None where they tell no time.
    """
    images = images_by_stem(root / "color")
    if not images:
        require(root / "color" / "0.jpg", layout, "colour images color/<n>.jpg or .png")
    depths = images_by_stem(root / "depth", (".png",))
    folders = label_folders(root)
    labels = {name: images_by_stem(folder, (".png", ".npy")) for name, folder in folders.items()}
    suffixes = {name: next((file.suffix for file in files.values()), ".png") for name, files in labels.items()}
    return [
        Entry(
            stem,
            image,
            index * FRAME_INTERVAL if interval is None else int(stem) * interval,
            depths.get(stem),
            {name: files.get(stem, folders[name] / (stem + suffixes[name])) for name, files in labels.items()},
        )
        for index, (stem, image) in enumerate(images.items())
    ]


class ScannetCapture(ListedCapture):
    """A ScanNet scene, or a capture preprocessed as one."""

    def __init__(self, path: str | Path, *, max_depth: float = math.inf) -> None:
        """List the files. Raises DatasetError; see ``open_capture``."""
        root = Path(path)
        stems = images_by_stem(root / "color")
        renumbered = (root / "rs_instance").is_dir() and not _numbered_by_sensor(stems)
        self.timed = not renumbered and all(stem.isdigit() for stem in stems)
        entries = color_entries(root, _LAYOUT, KINECT_INTERVAL if self.timed else None)
        self._poses = images_by_stem(require(root / "pose", _LAYOUT, "a pose <n>.txt for each colour image"), (".txt",))
        K_file = _first(root, _COLOR_K) or require(root / _COLOR_K[0], _LAYOUT, "the colour camera, 3x3 or 4x4")
        self._K, self._K_file = _read_K(K_file), K_file
        depth_K_file = _first(root, _DEPTH_K)
        self._depth_K = _read_K(depth_K_file) if depth_K_file else None
        sources = [K_file, *filter(None, [depth_K_file]), *self._poses.values()]
        super().__init__(root, entries, sources=sources, max_depth=max_depth)
        self._check_depth((root / "depth").glob("[!.]*"), root / f"depth/{entries[0].name}.png")
        if "instances" in self.recorded_names and not renumbered:
            self.incomplete_names = ("instances",)  # 0 is not the background: much of a scene is not annotated
        archives = sorted(root.glob("*_2d-instance*.zip"))  # the filtered ones come first, and are the better
        if archives and "instances" not in self.recorded_names:
            self.problems.append(f"the true instances are packed in {archives[0]}: unpack it there")

    def load(self, index: int, depth: bool = True) -> Frame:
        """See ``Capture.load``."""
        frame = super().load(index, depth)
        camera = frame.camera
        if not max(abs(camera.cx / camera.width - 0.5), abs(camera.cy / camera.height - 0.5)) <= OFF_CENTRE:
            # SensReader's image_size resizes the images and leaves the intrinsics as they were
            raise FrameRejected(
                "camera_info",
                f"{self._K_file} has its principal point at ({camera.cx:.0f}, {camera.cy:.0f}), the images have "
                f"{camera.width}x{camera.height} pixels: scale its first two rows as the images were",
            )
        return frame

    def _pose(self, index: int) -> NDArray[np.float64]:
        return read_pose(self._poses.get(self._entries[index].name))

    def _lens(self, index: int, width: int, height: int) -> Lens:
        return Lens(Camera.from_opencv_K(self._K, width, height))

    def _register(self, depth: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
        if self._depth_K is None or depth.shape == (camera.height, camera.width):  # the latter: preprocessed
            return super()._register(depth, camera)
        return resample_depth(depth, Camera.from_opencv_K(self._depth_K, depth.shape[1], depth.shape[0]), camera)


def _numbered_by_sensor(stems: Iterable[str]) -> bool:
    """Whether frames have numbers as SensReader writes them, without leading zeros."""
    return all(stem.isdigit() and stem == str(int(stem)) for stem in stems)


def _first(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_file()), None)


def _read_K(file: Path) -> NDArray[np.float64]:
    """(3, 3) intrinsic matrix, in OpenCV's pixel convention. Raises DatasetError."""
    K = read_matrix(file)
    if K.shape not in ((3, 3), (4, 4)):
        raise DatasetError(f"{file} holds {K.shape[0]}x{K.shape[1]} numbers, not an intrinsic matrix of 3x3 or 4x4")
    return K[:3, :3]
