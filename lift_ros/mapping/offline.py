"""A whole capture through the mapper, and what is written of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lift_ros.data.capture import Capture
from lift_ros.data.image_codec import UNLABELLED
from lift_ros.errors import DatasetError, FrameRejected
from lift_ros.frame import Frame
from lift_ros.mapping.map_files import replace_directory
from lift_ros.mapping.mapper import Mapper
from lift_ros.visualization import colorize, contact_sheet, overlay, write_label_png, write_png

PHOTOMETRIC_STEPS = 5  # at the end, for each keyframe
COLOR_STEPS = 20  # the same without depth, where training has to find the surfaces
LIFTING_STEPS = 1600  # at the end, in all
UPDATE_EVERY = 5  # keyframes between two updates of the objects, where no prompts rest on them
SHEET_FRAMES = 6
ALIGN_STEPS = 3  # of a frame with the finished map, before it is labelled


def map_capture(
    capture: Capture,
    mapper: Mapper,
    photometric_steps: int | None = None,
    lifting_steps: int = LIFTING_STEPS,
    on_frame: Callable[[Frame], None] | None = None,
    on_last: Callable[[], None] | None = None,
) -> dict[str, int]:
    """Map all frames of a capture, then train to the end; progress goes to stderr.

    Args:
        photometric_steps: scene training steps at the end; None: as ``final_steps`` has it.
        lifting_steps: embedding training steps at the end.
        on_frame: called after each frame that was taken in, for whoever watches the map grow.
        on_last: called once all are, before the training at the end: the map as a robot has it.

    Returns:
        how many frames were not used, by reason.

    Raises:
        DatasetError: not one frame could be used.
    """
    skipped: dict[str, int] = {}
    if capture.sparse_cloud is not None:
        mapper.add_sparse_cloud(capture.sparse_cloud.points, capture.sparse_cloud.colors)
    with tqdm(capture.frames, "mapping", file=sys.stderr, unit="frame") as frames:
        for frame in frames:
            try:
                if mapper.process(frame):
                    while mapper.step():
                        pass
                    if mapper.segmenter.promptable or mapper.stats.taken % UPDATE_EVERY == 0:
                        mapper.update_objects()
                    frames.set_postfix(
                        keyframes=mapper.stats.keyframes,
                        gaussians=mapper.stats.gaussians,
                        objects=len(mapper.snapshot.tracks),
                    )
                if on_frame:
                    on_frame(frame)
            except FrameRejected as error:
                skipped[error.reason] = skipped.get(error.reason, 0) + 1
    if not mapper.stats.keyframes:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in skipped.items())
        raise DatasetError(f"no frame of {capture.name} could be mapped ({reasons})")
    if on_last:
        mapper.update_objects()
        on_last()
    if photometric_steps is None:
        photometric_steps = final_steps(capture.has_depth) * mapper.stats.keyframes
    with tqdm(desc="training", file=sys.stderr, unit="step") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total  # less than what was asked for where the lifting method trains nothing
            bar.update(done - bar.n)

        mapper.finish(photometric_steps, lifting_steps, progress)
    mapper.update_objects()
    for reason, count in capture.skipped.items():
        skipped[reason] = skipped.get(reason, 0) + count
    return skipped


def final_steps(depth: bool) -> int:
    """Scene training steps at the end for each keyframe, of captures with and without depth."""
    return PHOTOMETRIC_STEPS if depth else COLOR_STEPS


def write_results(capture: Capture, mapper: Mapper, out: Path) -> None:
    """Write the map directory ``out``, with ``labels/<frame>.png`` for every frame and ``contact_sheet.png`` in it.

    Raises:
        MapFileError: it could not be written; what was there before is untouched.
    """
    with replace_directory(out) as directory:
        mapper.save(directory)
        (directory / "labels").mkdir()
        count = len(capture.usable)
        shown = set(np.linspace(0, count - 1, min(SHEET_FRAMES, count)).round().astype(int).tolist())
        tiles = []
        for number, frame in enumerate(tqdm(capture.frames, "labels", file=sys.stderr, unit="frame")):
            labels = frame_labels(mapper, frame)
            labels[labels >= UNLABELLED] = 0  # what 16 bits cannot name, or have another meaning for
            write_label_png(directory / "labels" / f"{frame.name}.png", labels)
            if number in shown:
                tiles.append(_column(mapper, frame, labels))
        write_png(directory / "contact_sheet.png", contact_sheet([list(row) for row in zip(*tiles, strict=True)]))


def frame_labels(mapper: Mapper, frame: Frame) -> NDArray[np.uint32]:
    """(H, W) ids of the objects in a frame, 0 where no object has its share of the pixel."""
    return mapper.snapshot.labels_of(frame, mapper.config.mapping.image_width, ALIGN_STEPS)[0]


def _column(mapper: Mapper, frame: Frame, labels: NDArray) -> list[tuple[str, NDArray[np.uint8]]]:
    try:
        masks = colorize(mapper.segmenter.segment(frame).label_image())
        masks = cv2.resize(masks, (frame.camera.width, frame.camera.height), interpolation=cv2.INTER_NEAREST)
    except FrameRejected:
        masks = np.zeros_like(frame.image)
    rendering = mapper.snapshot.render(mapper.snapshot.locate(frame, ALIGN_STEPS))
    rendered = (255 * rendering.image).round().byte().cpu().numpy()
    return [
        (frame.name, frame.image),
        (f"masks of this view ({mapper.segmenter.name})", masks),
        ("objects", overlay(frame.image, labels)),
        ("rendered scene", rendered),
    ]
