"""A long drive through rooms: does the cost of a frame, the memory and what is known stay what they were?

    python benchmarks/drive.py CAPTURE [--masks L1] [--rooms 6] [--minutes 60] [--set mapping.max_keyframes=200 ...]
    python benchmarks/drive.py CAPTURE --rooms 0 [--every 2] [--rate 0.5] ...

Every room is the capture, moved; the camera goes through all of them again and again, or with `--rooms 0` always on to
new ones. Every keyframe is trained and the objects are updated as `lift map` does. What is timed is processor time,
since other programs slow the clock. The quality is that of the first room and of the one before the last, labelled by
the map of the moment.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import TRUTH, is_due, quality, recorded, take

from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.frame import Frame
from lift_ros.mapping.mapper import Mapper
from lift_ros.masks.base import Masks, Prompts
from lift_ros.options import assignments, with_values

APART = 20.0  # from room to room, in the unit of the poses
BLOCK = 600.0  # s of the drive that make a row
HEADS = (
    "minute",
    "keyframes: kept, new, let go",
    "Gaussians",
    "objects",
    "frame [ms]",
    "keyframe, training included [ms]",
    "update of the objects [ms]",
    "memory [MiB]",
    "PQ of the first room",
    "of the latest",
)
EVERY = 6  # frame of a room that is compared with the truth


class Drive:
    """Frames of the drive, and a segmenter that knows their masks."""

    name = "recorded"
    promptable = False

    def __init__(self, path: Path, masks: str, every: int) -> None:
        with open_capture(path) as capture:
            self.world_frame = capture.world_frame
            self.room = list(capture.frames)[::every]
            self._masks = [recorded(capture, masks, frame) for frame in self.room]
            self.truth = [recorded(capture, TRUTH, frame) for frame in self.room]
        self._number = 0

    def frames(self, rooms: int, count: int, rate: float) -> Iterator[tuple[int, Frame]]:
        """(room, frame), as the camera goes: ``count`` frames, ``rate`` a second; 0 ``rooms`` never end."""
        for number in range(count):
            room, self._number = divmod(number, len(self.room))
            room = room % rooms if rooms else room
            yield room, self.moved(self._number, room, number / rate)

    def moved(self, number: int, room: int, stamp: float) -> Frame:
        """Frame ``number`` as it is in a room."""
        pose = self.room[number].T_world_camera.copy()
        pose[0, 3] += APART * room
        return replace(self.room[number], T_world_camera=pose, stamp=stamp)

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        """See ``Segmenter``."""
        labels = self._masks[self._number]
        return Masks.empty(*frame.image.shape[:2]) if labels is None else Masks.from_label_image(labels)

    def quality(self, mapper: Mapper, room: int) -> float:
        """PQ_scene (things) of a room."""
        known = [number for number in range(0, len(self.room), EVERY) if self.truth[number] is not None]
        return quality(mapper, ((self.moved(number, room, 0.0), self.truth[number]) for number in known))


def resident_mib() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--masks", default="L1")
    parser.add_argument("--rooms", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=2.0, help="frames a second")
    parser.add_argument("--every", type=int, default=1, help="frame of the capture that is used")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    torch.set_num_threads(2)
    drive = Drive(args.capture, args.masks, args.every)
    config = with_values(Config(), {"mapping.device": "cpu"} | assignments("--set", args.set))
    mapper = Mapper(config, drive, drive.world_frame)
    print("| " + " | ".join(HEADS) + " |\n" + "|---" * len(HEADS) + "|", flush=True)
    spent: dict[str, list[float]] = {"frame": [], "keyframe": [], "update": []}
    known, end = 0, BLOCK
    for room, frame in drive.frames(args.rooms, round(60 * args.minutes * args.rate), args.rate):
        begin = time.process_time()
        new = take(mapper, frame)
        spent["keyframe" if new else "frame"].append(time.process_time() - begin)
        if new and is_due(mapper):
            begin = time.process_time()
            mapper.update_objects()
            spent["update"].append(time.process_time() - begin)
        if frame.stamp + 1 / args.rate >= end:
            mapper.update_objects()
            stats = mapper.stats
            means = [f"{1e3 * np.mean(values):.0f}" if values else "-" for values in spent.values()]
            cells = (f"{end / 60:.0f}", f"{stats.keyframes}, {stats.taken - known}, {stats.evicted_keyframes}",
                     f"{stats.gaussians:,}", f"{len(mapper.snapshot.tracks)}", *means, f"{resident_mib()}",
                     f"{drive.quality(mapper, 0):.3f}",
                     f"{drive.quality(mapper, max(room - 1, 0)):.3f}")  # fmt: skip
            print("| " + " | ".join(cells) + " |", flush=True)
            known, end = stats.taken, end + BLOCK
            spent = {name: [] for name in spent}


if __name__ == "__main__":
    main()
