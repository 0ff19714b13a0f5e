"""How well scenes are reconstructed: views that were held out of training, against what was rendered of them.

    python benchmarks/scene_quality.py CAPTURE [CAPTURE ...] [--no-depth] [--steps N] [--set seed_spacing=2.0 ...]

Every 8th frame is held out. Its exposure and pose correction are interpolated from its neighbours in time; the last
column aligns its pose with the scene first, which tells errors of the given poses from errors of the scene.
``--color-focal`` is for captures whose images were taken by another camera than the depth and never registered: red
kitchen of 7-Scenes lists the focal length of its depth camera, 585, for both; that of the colour camera is 525.
"""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import argparse
import dataclasses
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import yaml

from lift_ros.data import Capture, open_capture
from lift_ros.evaluation.images import depth_l1, psnr, ssim
from lift_ros.frame import Frame
from lift_ros.options import with_values
from lift_ros.scene import GaussianScene, PhotometricTrainer, SceneConfig, TrainingView
from lift_ros.scene.alignment import alignment_step, rigid_exp
from lift_ros.scene.seeder import Seeder

HOLD_OUT = 8
DENSIFY_EVERY, DENSIFY_UNTIL = 200, 0.7
ANNEAL_FROM, ANNEAL_TO = 0.5, 0.1  # the learning rates fall to a tenth over the second half of the steps


class Scores(NamedTuple):
    psnr: float
    ssim: float
    depth_l1: float
    psnr_aligned: float


def load(capture: Capture, width: int, color_focal: float | None) -> list[Frame]:
    """All usable frames, ``width`` pixels wide, the depth resampled into a camera of focal length ``color_focal``."""
    frames = []
    for frame in capture.frames:
        if color_focal is not None:
            listed = frame.camera
            zoom = listed.fx / color_focal
            warp = np.array([[zoom, 0, (1 - zoom) * (listed.cx - 0.5)], [0, zoom, (1 - zoom) * (listed.cy - 0.5)]])
            flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
            frame = dataclasses.replace(
                frame,
                camera=dataclasses.replace(listed, fx=color_focal, fy=color_focal),
                depth=cv2.warpAffine(frame.depth, warp, (listed.width, listed.height), flags=flags),
            )
        frames.append(frame.resized(width, round(width * frame.camera.height / frame.camera.width)))
    return frames


def reconstruct(
    frames: dict[int, Frame], capture: Capture, config: SceneConfig, steps: int, seed: int
) -> PhotometricTrainer:
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
    return trainer


def score(trainer: PhotometricTrainer, index: int, frame: Frame, depth: np.ndarray | None) -> Scores:
    """Render the frame numbered ``index`` and compare; ``depth`` is the true or the sensor's."""
    truth = frame.image.astype(np.float32) / 255
    camera = trainer.poses.apply(index, frame.posed_camera())
    rendering = trainer.render(camera, index)
    aligned = rendering
    for _ in range(5):
        step = alignment_step(aligned, torch.from_numpy(truth), camera)
        if step is not None:
            viewmat = torch.from_numpy(rigid_exp(step) @ camera.viewmat.double().numpy()).float()
            camera = dataclasses.replace(camera, viewmat=viewmat)
            aligned = trainer.render(camera, index)
    image = rendering.image.numpy()
    error = float("nan") if depth is None else depth_l1(rendering.depth.numpy(), depth).l1
    return Scores(psnr(image, truth), ssim(image, truth), error, psnr(aligned.image.numpy(), truth))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--no-depth", action="store_true", help="train on colour alone; depth still serves to score")
    parser.add_argument("--color-focal", type=float, help="focal length of the colour camera, in its own pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="fields of SceneConfig")
    args = parser.parse_args()
    torch.set_num_threads(2)
    values = {name: yaml.safe_load(value) for name, _, value in (item.partition("=") for item in args.set)}
    config = with_values(SceneConfig(), values)
    print("capture             frames  wall s  cpu s  Gaussians   PSNR   SSIM  depth L1  PSNR aligned")
    for path in args.captures:
        with open_capture(path) as capture:
            frames = load(capture, args.width, args.color_focal)
            depths = [frame.depth for frame in frames]
            if args.no_depth:
                frames = [dataclasses.replace(frame, depth=None) for frame in frames]
            wall, cpu = time.monotonic(), time.process_time()
            training = {i: frame for i, frame in enumerate(frames) if i % HOLD_OUT}
            trainer = reconstruct(training, capture, config, args.steps, args.seed)
            wall, cpu = time.monotonic() - wall, time.process_time() - cpu
            held_out = range(0, len(frames), HOLD_OUT)
            rows = np.array([score(trainer, i, frames[i], depths[i]) for i in held_out])
            mean = Scores(*rows.mean(axis=0))
        print(
            f"{capture.name:<18} {len(frames):7d} {wall:7.0f} {cpu:6.0f} {len(trainer.scene):10d} {mean.psnr:6.2f} "
            f"{mean.ssim:6.3f} {mean.depth_l1:9.4f} {mean.psnr_aligned:13.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
