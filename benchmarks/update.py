"""From the masks of a keyframe to objects that agree with them, on a map of many keyframes.

    python benchmarks/update.py CAPTURE [--masks L2] [--set scene.max_gaussians=320000 scene.seed_spacing=2.4 ...]

The capture is mapped once, as `lift map` does. Then the objects are updated again and again, each time as after a
keyframe: what its masks show is not known yet, and what it planted has neighbours to be found. Beside it the same
neighbours are found by scipy, and the two take turns. Figures are medians; a busy machine slows all alike.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
import statistics
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch
from scipy.spatial import cKDTree

from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import UPDATE_EVERY, CaptureMasks
from lift_ros.objects.registry import ObjectRegistry
from lift_ros.options import assignments, with_values

ROUNDS = 15
PLANTED = 10  # last keyframes, of which the planting is timed
TOTAL, PLANTING, SCIPY = "update of the objects, all of it", "planting", "neighbours, by scipy"


class Stopwatch:
    """Times of functions, in s by name."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)
        self._stack = ExitStack()

    def watch(self, name: str, owner: type, function: str) -> None:
        """Time every call of ``owner.function``."""
        original = getattr(owner, function)

        def run(*args: object) -> object:
            begin = time.perf_counter()
            try:
                return original(*args)
            finally:
                self.times[name].append(time.perf_counter() - begin)

        self._stack.enter_context(patch.object(owner, function, run))

    def __enter__(self) -> Stopwatch:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def mapped(path: Path, masks: str, config: Config) -> tuple[Mapper, list[float]]:
    """The map of a capture, and the seconds that planting took of the last keyframes, from their masks on."""
    planting: list[float] = []
    with open_capture(path) as capture, Stopwatch() as watch:
        watch.watch("masks", Mapper, "_segment")
        mapper = Mapper(config, CaptureMasks(capture, masks), capture.world_frame)
        for frame in capture.frames:
            begin = time.perf_counter()
            if not mapper.process(frame):
                continue
            planting.append(time.perf_counter() - begin - watch.times["masks"][-1])
            while mapper.step():
                pass
            if mapper.stats.keyframes % UPDATE_EVERY == 0:
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
        watch.watch("what the keyframe shows", Mapper, "_look_at_new")
        watch.watch("neighbours", Mapper, "_near")
        watch.watch("labels", type(mapper._method), "decode")
        watch.watch("objects", ObjectRegistry, "update")
        watch.watch("snapshot", Mapper, "_publish")
        for _ in range(ROUNDS):
            mapper._keyframes[-1].evidence = mapper._neighbours = None
            mapper.update_objects()
            begin = time.perf_counter()
            cKDTree(points).query(points, k=9, workers=-1)
            watch.times[SCIPY].append(time.perf_counter() - begin)
    times = watch.times | {PLANTING: planting, "neighbours": watch.times["neighbours"][::2]}  # the rest are kept ones
    print(f"{len(points):,} Gaussians, {mapper.stats.keyframes} keyframes, {len(mapper.snapshot.tracks)} objects\n")
    print("| | median [ms] | of the update |\n|---|---|---|")
    for name, own in times.items():
        ratio = statistics.median(a / b for a, b in zip(own, times[TOTAL], strict=False))
        print(f"| {name} | {1e3 * statistics.median(own):.0f} | {'-' if name == PLANTING else f'{ratio:.2f}'} |")


if __name__ == "__main__":
    main()
