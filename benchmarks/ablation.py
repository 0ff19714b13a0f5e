"""What each part of the default method brings: PQ_scene on one scene, decoded with parts of `lift` left out.

    python benchmarks/ablation.py CAPTURE [--masks L0 L1 L2] [--scale 0.5] [--every 6]

The capture is mapped once, with the first masks. Then the keyframes' masks of each level are decoded into objects, and
every 6th frame is labelled and compared with the true instances: decoded all at once; and as they come in, as often as
`lift map` does it, where what was known before makes up for some of what is left out. The third figure is the share of
the Gaussians that an object had at one of these times that the same object has in the end. The capture must hold masks
and instances (see docs/benchmarks.md).
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from common import labelled, quality, recorded
from numpy.typing import NDArray

from lift_ros.config import Config
from lift_ros.data import Capture, open_capture
from lift_ros.evidence.linkage import Merges
from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.frame import Frame
from lift_ros.lifting import lift
from lift_ros.lifting.config import LiftConfig
from lift_ros.lifting.lift import Lift
from lift_ros.mapping.keyframes import all_weights
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import UPDATE_EVERY, map_capture
from lift_ros.masks.base import Masks, Patches
from lift_ros.masks.recorded import CaptureMasks
from lift_ros.objects import registry
from lift_ros.objects.config import ObjectsConfig
from lift_ros.objects.registry import ObjectRegistry
from lift_ros.options import with_values
from lift_ros.scene.neighbours import Neighbours


@dataclass(frozen=True)
class Variant:
    """What is left out: functions of the method or the registry, or what their parameters stand for."""

    replaced: Callable[[], AbstractContextManager] = nullcontext
    method: LiftConfig = LiftConfig()
    objects: ObjectsConfig = ObjectsConfig()
    finer: bool = True  # masks than views
    borders: bool = True  # that follow the frame


def without(name: str, stand_in: Callable, owner: object = lift) -> Variant:
    return Variant(lambda: patch.object(owner, name, stand_in))


def as_they_are(labels: NDArray, *_: object) -> NDArray:
    return labels


def unjoined(agreed: NDArray, *_: object) -> Merges:
    return Merges(np.zeros((0, 2), np.int64), np.zeros(0), len(agreed))


def unvoted(labels: NDArray, *_: object) -> tuple[NDArray, NDArray]:
    return labels, np.ones(len(labels), np.float32)


def apart(parts: NDArray, *_: object) -> tuple[NDArray, int]:
    return parts, int(parts.max(initial=-1)) + 1


VARIANTS = {
    "lift": Variant(),
    "masks no finer than the views": Variant(finer=False),
    "pieces at one rate, 0.9": Variant(lambda: patch.object(lift, "PIECE_RATES", (0.9,))),
    "strangers stay": without("expel_strangers", as_they_are),
    "impure parts stay whole": without("cut_impure", as_they_are),
    "known objects cut nothing": without("cut_known", as_they_are),
    "parts are not joined": without("merge_parts", unjoined),
    "no votes": without("vote", unvoted),
    "nothing is remembered of the last time": Variant(method=LiftConfig(hysteresis=0.0)),
    "what does not touch is not one object": without("_held_together", apart, registry),
    "all found is published": Variant(objects=ObjectsConfig(min_views=1, min_confidence=0.0)),
    "borders do not follow the frame": Variant(borders=False),
}


def evidence_of(
    mapper: Mapper, frames: dict[int, Frame], capture: Capture, name: str, finer: bool
) -> list[MaskEvidence]:
    """What the recorded masks ``name`` of the keyframes, ``frames`` by the index of their view, say; ``finer`` than the
    views, or as fine.
    """
    found = []
    for keyframe in mapper._keyframes:
        labels = recorded(capture, name, frames[keyframe.view.index])
        if labels is None:
            continue
        size = keyframe.patches.index.shape if finer else (keyframe.view.camera.height, keyframe.view.camera.width)
        patches = Patches.of(Masks.from_label_image(labels).masks).resized(*size)
        weights = all_weights(mapper.snapshot.scene, mapper._camera(keyframe))
        found.append(MaskEvidence.of(weights, patches.label_image()))
    return [evidence for evidence in found if len(evidence.area)]


def decoded(
    variant: Variant, evidence: list[MaskEvidence], near: Neighbours, means: torch.Tensor, every: int
) -> list[NDArray[np.int64]]:
    """(N,) object of each Gaussian whenever so many keyframes have come in, and in the end."""
    method, objects = Lift(variant.method), ObjectRegistry(variant.objects)
    new = np.full(len(means), -1)
    method.edit(torch.from_numpy(new), means)
    objects.edit(new)
    found = []
    with variant.replaced():
        for count in sorted({*range(every, len(evidence), every), len(evidence)}):
            labels = method.decode([], evidence[:count], near).labels.numpy()
            objects.update(labels, near, evidence[:count], np.arange(count, dtype=float))
            found.append(objects.ids)
    return found


def kept(found: list[NDArray[np.int64]]) -> float:
    """The share of the Gaussians that an object had at one time that the same has in the end; NaN if there was no time
    before that.
    """
    before = np.stack(found)[:-1]
    return float((before == found[-1])[before > 0].mean()) if before.any() else float("nan")


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
        print(f"| {args.capture.name}: PQ_scene at once, as they come in, kept | " + " | ".join(args.masks) + " |")
        print("|---" * (1 + len(args.masks)) + "|")
        evidence = {
            (name, finer): evidence_of(mapper, taken, capture, name, finer)
            for name in args.masks
            for finer in (True, False)
        }
        for title, variant in VARIANTS.items():
            row = []
            for name in args.masks:
                known = evidence[name, variant.finer]
                (once,) = decoded(variant, known, near, means, len(known))
                found = decoded(variant, known, near, means, UPDATE_EVERY)
                qualities = (
                    quality(mapper, labelled(capture, args.every), ids, variant.borders) for ids in (once, found[-1])
                )
                figures = *qualities, kept(found)
                row.append(", ".join(f"{figure:.3f}" for figure in figures))
            print(f"| {title} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
