"""Objects that are carried away from the demo room: which of them the map lets go of, and after how many frames.

    python benchmarks/departures.py [--seed 0] [--objects 14] [--masks L1] [--frames 50] [--every 3] [--noise 0.02 0.01]

A camera walks round the room and maps it. Then it goes on round a room from which an object was taken meanwhile; once
for each of some objects.
Depth and poses are exact or, with --noise, off by as much: depth by a share of itself, poses in metres.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import take
from numpy.typing import NDArray

from lift_ros.camera import Camera
from lift_ros.config import Config
from lift_ros.demo.generate import FOCAL
from lift_ros.demo.path import handheld_path
from lift_ros.demo.room import PlacedObject, Room
from lift_ros.evaluation.corruption import LEVELS, corrupt_masks
from lift_ros.frame import Frame
from lift_ros.mapping.mapper import Mapper
from lift_ros.masks.base import Masks, Prompts
from lift_ros.objects.registry import ObjectEvent
from lift_ros.options import with_values

WIDTH, HEIGHT = 640, 480
RATE = 10.0  # Hz
STEPS = 6  # of scene training for each keyframe
MARGIN = 0.01  # m, around the box of an object


class LatestMasks:
    """Segmenter: those of the view that was rendered last."""

    name = "demo"
    promptable = False
    labels: NDArray[np.integer]

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        return Masks.from_label_image(self.labels)


class Walk:
    """A camera on its way through a room, and the map that it makes."""

    def __init__(self, poses: NDArray[np.float64], masks: str, noise: tuple[float, float]) -> None:
        self.camera = Camera(WIDTH, HEIGHT, FOCAL * WIDTH, FOCAL * WIDTH, WIDTH / 2, HEIGHT / 2)
        self.poses, self.masks, self.noise = poses, masks, noise
        self.rng = np.random.default_rng(0)
        config = with_values(Config(), {"mapping.device": "cpu", "mapping.photometric_steps": STEPS})
        self.mapper = Mapper(config, LatestMasks())

    def step(self, room: Room, number: int) -> list[ObjectEvent]:
        """Take in a frame of the ``room``; returns what changed."""
        view = room.render(self.camera, self.poses[number])
        depth = view.depth * (1 + self.noise[0] * self.rng.standard_normal(view.depth.shape).astype(np.float32))
        pose = self.poses[number].copy()
        pose[:3, 3] += self.noise[1] * self.rng.standard_normal(3)
        self.mapper.segmenter.labels = corrupt_masks(view.instances, LEVELS[self.masks], self.rng)
        before = self.mapper.snapshot
        take(self.mapper, Frame(view.image, self.camera, pose, number / RATE, depth, str(number)))
        return self.mapper.update_objects() if self.mapper.snapshot is not before else []

    def id_of(self, item: PlacedObject) -> int:
        """The object that most Gaussians in its box belong to, 0 for none."""
        means, ids = self.mapper.snapshot.surfaces
        inside = (np.abs(means.numpy() - item.center) < item.size / 2 + MARGIN).all(1)
        return int(np.bincount(ids[inside]).argmax()) if inside.any() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--objects", type=int, default=14)
    parser.add_argument("--masks", default="L1", choices=sorted(LEVELS))
    parser.add_argument("--frames", type=int, default=50, help="of each half of the walk")
    parser.add_argument("--every", type=int, default=3, help="object after the table is carried away")
    parser.add_argument("--noise", nargs=2, type=float, default=(0.0, 0.0), metavar=("DEPTH", "POSES"))
    args = parser.parse_args()
    torch.set_num_threads(2)
    room = Room(args.seed, args.objects)
    # every third frame, as a mapper that keeps up with a third of them
    poses = handheld_path(6 * args.frames, RATE, args.seed, room.size)[::3]
    print("| carried away | size [cm] | id | taken out after [frames] | others that went |\n|---|---|---|---|---|")
    for item in room.objects[1 :: args.every]:
        walk = Walk(poses, args.masks, args.noise)
        for number in range(args.frames):
            walk.step(room, number)
        known, there = walk.id_of(item), {track.id for track in walk.mapper.snapshot.tracks}
        left, after, wrong = room.without(item.id), None, 0
        for number in range(args.frames, 2 * args.frames):
            for event in walk.step(left, number):
                if event.type == "retire" and event.id == known:
                    after = after or number - args.frames + 1
                wrong += event.type == "retire" and event.id in there - {known}
        size = " x ".join(f"{100 * side:.0f}" for side in item.size)
        print(f"| {item.name} | {size} | {known or 'never mapped'} | {after or 'not'} | {wrong} |")


if __name__ == "__main__":
    main()
