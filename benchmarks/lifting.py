"""Steps of embedding training on cached blend weights, against rendering the embeddings anew at every step.

    python benchmarks/lifting.py CAPTURE [--methods unified_lift ...] [--masks L1] [--steps 800] [--device cpu]
                                         [--set scene.seed_spacing=2.1 ...]

The capture is mapped once. Then each method is trained twice, from one seed, with the same pixels and the same losses:
on the blend weights that the keyframes keep, and, the reference, with embeddings rasterized (forward and backward, all
channels, the whole image) at each step, as the published systems do. The two take turns, 25 steps each, so that a busy
machine slows both. PQ_scene is that of every 6th frame, labelled by what each of the two learned; they differ by the
small weights that keyframes do not keep. ``--rendered`` gives the reference fewer steps, since it is that much slower;
its PQ is then left out.

Times are medians by the clock, and of the processor, whose time counts all threads and depends less on what else runs;
beside them the mean of the processor over all steps, with those that see a batch for the first time and prepare it.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import labelled, now, quality
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.lifting.base import LiftingView
from lift_ros.lifting.methods import METHODS, make_method
from lift_ros.lifting.sampling import sample_view
from lift_ros.mapping.keyframes import all_weights
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import map_capture
from lift_ros.masks.recorded import CaptureMasks
from lift_ros.objects.registry import ObjectRegistry
from lift_ros.options import assignments, with_values
from lift_ros.render import BlendWeights, rasterize
from lift_ros.scene.gaussians import GaussianScene
from lift_ros.scene.neighbours import Neighbours

TURN = 25  # steps of one kind after each other, as training has it: a rendered step leaves no cache warm
EVERY = 6  # frame that is compared with the truth
TRAINED = [name for name in METHODS if name != "lift"]


class RenderedPixels(BlendWeights):
    """Stands where blend weights do, and rasterizes whatever is blended."""

    def __init__(
        self,
        weights: BlendWeights,
        scene: GaussianScene,
        camera: PosedCamera,
        pixels: torch.Tensor,
        gaussians: torch.Tensor,
    ) -> None:
        """``pixels`` (P,) int64, row-major, and ``gaussians`` (G,) int64: the rows and columns of ``weights``."""
        super().__init__(weights.crow, weights.col, weights.val, weights.gaussian_count)
        self._scene, self._camera, self._pixels, self._gaussians = scene, camera, pixels, gaussians

    def _of(self, weights: BlendWeights, pixels: torch.Tensor) -> RenderedPixels:
        return RenderedPixels(weights, self._scene, self._camera, pixels, self._gaussians)

    def rows(self, index: torch.Tensor) -> RenderedPixels:
        """See ``BlendWeights.rows``."""
        return self._of(super().rows(index), self._pixels[index])

    def between(self, start: int, stop: int) -> RenderedPixels:
        """See ``BlendWeights.between``."""
        return self._of(super().between(start, stop), self._pixels[start:stop])

    def above(self, weight: float) -> RenderedPixels:
        """See ``BlendWeights.above``. What is smaller is rendered too, but where nothing greater shows a Gaussian."""
        return self._of(super().above(weight), self._pixels)

    def compact(self) -> tuple[torch.Tensor, RenderedPixels]:
        """See ``BlendWeights.compact``."""
        shown, weights = super().compact()
        return shown, RenderedPixels(weights, self._scene, self._camera, self._pixels, self._gaussians[shown])

    def matmul(self, f: torch.Tensor) -> torch.Tensor:
        """See ``BlendWeights.matmul``."""
        scene = self._scene
        everywhere = f.new_zeros(len(scene), f.shape[1]).index_copy(0, self._gaussians, f)
        image = rasterize(scene.splats, everywhere, self._camera).image
        return torch.nn.functional.embedding(self._pixels, image.reshape(-1, f.shape[1]))


class Student:
    """A method in training on views of one kind."""

    def __init__(
        self, name: str, config: Config, views: list[LiftingView], near: Neighbours, means: torch.Tensor
    ) -> None:
        self.method = make_method(with_values(config, {"lifting.method": name}).lifting, 0, means.device)
        self.method.edit(torch.full((len(means),), -1, device=means.device), means)
        self.views, self.near, self.device = views, near, means.device
        self.seconds: list[NDArray[np.float64]] = []

    def step(self) -> None:
        begin = now(self.device)
        self.method.step(self.views, self.near)
        self.seconds.append(now(self.device) - begin)

    def ids(self, evidence: list[MaskEvidence], config: Config) -> NDArray[np.int64]:
        """(N,) object of each Gaussian."""
        registry = ObjectRegistry(config.objects)
        labels = self.method.decode(self.views, evidence, self.near).labels.cpu().numpy()
        registry.edit(np.full(len(labels), -1))
        registry.update(labels, self.near, evidence, np.arange(len(evidence), dtype=float))
        return registry.ids

    @property
    def milliseconds(self) -> NDArray[np.float64]:
        """(2,) of the median step, by the clock and of the processor."""
        return 1e3 * np.median(self.seconds[len(self.seconds) // 2 :], axis=0)  # by then most batches were prepared


def views_of(mapper: Mapper) -> tuple[list[LiftingView], list[LiftingView]]:
    """The keyframes' pixels, on cached weights and rendered."""
    scene, config = mapper.snapshot.scene, mapper.config
    cached, rendered = [], []
    for number, keyframe in enumerate(mapper._keyframes):
        camera = mapper._camera(keyframe)
        weights = all_weights(scene, camera)
        pixels = torch.arange(camera.width * camera.height, device=scene.device)
        patches = keyframe.patches.resized(camera.height, camera.width)
        everything = RenderedPixels(weights, scene, camera, pixels, torch.arange(len(scene), device=scene.device))
        for found, each in ((cached, weights), (rendered, everything)):
            found.append(sample_view(patches, each, config.lifting.pixels, np.random.default_rng(number)))
    return cached, rendered


