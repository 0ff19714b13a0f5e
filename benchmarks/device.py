"""What a device does a second: scene steps, embedding steps, label images; and what they take of its memory.

    python benchmarks/device.py [--device cuda] [--counts 100000 1000000] [--size 640 480]

A synthetic room, seen by a camera that turns. The masks are cells of space, so that embeddings have something to learn.
Embeddings are trained on the blend weights that a keyframe keeps, and, the reference, rendered at each step, as the
published systems do. On CUDA also what its parts bring: the losses of a scene step launched kernel by kernel instead of
as a graph, and gsplat's packed mode. Medians, on CUDA with the device synchronized around each measurement.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from common import now
from lifting import RenderedPixels
from rooms import camera, frame, house

from lift_ros.camera import PosedCamera
from lift_ros.config import Config
from lift_ros.lifting.base import LiftingView
from lift_ros.lifting.methods import METHODS, make_method
from lift_ros.lifting.sampling import sample_view
from lift_ros.mapping.keyframes import all_weights
from lift_ros.masks.base import Patches
from lift_ros.options import with_values
from lift_ros.scene.config import SceneConfig
from lift_ros.scene.losses import ViewLosses
from lift_ros.scene.neighbours import Neighbours
from lift_ros.scene.trainer import PhotometricTrainer, TrainingView

VIEWS = 8
TURN = 0.35  # rad between two of them
TRAINED = [name for name in METHODS if name != "lift"]
SECONDS, LEAST = 1.0, 5  # that each is measured for, and how often at least


def median_ms(run: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of a call; the first ones, which allocate and compile, do not count."""
    for _ in range(3):
        run()
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < LEAST or time.perf_counter() < end:
        begin = now(device)
        run()
        times.append((now(device) - begin)[0])
    return 1e3 * statistics.median(times)


def turned(posed: PosedCamera, angle: float) -> PosedCamera:
    """The camera, turned about its vertical axis."""
    viewmat = posed.viewmat.clone()
    c, s = np.cos(angle), np.sin(angle)
    turn = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float32)
    viewmat[:3] = turn @ viewmat[:3]
    return PosedCamera(posed.intrinsics, viewmat)


class Bench:
    """A room of ``count`` Gaussians on ``device``, seen in ``width`` x ``height`` pixels."""

    def __init__(self, count: int, width: int, height: int, device: torch.device) -> None:
        self.device, self.width = device, width
        self.snapshot = house(count, device=device)
        self.scene = self.snapshot.scene
        self.cameras = [turned(camera(width, height), k * TURN) for k in range(VIEWS)]
        self.cameras = [PosedCamera(c.intrinsics, c.viewmat.to(device)) for c in self.cameras]
        self.frames = [frame(self.snapshot, view) for view in self.cameras]

    def photometric(self) -> float:
        """Milliseconds of a step of scene training."""
        scene = self.scene.clone()
        trainer = PhotometricTrainer(scene, SceneConfig(max_gaussians=len(scene)))
        views = [TrainingView.from_frame(seen, k, device=str(self.device)) for k, seen in enumerate(self.frames)]
        number = iter(range(10**9))
        return median_ms(lambda: trainer.step(views[next(number) % VIEWS]), self.device)

    def photometric_by_kernels(self) -> float:
        """The same with the losses launched kernel by kernel, not captured as a CUDA graph."""
        with mock.patch.object(ViewLosses, "__call__", ViewLosses.launched):
            return self.photometric()

    def rasterization(self, packed: bool) -> float:
        """Milliseconds of gsplat's forward and backward pass of colours and depth."""
        import gsplat

        scene, view = self.scene, self.cameras[0]
        K = torch.as_tensor(view.intrinsics.K, dtype=torch.float32, device=self.device)[None]
        tensors = (*scene.splats, torch.rand_like(scene.means))
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]

        def run() -> None:
            image, alpha, _ = gsplat.rasterization(
                *leaves, view.viewmat[None], K, view.width, view.height, packed=packed, render_mode="RGB+ED"
            )
            torch.autograd.grad(image.sum() + alpha.sum(), leaves)

        return median_ms(run, self.device)

    def views(self) -> tuple[list[LiftingView], list[LiftingView]]:
        """What embeddings train on, cached and rendered."""
        cached, rendered = [], []
        for k, view in enumerate(self.cameras):
            patches = Patches.of(self._masks(view))
            weights = all_weights(self.scene, view)
            pixels = torch.arange(view.width * view.height, device=self.device)
            gaussians = torch.arange(len(self.scene), device=self.device)
            everything = RenderedPixels(weights, self.scene, view, pixels, gaussians)
            for found, each in ((cached, weights), (rendered, everything)):
                found.append(sample_view(patches, each, Config().lifting.pixels, np.random.default_rng(k)))
        return cached, rendered

    def _masks(self, view: PosedCamera) -> np.ndarray:
        labels = self.snapshot.label_image(view)[0]
        return np.stack([labels == k for k in np.unique(labels) if k])

    def lifting(self, name: str, views: list[LiftingView], near: Neighbours) -> float:
        """Milliseconds of a step of the method ``name``."""
        method = make_method(with_values(Config(), {"lifting.method": name}).lifting, 0, self.device)
        method.edit(torch.full((len(self.scene),), -1, device=self.device), self.scene.means)
        return median_ms(lambda: method.step(views, near), self.device)

    def figures(self) -> list[tuple[str, float]]:
        """(what, milliseconds)."""
        view, seen = self.cameras[0], self.frames[0]
        found = [
            ("scene step", self.photometric()),
            ("blend weights of all pixels", median_ms(lambda: all_weights(self.scene, view), self.device)),
            ("label image, of the map", median_ms(lambda: self.snapshot.label_image(view), self.device)),
            ("label image, with borders", median_ms(lambda: self.snapshot.labels_of(seen, self.width), self.device)),
        ]
        if self.device.type == "cuda":
            found += [
                ("scene step, losses kernel by kernel", self.photometric_by_kernels()),
                ("gsplat, forward and backward", self.rasterization(packed=False)),
                ("gsplat, packed", self.rasterization(packed=True)),
            ]
        near = Neighbours.of(self.scene.means)
        cached, rendered = self.views()
        for name in TRAINED:
            found.append((f"embedding step, {name}", self.lifting(name, cached, near)))
            found.append((f"... rendered, {name}", self.lifting(name, rendered, near)))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--counts", type=int, nargs="+", default=(100_000, 1_000_000))
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    args = parser.parse_args()
    device = torch.device(args.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    print(f"{name}, torch {torch.__version__}, {args.size[0]} x {args.size[1]}\n")
    print("| Gaussians | what | ms | a second |\n" + "|---" * 4 + "|")
    for count in args.counts:
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        for what, ms in Bench(count, *args.size, device).figures():
            print(f"| {count:,} | {what} | {ms:.2f} | {1e3 / ms:.0f} |", flush=True)
        if device.type == "cuda":
            print(f"| {count:,} | most memory allocated, {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB | | |")


if __name__ == "__main__":
    main()
