"""Writes the demo room as a nerfstudio-style capture and as an MCAP bag."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lift_ros.camera import Camera
from lift_ros.data.bag_writer import BagWriter
from lift_ros.data.image_codec import depth_in_millimetres
from lift_ros.data.nerfstudio import OPENGL_TO_OPTICAL
from lift_ros.demo.path import handheld_path
from lift_ros.demo.room import OBJECTS, Room, View
from lift_ros.errors import ConfigError, DatasetError
from lift_ros.evaluation.corruption import LEVELS, corrupt_masks
from lift_ros.frame import Frame

MASK_TOPIC = "/segmentation/masks"
TRUTH_TOPIC = "/ground_truth/instances"
FOCAL = 0.85  # of the image's width: a 61 degree lens
START = 1_700_000_000.0  # seconds since the epoch; fixed, so that the bag is the same each time


@dataclass(frozen=True)
class Demo:
    """What was written: ``capture`` (a directory with transforms.json), ``bag`` (a rosbag2 directory), ``room``."""

    capture: Path
    bag: Path
    room: Room


def generate(
    out: str | Path,
    *,
    frames: int = 60,
    size: tuple[int, int] = (640, 480),
    seed: int = 0,
    objects: int = OBJECTS,
    rate: float = 10.0,
    mask_level: str = "L1",
    progress: Callable[[int, int], None] | None = None,
    room: Room | None = None,
) -> Demo:
    """Render a room and write it to ``out/capture`` and ``out/bag``; the same seed gives the same files.

    The capture holds ``rgb``, ``depth`` (uint16 millimetres), ``inst`` (true ids, the same in all views) and
    ``masks_parts`` (what the objects are made of, the same in all views), and ``masks_L0`` to ``masks_L2`` (ids
    shuffled per view, see ``lift_ros.evaluation.corruption``). The bag holds colour,
    camera_info, depth, /tf, the masks of ``mask_level`` on ``/segmentation/masks`` and the truth on
    ``/ground_truth/instances``.

    Args:
        size: width and height of the images.
        rate: frames a second of the camera.
        progress: called with the number of frames done and in all.
        room: the room, where there is one already, of this ``seed`` and with so many ``objects``.

    Raises:
        ConfigError: see ``check_length``.
        DatasetError: ``out`` holds a demo already, or cannot be written.
        ValueError: a size of images that is none, or as of ``Room``.
        ImportError: as of ``Room``.
    """
    check_length(frames, rate)
    capture, bag = Path(out) / "capture", Path(out) / "bag"
    if capture.exists() or bag.exists():
        raise DatasetError(f"{out} holds a capture or a bag already; remove it or choose another directory")
    # before anything is written: these may fail
    room = room or Room(seed, objects)
    width, height = size
    camera = Camera(width, height, FOCAL * width, FOCAL * width, width / 2, height / 2)

    names = ("rgb", "depth", "inst", "masks_parts", *(f"masks_{level}" for level in LEVELS))
    try:
        for name in names:
            (capture / name).mkdir(parents=True)
    except OSError as error:
        raise DatasetError(f"cannot write to {out}: {error}") from None

    poses = handheld_path(frames, rate, seed, room.size)
    rng = np.random.default_rng(seed)
    entries = []
    # ray tracing and numpy leave the interpreter to other threads
    with BagWriter(bag) as writer, ThreadPoolExecutor(os.cpu_count()) as pool:
        views = pool.map(lambda pose: room.render(camera, pose), poses)
        for index, (pose, view) in enumerate(zip(poses, views, strict=True)):
            masks = {level: corrupt_masks(view.instances, faults, rng) for level, faults in LEVELS.items()}
            entries.append(_write_files(capture, f"{index:04d}", view, masks))
            entries[-1]["time"] = index / rate
            entries[-1]["transform_matrix"] = (pose @ OPENGL_TO_OPTICAL).tolist()
            frame = Frame(view.image, camera, pose, START + index / rate, view.depth)
            writer.write(frame, {MASK_TOPIC: masks[mask_level], TRUTH_TOPIC: view.instances})
            if progress:
                progress(index + 1, frames)
    listing = {
        "camera_model": "OPENCV", "w": width, "h": height, "fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx,
        "cy": camera.cy, "depth_unit_scale_factor": 0.001, "seed": seed,
        "objects": [
            {"id": o.id, "name": o.name, "center": o.center.tolist(), "size": o.size.tolist()} for o in room.objects
        ],
        "frames": entries,
    }  # fmt: skip
    (capture / "transforms.json").write_text(json.dumps(listing, indent=1))
    return Demo(capture, bag, room)


def check_length(frames: int, rate: float) -> None:
    """Raises ConfigError where so many frames at that rate make no recording."""
    if frames < 1:
        raise ConfigError(f"a recording needs one frame at least, not {frames}")
    if not 0 < rate < math.inf:
        raise ConfigError(f"the rate of the camera must be above 0 frames a second and finite, got {rate:g}")


def _write_files(capture: Path, stem: str, view: View, masks: dict[str, np.ndarray]) -> dict[str, object]:
    """Write one frame's images and return its entry in the listing, without pose and time."""
    images = {
        f"rgb/{stem}.jpg": cv2.cvtColor(view.image, cv2.COLOR_RGB2BGR),
        f"depth/{stem}.png": depth_in_millimetres(view.depth),
        f"inst/{stem}.png": view.instances,
        f"masks_parts/{stem}.png": view.parts,
        **{f"masks_{level}/{stem}.png": image for level, image in masks.items()},
    }
    for name, image in images.items():
        if not cv2.imwrite(str(capture / name), image):
            raise DatasetError(f"cannot write {capture / name}: is the disk full?")
    keys = ("file_path", "depth_file_path", "instance_file_path")
    return dict(zip(keys, images, strict=False))
