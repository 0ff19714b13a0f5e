"""What each part of the default method brings: PQ_scene on one scene, decoded with parts of `lift` left out.

    python benchmarks/ablation.py CAPTURE [--masks L0 L1 L2] [--scale 0.5] [--every 6]

The capture is mapped once, with the first masks. Then the keyframes' masks of each level are decoded into objects, and
every 6th frame is labelled and compared with the true instances. The capture must hold both (see docs/benchmarks.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.config import Config
from lift_ros.data import Capture, open_capture
from lift_ros.evaluation.metrics import Contingency, panoptic_quality
from lift_ros.frame import Frame
from lift_ros.lifting import lift
from lift_ros.lifting.config import LiftConfig
from lift_ros.lifting.evidence import MaskEvidence
from lift_ros.lifting.lift import Lift
from lift_ros.mapping.keyframes import all_weights
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import CaptureMasks, map_capture
from lift_ros.masks.base import Patches
from lift_ros.objects.config import ObjectsConfig
from lift_ros.objects.registry import ObjectRegistry
from lift_ros.options import with_values
from lift_ros.scene.neighbours import Neighbours

TRUTH = "instances"


def without(name: str, stand_in: Callable) -> Callable[[], AbstractContextManager]:
    """The method with one of its functions replaced."""
    return lambda: patch.object(lift, name, stand_in)


def as_they_are(labels: NDArray, *_: object) -> NDArray:
    return labels


def unjoined(agreed: NDArray, *_: object) -> NDArray:
    return np.arange(len(agreed))


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


def evidence_of(mapper: Mapper, frames: list[Frame], capture: Capture, name: str) -> list[MaskEvidence]:
    """What the recorded masks ``name`` of the keyframes say about the Gaussians."""
    found = []
    for keyframe, frame in zip(mapper._keyframes, frames, strict=True):
        patches = Patches.of(CaptureMasks(capture, name).segment(frame).masks).resized(*keyframe.patches.index.shape)
        weights = all_weights(mapper.snapshot.scene, mapper._camera(keyframe))
        found.append(MaskEvidence.of(weights, patches.label_image()))
    return [evidence for evidence in found if len(evidence.area)]


def quality(mapper: Mapper, ids: NDArray[np.int64], capture: Capture, every: int) -> float:
    """PQ_scene (things) of the ids of the Gaussians."""
    snapshot = replace(mapper.snapshot, ids=torch.from_numpy(ids))
    table = Contingency()
    for number, frame in enumerate(capture.frames):
        if number % every == 0:
            labels = snapshot.labels_of(frame, mapper.config.mapping.image_width)[0]
            table.add(labels, capture.recorded_labels(TRUTH, frame))
    return panoptic_quality(table).pq


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
        keyframes: list[Frame] = []

        def watch(frame: Frame) -> None:
            if mapper.stats.keyframes > len(keyframes):
                keyframes.append(frame)

        map_capture(capture, mapper, on_frame=watch)
        means = mapper.snapshot.scene.means
        near = Neighbours.of(means)
        evidence = {name: evidence_of(mapper, keyframes, capture, name) for name in args.masks}
        print(f"| {args.capture.name}, PQ_scene | " + " | ".join(args.masks) + " |")
        print("|---" * (1 + len(args.masks)) + "|")
        for variant in VARIANTS:
            row = [
                quality(mapper, decoded(variant, evidence[name], near, means), capture, args.every)
                for name in args.masks
            ]
            print(f"| {variant} | " + " | ".join(f"{value:.3f}" for value in row) + " |", flush=True)


if __name__ == "__main__":
    main()
