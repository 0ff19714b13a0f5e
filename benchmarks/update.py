"""From the masks of a keyframe to objects that agree with them, on a map of many keyframes.

    python benchmarks/update.py CAPTURE [--masks L2] [--set scene.max_gaussians=320000 scene.seed_spacing=2.4 ...]

The capture is mapped once, as `lift map` does. Then the objects are updated again and again, each time as after a
keyframe: what its masks show is not known yet, and what it planted has neighbours to be found. Beside it the same
neighbours are found by scipy, and the two take turns. Figures are medians, of the clock and of the processor, whose
time counts all threads and depends less on what else runs.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from common import is_due, now, take
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.mapping.keyframes import Keyframes
from lift_ros.mapping.mapper import Mapper
from lift_ros.masks.recorded import CaptureMasks
from lift_ros.objects.registry import ObjectRegistry
from lift_ros.options import assignments, with_values

ROUNDS = 15
PLANTED = 10  # last keyframes, of which the planting is timed
TOTAL, SCIPY = "update of the objects, all of it", "neighbours, by scipy"
PLANTING = "planting, until new ground has the objects of its masks"


class Stopwatch:
    """Times of functions by name, each (2,) s of the clock and of the processor."""

    def __init__(self) -> None:
        self.times: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
        self._stack = ExitStack()

    def watch(self, name: str, owner: type, function: str) -> None:
        """Time every call of ``owner.function``."""
        original = getattr(owner, function)

        def run(*args: object) -> object:
            begin = now()
            try:
                return original(*args)
            finally:
                self.times[name].append(now() - begin)

        self._stack.enter_context(patch.object(owner, function, run))

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def mapped(path: Path, masks: str, config: Config) -> tuple[Mapper, list[NDArray[np.float64]]]:
    """The map of a capture, and the times that planting took of the last keyframes, from their masks on."""
    planting: list[NDArray[np.float64]] = []
    with open_capture(path) as capture, Stopwatch() as watch:
        watch.watch("frame", Mapper, "process")
        watch.watch("masks", Mapper, "_segment")
        mapper = Mapper(config, CaptureMasks(capture, masks), capture.world_frame)
        for frame in capture.frames:
            if take(mapper, frame):
                planting.append(watch.times["frame"][-1] - watch.times["masks"][-1])
                if is_due(mapper):
                    mapper.update_objects()
    mapper.update_objects()
    return mapper, planting[-PLANTED:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--masks", default="L2")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    torch.set_num_threads(2)
    config = with_values(Config(), {"mapping.device": "cpu"} | assignments("--set", args.set))
    mapper, planting = mapped(args.capture, args.masks, config)
    points = mapper.snapshot.scene.means.numpy()
    with Stopwatch() as watch:
        watch.watch(TOTAL, Mapper, "update_objects")
        watch.watch("what the keyframe shows", Keyframes, "refresh_new")
        watch.watch("neighbours", Mapper, "_near")
        watch.watch("labels", type(mapper._method), "decode")
        watch.watch("objects", ObjectRegistry, "update")
        watch.watch("snapshot", Mapper, "_publish")
        for _ in range(ROUNDS):
            mapper._keyframes[-1].evidence = mapper._neighbours = None
            mapper.update_objects()
            begin = now()
            cKDTree(points).query(points, k=9, workers=-1)
            watch.times[SCIPY].append(now() - begin)
    times = watch.times | {PLANTING: planting, "neighbours": watch.times["neighbours"][::2]}  # the rest are kept ones
    print(f"{len(points):,} Gaussians, {mapper.stats.keyframes} keyframes, {len(mapper.snapshot.tracks)} objects\n")
    print("| | clock [ms] | processor [ms] |\n|---|---|---|")
    for name, own in times.items():
        print(f"| {name} | " + " | ".join(f"{1e3 * seconds:.0f}" for seconds in np.median(own, axis=0)) + " |")


if __name__ == "__main__":
    main()
