"""What a step and a label image cost when most of the map is out of view.

    python benchmarks/flat.py [--rooms 1 2 5 10] [--per-room 100000]

A row of equal rooms, each with objects of its own; the camera stands in the first and sees nothing of the others. The
ratio is to the map of that room alone; all maps take turns within each round, so that a busy machine slows all. Figures
are medians.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
import statistics
from collections.abc import Callable

import torch
from common import by_turns
from rooms import camera, frame, house

from lift_ros.scene.config import SceneConfig
from lift_ros.scene.trainer import PhotometricTrainer, TrainingView

WIDTH, HEIGHT = 320, 240
ROUNDS, WARM_UP = 15, 2


class House:
    """A row of rooms and the camera in the first, with what is timed on them. See ``house``."""

    def __init__(self, rooms: int, per_room: int) -> None:
        self.snapshot = house(per_room, rooms)
        self.frame = frame(self.snapshot, camera(WIDTH, HEIGHT))
        scene = self.snapshot.scene.clone()
        self.trainer = PhotometricTrainer(scene, SceneConfig(max_gaussians=len(scene)))
        self.training = TrainingView.from_frame(self.frame, 0)

    def runs(self) -> dict[str, Callable[[], object]]:
        """What is timed."""
        return {
            "scene step": lambda: self.trainer.step(self.training),
            "label image": lambda: self.snapshot.labels_of(self.frame, WIDTH),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, nargs="+", default=(1, 2, 5, 10))
    parser.add_argument("--per-room", type=int, default=100_000)
    args = parser.parse_args()
    torch.set_num_threads(2)
    houses = [House(rooms, args.per_room) for rooms in args.rooms]
    names = list(houses[0].runs())
    runs = {(name, number): run for number, own in enumerate(houses) for name, run in own.runs().items()}
    times = by_turns(runs, ROUNDS, WARM_UP)
    heads = [f"{name} [ms] | times the first" for name in names]
    print("| Gaussians | in view | " + " | ".join(heads) + " |\n" + "|---" * (2 + 2 * len(names)) + "|")
    for number, each in enumerate(houses):
        cells = [f"{len(each.snapshot.scene):,}", f"{args.per_room:,}"]
        for name in names:
            own, first = times[name, number], times[name, 0]
            ratio = statistics.median(a / b for a, b in zip(own, first, strict=True))
            cells += [f"{statistics.median(own):.1f}", f"{ratio:.2f}"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
