"""Steps of embedding training on cached blend weights, against rendering the embeddings anew at every step.

    python benchmarks/lifting.py CAPTURE [--methods unified_lift ...] [--masks L1] [--steps 400] [--device cpu]

The capture is mapped once. Then each method is trained twice, from one seed and with the same pixels: on the blend
weights that the keyframes keep, and, the reference, with embeddings rasterized (forward and backward, all channels) at
each step, as the published systems do. The two take turns step by step, so that a busy machine slows both. PQ_scene is
that of every 6th frame, labelled by what each of the two learned.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from ablation import quality
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.lifting.base import LiftingView
from lift_ros.lifting.evidence import MaskEvidence
from lift_ros.lifting.methods import METHODS, make_method
from lift_ros.lifting.sampling import sample_view
from lift_ros.mapping.keyframes import all_weights
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import CaptureMasks, map_capture
from lift_ros.objects.registry import ObjectRegistry
from lift_ros.options import with_values
from lift_ros.render import BlendWeights, rasterize
from lift_ros.scene.gaussians import GaussianScene
from lift_ros.scene.neighbours import Neighbours

TRAINED = [name for name in METHODS if name != "lift"]
MEASURED = 60  # steps that are timed, after a few that are not
WARM_UP = 5


class RenderedPixels(BlendWeights):
    """Stands where blend weights do, and rasterizes whatever is blended."""

    def __init__(self, weights: BlendWeights, scene: GaussianScene, camera: PosedCamera, pixels: torch.Tensor) -> None:
        """``pixels`` (P,) int64, row-major: those of the rows of ``weights``."""
        super().__init__(weights.crow, weights.col, weights.val, weights.gaussian_count)
        self._scene, self._camera, self._pixels = scene, camera, pixels

    def rows(self, index: torch.Tensor) -> RenderedPixels:
        """See ``BlendWeights.rows``."""
        return RenderedPixels(super().rows(index), self._scene, self._camera, self._pixels[index])

    def matmul(self, f: torch.Tensor) -> torch.Tensor:
        """See ``BlendWeights.matmul``."""
        scene = self._scene
        image = rasterize(scene.means, scene.quats, scene.scales, scene.opacities, f, self._camera).image
        return torch.nn.functional.embedding(self._pixels, image.reshape(-1, f.shape[1]))


class Student:
    """A method in training on views of one kind."""

    def __init__(
        self, name: str, config: Config, views: list[LiftingView], near: Neighbours, means: torch.Tensor
    ) -> None:
        self.method = make_method(with_values(config, {"lifting.method": name}).lifting, 0, means.device)
        self.method.edit(torch.full((len(means),), -1, device=means.device), means)
        self.views, self.near, self.device = views, near, means.device
        self.seconds: list[float] = []

    def step(self) -> None:
        begin = synchronized(self.device)
        self.method.step(self.views, self.near)
        self.seconds.append(synchronized(self.device) - begin)

    def ids(self, evidence: list[MaskEvidence], config: Config) -> NDArray[np.int64]:
        """(N,) object of each Gaussian."""
        registry = ObjectRegistry(config.objects)
        labels = self.method.decode(self.views, evidence, self.near).labels.cpu().numpy()
        registry.edit(np.full(len(labels), -1))
        registry.update(labels, self.near, evidence, np.arange(len(evidence), dtype=float))
        return registry.ids

    @property
    def milliseconds(self) -> float:
        return 1e3 * statistics.median(self.seconds[WARM_UP:])


def synchronized(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def views_of(mapper: Mapper) -> tuple[list[LiftingView], list[LiftingView]]:
    """The keyframes' pixels, on cached weights and rendered."""
    scene, config = mapper.snapshot.scene, mapper.config
    cached, rendered = [], []
    for number, keyframe in enumerate(mapper._keyframes):
        camera = mapper._camera(keyframe)
        weights = all_weights(scene, camera)
        pixels = torch.arange(camera.width * camera.height, device=scene.device)
        patches = keyframe.patches.resized(camera.height, camera.width)
        for found, each in ((cached, weights), (rendered, RenderedPixels(weights, scene, camera, pixels))):
            found.append(sample_view(patches, each, config.lifting.pixels, np.random.default_rng(number)))
    return cached, rendered


def kibibytes(views: list[LiftingView]) -> float:
    """Mean size of the weights that a keyframe keeps, with the transpose that gradients go through."""
    sizes = [2 * sum(t.numel() * t.element_size() for t in (w.crow, w.col, w.val)) for w in (v.weights for v in views)]
    return statistics.mean(sizes) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--methods", nargs="+", choices=TRAINED, default=TRAINED)
    parser.add_argument("--masks", default="L1")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(2)
    with open_capture(args.capture) as capture:
        config = with_values(Config(), {"mapping.device": args.device})
        mapper = Mapper(config, CaptureMasks(capture, args.masks), capture.world_frame)
        map_capture(capture, mapper)
        scene, near = mapper.snapshot.scene, mapper._near()
        evidence = [keyframe.evidence for keyframe in mapper._keyframes if len(keyframe.evidence.area)]
        cached, rendered = views_of(mapper)
        camera = mapper._keyframes[0].view.camera
        print(f"{len(scene):,} Gaussians, {camera.width} x {camera.height}, {kibibytes(cached):.0f} KiB a keyframe\n")
        print("| method | step [ms] | step, rendered [ms] | times faster | PQ | PQ, rendered |\n" + "|---" * 6 + "|")
        for name in args.methods:
            students = [Student(name, config, views, near, scene.means) for views in (cached, rendered)]
            for _ in range(args.steps):
                for student in students:
                    student.step()
            qualities = [quality(mapper, student.ids(evidence, config), capture, 6) for student in students]
            fast, slow = (student.milliseconds for student in students)
            cells = (f"{fast:.1f}", f"{slow:.1f}", f"{slow / fast:.1f}", *(f"{pq:.3f}" for pq in qualities))
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