def tensors(held: object) -> Iterator[torch.Tensor]:
    """All that hang on an object."""
    if isinstance(held, torch.Tensor):
        yield held
    elif isinstance(held, dict | list | tuple):
        for each in held.values() if isinstance(held, dict) else held:
            yield from tensors(each)
    elif hasattr(held, "__dict__"):
        yield from tensors(vars(held))


def kibibytes(views: list[LiftingView]) -> float:
    """Mean size of what a keyframe keeps once all its batches have been trained on."""
    sizes = []
    for view in views:
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors(view)}
        sizes.append(sum(storage.nbytes() for storage in storages.values()))
    return statistics.mean(sizes) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--methods", nargs="+", choices=TRAINED, default=TRAINED)
    parser.add_argument("--masks", default="L1")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--rendered", type=int, help="steps of the reference; as many by default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters, as of lift map")
    args = parser.parse_args()
    args.rendered = args.steps if args.rendered is None else args.rendered
    torch.set_num_threads(2)
    with open_capture(args.capture) as capture:
        config = with_values(Config(), {"mapping.device": args.device} | assignments("--set", args.set))
        mapper = Mapper(config, CaptureMasks(capture, args.masks), capture.world_frame)
        map_capture(capture, mapper)
        scene, near = mapper.snapshot.scene, mapper._near()
        evidence = [keyframe.evidence for keyframe in mapper._keyframes if len(keyframe.evidence.area)]
        cached, rendered = views_of(mapper)
        camera = mapper._keyframes[0].view.camera
        print(f"{len(scene):,} Gaussians, {camera.width} x {camera.height}, {len(cached)} keyframes\n")
        titles = (
            *(
                "method",
                "step [ms], processor",
                "mean, processor",
                "rendered [ms], processor",
                "times faster, processor",
            ),
            *("PQ", "PQ, rendered", "memory a keyframe [KiB]"),
        )
        print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
        for name in args.methods:
            cached, rendered = ([replace(view) for view in views] for views in (cached, rendered))  # without batches
            students = [Student(name, config, views, near, scene.means) for views in (cached, rendered)]
            for done in range(0, args.steps, TURN):
                for student in students[: 2 if done < args.rendered else 1]:
                    for _ in range(TURN):
                        student.step()
            found = (student.ids(evidence, config) for student in students)
            qualities = [f"{quality(mapper, labelled(capture, EVERY), ids):.3f}" for ids in found]
            if args.rendered != args.steps:
                qualities[1] = "-"
            fast, slow = (student.milliseconds for student in students)
            times = [f"{clock:.2f}, {processor:.2f}" for clock, processor in (fast, slow)]
            times.insert(1, f"{1e3 * np.mean(students[0].seconds, axis=0)[1]:.2f}")
            ratio = "{:.0f}, {:.0f}".format(*(slow / fast))
            cells = (*times, ratio, *qualities, f"{kibibytes(cached):.0f}")
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
