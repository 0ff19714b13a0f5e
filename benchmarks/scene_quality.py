"""How well scenes are reconstructed: views that were held out of training, against what was rendered of them.

    python benchmarks/scene_quality.py CAPTURE [CAPTURE ...] [--no-depth] [--steps N] [--set seed_spacing=2.0 ...]
    python benchmarks/scene_quality.py CAPTURE [CAPTURE ...] --mapper [--no-depth] [--set scene.seed_spacing=2.0 ...]

Every 8th frame is held out. Its exposure and pose correction are interpolated from its neighbours in time; the last
column aligns its pose with the scene first, which tells errors of the given poses from errors of the scene.
``--mapper`` makes the scene as ``lift map`` does, frame by frame, on keyframes alone; it finds no objects.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
import dataclasses
import time
from bisect import bisect
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from common import take

from lift_ros.camera import PosedCamera
from lift_ros.config import Config
from lift_ros.data import Capture, open_capture
from lift_ros.data.color_focal import ColorFocalCapture
from lift_ros.evaluation.images import depth_l1, psnr, ssim
from lift_ros.frame import Frame
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import final_steps
from lift_ros.masks.base import Masks, Prompts
from lift_ros.options import assignments, with_values
from lift_ros.render import Rendering
from lift_ros.scene.alignment import align
from lift_ros.scene.config import SceneConfig
from lift_ros.scene.gaussians import GaussianScene
from lift_ros.scene.seeder import Seeder
from lift_ros.scene.trainer import PhotometricTrainer, TrainingView

HOLD_OUT = 8
DENSIFY_EVERY, DENSIFY_UNTIL = 200, 0.7
ANNEAL_FROM, ANNEAL_TO = 0.5, 0.1  # the learning rates fall to a tenth over the second half of the steps


class Unmasked:
    """Segmenter: no masks."""

    name = "none"
    promptable = False

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        return Masks.empty(*frame.image.shape[:2])


class Reconstruction(NamedTuple):
    """``exposure`` is gain and bias of the frame of an index; ``locate`` its camera, pose corrected."""

    trainer: PhotometricTrainer
    exposure: Callable[[int], tuple[torch.Tensor, torch.Tensor]]
    locate: Callable[[int, Frame], PosedCamera]


class Scores(NamedTuple):
    psnr: float
    ssim: float
    depth_l1: float
    psnr_aligned: float


def reconstruct(
    frames: dict[int, Frame], capture: Capture, config: SceneConfig, steps: int, seed: int
) -> Reconstruction:
    """Seed from all ``frames`` (index: frame), then train on them in random order."""
    trainer = PhotometricTrainer(GaussianScene.empty(config.sh_degree), config)
    scene, seeder = trainer.scene, Seeder(config, seed)
    if capture.sparse_cloud is not None and not capture.has_depth:
        trainer.edit(scene.append(seeder.add_cloud(capture.sparse_cloud.points, capture.sparse_cloud.colors)))
    known = {index: seeder.add(frame) for index, frame in frames.items()}
    views = []
    for index, frame in frames.items():
        rendering = trainer.render(frame.posed_camera())
        trainer.edit(scene.append(seeder.seeds(known[index], rendering, len(scene))))
        stereo = seeder.depth(known[index])
        views.append(TrainingView.from_frame(frame, index, None if stereo is None else stereo.trusted_depth))
    rng = np.random.default_rng(seed)
    order: list[int] = []
    for step in range(steps):
        order = order or rng.permutation(len(views)).tolist()
        progress = step / steps
        rate = ANNEAL_TO ** (max(0.0, progress - ANNEAL_FROM) / (1 - ANNEAL_FROM))
        trainer.step(views[order.pop()], rate)
        if step % DENSIFY_EVERY == DENSIFY_EVERY - 1 and progress < DENSIFY_UNTIL:
            trainer.densify()
    return Reconstruction(
        trainer,
        lambda index: trainer.exposures[index],
        lambda index, frame: trainer.poses.apply(index, frame.posed_camera()),
    )


def map_frames(frames: dict[int, Frame], capture: Capture, config: Config) -> Reconstruction:
    """What ``lift map`` makes of ``frames`` (index: frame) before it looks for objects."""
    mapper = Mapper(config, Unmasked())
    if capture.sparse_cloud is not None:
        mapper.add_sparse_cloud(capture.sparse_cloud.points, capture.sparse_cloud.colors)
    keyframes = []
    for index, frame in frames.items():
        if take(mapper, frame):
            keyframes.append(index)
    mapper.finish(final_steps(all(frame.depth is not None for frame in frames.values())) * len(keyframes), 0)
    mapper.update_objects()

    def exposure(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        after = bisect(keyframes, index)
        near = [mapper._trainer.exposures[k] for k in (after - 1, after) if 0 <= k < len(keyframes)]
        gain, bias = (torch.stack(values) for values in zip(*near, strict=True))
        return gain.log().mean(0).exp(), bias.mean(0)

    return Reconstruction(mapper._trainer, exposure, lambda index, frame: mapper.snapshot.locate(frame))


def score(made: Reconstruction, index: int, frame: Frame, depth: np.ndarray | None) -> Scores:
    """Render the frame numbered ``index`` and compare; ``depth`` is the true or the sensor's."""
    trainer, camera = made.trainer, made.locate(index, frame)
    gain, bias = made.exposure(index)
    truth = torch.from_numpy(frame.image).float() / 255

    def exposed(rendering: Rendering) -> np.ndarray:
        return (rendering.image * gain + bias * rendering.alpha[..., None]).clamp(0, 1).numpy()

    rendering, aligned = (trainer.render(seen) for seen in (camera, align(trainer.render, truth, camera, 5)))
    image, truth = exposed(rendering), truth.numpy()
    error = float("nan") if depth is None else depth_l1(rendering.depth.numpy(), depth)
    return Scores(psnr(image, truth), ssim(image, truth), error, psnr(exposed(aligned), truth))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--no-depth", action="store_true", help="train on colour alone; depth still serves to score")
    parser.add_argument("--color-focal", type=float, help="as of lift map")
    parser.add_argument("--mapper", action="store_true", help="make the scene as lift map does; --steps has no meaning")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="fields of SceneConfig; of Config with --mapper"
    )
    args = parser.parse_args()
    torch.set_num_threads(2)
    values = assignments("--set", args.set)
    if args.mapper:
        given = {"mapping.image_width": args.width, "mapping.seed": args.seed, "mapping.device": "cpu"}
        config = with_values(Config(), given | values)
    else:
        config = with_values(SceneConfig(), values)
    print("capture             frames  wall s  cpu s  Gaussians   PSNR   SSIM  depth L1  PSNR aligned")
    for path in args.captures:
        with open_capture(path) as capture:
            if args.color_focal is not None:
                capture = ColorFocalCapture(capture, args.color_focal)
            frames = [
                frame.resized(args.width, round(args.width * frame.camera.height / frame.camera.width))
                for frame in capture.frames
            ]
            depths = [frame.depth for frame in frames]
            if args.no_depth:
                frames = [dataclasses.replace(frame, depth=None) for frame in frames]
            wall, cpu = time.monotonic(), time.process_time()
            training = {i: frame for i, frame in enumerate(frames) if i % HOLD_OUT}
            if args.mapper:
                made = map_frames(training, capture, config)
            else:
                made = reconstruct(training, capture, config, args.steps, args.seed)
            wall, cpu = time.monotonic() - wall, time.process_time() - cpu
            held_out = range(0, len(frames), HOLD_OUT)
            rows = np.array([score(made, i, frames[i], depths[i]) for i in held_out])
            mean = Scores(*rows.mean(axis=0))
        print(
            f"{capture.name:<18} {len(frames):7d} {wall:7.0f} {cpu:6.0f} {len(made.trainer.scene):10d} "
            f"{mean.psnr:6.2f} {mean.ssim:6.3f} {mean.depth_l1:9.4f} {mean.psnr_aligned:13.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
