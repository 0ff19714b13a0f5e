"""What a step and a label image cost when most of the map is out of view.

    python benchmarks/flat.py [--rooms 1 2 5 10] [--per-room 100000]

A row of equal rooms; the camera stands in the first and sees nothing of the others. The ratio is to the map of that
room alone; all maps take turns within each round, so that a busy machine slows all. Figures are medians.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rasterizer import ROOM, camera, room

from lift_ros.frame import Frame
from lift_ros.mapping.snapshot import MapSnapshot
from lift_ros.scene.config import SceneConfig
from lift_ros.scene.gaussians import GaussianScene, Seeds
from lift_ros.scene.trainer import PhotometricTrainer, TrainingView

WIDTH, HEIGHT = 320, 240
GAP = 2.0  # rooms from one to the next
ROUNDS = 15


class House:
    """``rooms`` equal rooms of ``per_room`` Gaussians in a row, away from the camera's gaze."""

    def __init__(self, rooms: int, per_room: int) -> None:
        made = room(per_room, 3)
        scene = GaussianScene.empty()
        for number in range(rooms):
            means = made["means"] - number * GAP * torch.tensor([float(ROOM[0]), 0.0, float(ROOM[2])])
            scene.append(Seeds(means, made["quats"], made["scales"], made["opacities"], made["channels"]))
        self.view = camera(WIDTH, HEIGHT)
        ids = torch.arange(len(scene)) % 50 + 1
        self.snapshot = MapSnapshot(scene.clone(), ids, torch.zeros(len(scene)))
        seen = self.snapshot.render(self.view)
        pose = np.linalg.inv(self.view.viewmat.double().numpy())
        image = (255 * seen.image).byte().numpy()
        self.frame = Frame(image, self.view.intrinsics, pose, 0.0, seen.depth.numpy())
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
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(ROUNDS + 2):
        for number, house in enumerate(houses):
            for name, run in house.runs().items():
                begin = time.perf_counter()
                run()
                times.setdefault((name, number), []).append(1e3 * (time.perf_counter() - begin))
    heads = [f"{name} [ms] | times the first" for name in names]
    print("| Gaussians | in view | " + " | ".join(heads) + " |\n" + "|---" * (2 + 2 * len(names)) + "|")
    for number, house in enumerate(houses):
        cells = [f"{len(house.snapshot.scene):,}", f"{args.per_room:,}"]
        for name in names:
            own, first = times[name, number][2:], times[name, 0][2:]
            ratio = statistics.median(a / b for a, b in zip(own, first, strict=True))
            cells += [f"{statistics.median(own):.1f}", f"{ratio:.2f}"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
