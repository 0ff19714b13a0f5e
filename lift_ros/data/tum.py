"""The TUM RGB-D benchmark (Sturm et al., IROS 2012), and recordings in its format.

    rgb.txt, depth.txt      lines "timestamp file"
    groundtruth.txt         lines "timestamp tx ty tz qx qy qz qw": camera-to-world, optical convention, metres

Depth is 16-bit, 5000 counts per metre, registered to the colour image as it was taken. Depth and pose of a colour image
are those nearest in time, within 0.02 s. Intrinsics are those of the room that the directory's name tells
(``rgbd_dataset_freiburg1_desk``, ``fr2_xyz``), else the benchmark's defaults.
Source: https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats, nice-slam's configs/TUM_RGBD.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lift_ros.camera import Camera
from lift_ros.data.files import require
from lift_ros.data.listed import Entry, Lens, ListedCapture
from lift_ros.data.transforms import pose_matrix
from lift_ros.errors import DatasetError, FrameRejected

MAX_OFFSET = 0.02  # seconds
COUNTS_PER_METRE = 5000
_LAYOUT = "the TUM RGB-D benchmark"


def _lens(fx: float, fy: float, cx: float, cy: float, *D: float) -> Lens:
    return Lens(Camera(640, 480, fx, fy, cx + 0.5, cy + 0.5), D)  # OpenCV's pixel convention


_LENSES = {
    "1": _lens(517.3, 516.5, 318.6, 255.3, 0.2624, -0.9531, -0.0054, 0.0026, 1.1633),
    "2": _lens(520.9, 521.0, 325.1, 249.7, 0.2312, -0.7849, -0.0033, -0.0001, 0.9172),
    "3": _lens(535.4, 539.2, 320.1, 247.6),
}
_DEFAULT = _lens(525.0, 525.0, 319.5, 239.5)


class TumCapture(ListedCapture):
    """A sequence of the TUM RGB-D benchmark."""

    def __init__(self, path: str | Path, *, max_depth: float = math.inf) -> None:
        """Read the lists. Raises DatasetError; see ``open_capture``."""
        root = Path(path)
        cut: list[str] = []
        images = sorted(_read_list(require(root / "rgb.txt", _LAYOUT, "times and files of the colour images"), 2, cut))
        if not images:
            raise DatasetError(f"{root / 'rgb.txt'} lists no images")
        self._poses = _read_list(require(root / "groundtruth.txt", _LAYOUT, "times and poses of the camera"), 8, cut)
        depths = _read_list(root / "depth.txt", 2, cut) if (root / "depth.txt").is_file() else []
        nearest = _Nearest([stamp for stamp, _ in depths])
        entries = []
        for stamp, (file,) in images:
            depth = nearest(stamp)
            image = root / file
            entries.append(Entry(image.stem, image, stamp, None if depth is None else root / depths[depth][1][0]))
        super().__init__(
            root,
            entries,
            sources=[root / f"{name}.txt" for name in ("rgb", "groundtruth", "depth")],
            max_depth=max_depth,
            depth_unit=1 / COUNTS_PER_METRE,
            no_depth=f"no depth within {MAX_OFFSET} s",
        )
        self.problems += cut
        self._nearest_pose = _Nearest([stamp for stamp, _ in self._poses])
        names = self.name, root.resolve().name  # a link may be called otherwise, or tell what its target does not
        rooms = (re.search(r"(?:freiburg|fr)([123])(?!\d)", name) for name in names)
        room = next((found for found in rooms if found), None)
        self._room = _LENSES[room[1]] if room else _DEFAULT
        if room is None:
            self.problems.append(
                f"the name '{self.name}' does not tell the camera (freiburg1, freiburg2, freiburg3); the benchmark's "
                "default intrinsics are taken"
            )
        if depths and not any(entry.depth for entry in entries):
            self.problems.append(f"no frame has depth: depth.txt lists none within {MAX_OFFSET} s of a colour image")

    def _pose(self, index: int) -> NDArray[np.float64]:
        stamp = self._entries[index].stamp
        nearest = self._nearest_pose(stamp)
        if nearest is None:
            raise FrameRejected("pose_missing", f"groundtruth.txt has no pose within {MAX_OFFSET} s of {stamp:.4f}")
        try:
            pose = np.array(self._poses[nearest][1], np.float64)
        except ValueError as error:
            raise FrameRejected("pose_missing", f"groundtruth.txt at {stamp:.4f}: {error}") from None
        return pose_matrix(pose[:3], pose[3:])

    def _lens(self, index: int, width: int, height: int) -> Lens:
        return self._room.resized(width, height)


class _Nearest:
    """Index of the nearest of some times, within MAX_OFFSET."""

    def __init__(self, stamps: list[float]) -> None:
        self._order = np.argsort(stamps, kind="stable")
        self._stamps = np.array(stamps)[self._order]

    def __call__(self, stamp: float) -> int | None:
        after = int(np.searchsorted(self._stamps, stamp))
        near = [index for index in (after - 1, after) if 0 <= index < len(self._stamps)]
        best = min(near, key=lambda index: abs(self._stamps[index] - stamp), default=None)
        if best is None or abs(self._stamps[best] - stamp) > MAX_OFFSET:
            return None
        return int(self._order[best])


def _read_list(file: Path, columns: int, problems: list[str]) -> list[tuple[float, list[str]]]:
    """Time and the other columns of each line. Of a list whose writer was killed the line that was begun is left out,
    with an entry in ``problems``. Raises DatasetError.
    """
    rows = []
    try:
        lines = file.read_text("utf-8-sig").splitlines(keepends=True)  # Windows' editors mark UTF-8
        for number, line in enumerate(lines, 1):
            words = line.replace(",", " ").split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) < columns:
                lacking = f"line {number} has {len(words)} of {columns} columns"
                if number == len(lines) and line == line.rstrip("\r\n"):
                    problems.append(f"{file} was cut off: {lacking} and is not used")
                    continue
                raise ValueError(lacking)
            rows.append((float(words[0]), words[1:columns]))
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {file}: {error}") from None
    return rows
