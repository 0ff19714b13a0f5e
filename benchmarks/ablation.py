"""What each part of the default method brings: PQ_scene on one scene, decoded with parts of `lift` left out.

    python benchmarks/ablation.py CAPTURE [--masks L0 L1 L2] [--scale 0.5] [--every 6]

The capture is mapped once, with the first masks. Then the keyframes' masks of each level are decoded into objects, and
every 6th frame is labelled and compared with the true instances. The capture must hold both (see docs/benchmarks.md).
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from common import labelled, quality, recorded
from numpy.typing import NDArray

from lift_ros.config import Config
from lift_ros.data import Capture, open_capture
from lift_ros.frame import Frame
from lift_ros.lifting import lift
from lift_ros.lifting.config import LiftConfig
from lift_ros.lifting.consensus import Merges
from lift_ros.lifting.evidence import MaskEvidence
from lift_ros.lifting.lift import Lift
from lift_ros.mapping.keyframes import all_weights
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import CaptureMasks, map_capture
from lift_ros.masks.base import Masks, Patches
from lift_ros.objects.config import ObjectsConfig
from lift_ros.objects.registry import ObjectRegistry
from lift_ros.options import with_values
from lift_ros.scene.neighbours import Neighbours


def without(name: str, stand_in: Callable) -> Callable[[], AbstractContextManager]:
    """The method with one of its functions replaced."""
    return lambda: patch.object(lift, name, stand_in)


def as_they_are(labels: NDArray, *_: object) -> NDArray:
    return labels


def unjoined(agreed: NDArray, *_: object) -> Merges:
    return Merges(np.zeros((0, 2), np.int64), np.zeros(0), len(agreed))


def unvoted(labels: NDArray, *_: object) -> tuple[NDArray, NDArray]:
    return labels, np.ones(len(labels), np.float32)


EVERYTHING = ObjectsConfig(min_views=1, min_confidence=0.0)
# name: (what of the method is replaced, its parameters, those of the registry)
VARIANTS: dict[str, tuple[Callable[[], AbstractContextManager], LiftConfig, ObjectsConfig]] = {
    "lift": (nullcontext, LiftConfig(), ObjectsConfig()),
    "pieces at one rate, 0.9": (lambda: patch.object(lift, "PIECE_RATES", (0.9,)), LiftConfig(), ObjectsConfig()),
    "strangers stay": (without("expel_strangers", as_they_are), LiftConfig(), ObjectsConfig()),
    "impure parts stay whole": (without("cut_impure", as_they_are), LiftConfig(), ObjectsConfig()),
    "parts are not joined": (without("merge_parts", unjoined), LiftConfig(), ObjectsConfig()),
    "no votes": (without("vote", unvoted), LiftConfig(), ObjectsConfig()),
    "all found is published": (nullcontext, LiftConfig(), EVERYTHING),
}


def evidence_of(mapper: Mapper, frames: dict[int, Frame], capture: Capture, name: str) -> list[MaskEvidence]:
    """What the recorded masks ``name`` of the keyframes, ``frames`` by the index of their view, say."""
    found = []
    for keyframe in mapper._keyframes:
        labels = recorded(capture, name, frames[keyframe.view.index])
        if labels is None:
            continue
        patches = Patches.of(Masks.from_label_image(labels).masks).resized(*keyframe.patches.index.shape)
        weights = all_weights(mapper.snapshot.scene, mapper._camera(keyframe))
        found.append(MaskEvidence.of(weights, patches.label_image()))
    return [evidence for evidence in found if len(evidence.area)]


def decoded(variant: str, evidence: list[MaskEvidence], near: Neighbours, means: torch.Tensor) -> NDArray[np.int64]:
    """(N,) object of each Gaussian."""
    replaced, parameters, publishing = VARIANTS[variant]
    method, registry = Lift(parameters), ObjectRegistry(publishing)
    new = np.full(len(means), -1)
    method.edit(torch.from_numpy(new), means)
    registry.edit(new)
    with replaced():
        labels = method.decode([], evidence, near).labels.numpy()
    registry.update(labels, near, evidence, np.arange(len(evidence), dtype=float))
    return registry.ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--masks", nargs="+", default=["L0", "L1", "L2"])
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--every", type=int, default=6)
    args = parser.parse_args()

    with open_capture(args.capture) as capture:
        width = round(args.scale * next(iter(capture.frames)).camera.width)
        config = with_values(Config(), {"mapping.image_width": width, "mapping.device": "cpu"})
        mapper = Mapper(config, CaptureMasks(capture, args.masks[0]), capture.world_frame)
        taken: dict[int, Frame] = {}  # by the index of the view; some may have given way to others

        def watch(frame: Frame) -> None:
            if mapper.stats.taken > len(taken):
                taken[mapper._keyframes[-1].view.index] = frame

        map_capture(capture, mapper, on_frame=watch)
        means = mapper.snapshot.scene.means
        near = Neighbours.of(means)
        evidence = {name: evidence_of(mapper, taken, capture, name) for name in args.masks}
        print(f"| {args.capture.name}, PQ_scene | " + " | ".join(args.masks) + " |")
        print("|---" * (1 + len(args.masks)) + "|")
        for variant in VARIANTS:
            row = [
                quality(mapper, labelled(capture, args.every), decoded(variant, evidence[name], near, means))
                for name in args.masks
            ]
            print(f"| {variant} | " + " | ".join(f"{value:.3f}" for value in row) + " |", flush=True)


if __name__ == "__main__":
    main()
