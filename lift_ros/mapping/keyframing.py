"""Which frames become keyframes, and which keyframe others show best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.frame import Frame
from lift_ros.mapping.config import MappingConfig
from lift_ros.render import Rendering
from lift_ros.scene.trainer import TrainingView

if TYPE_CHECKING:
    from lift_ros.mapping.keyframes import Keyframe

BLUR = 4  # pixels, over which noise is averaged before two pictures are compared
MAX_GAIN = 2.0  # of an automatic exposure
MIN_MEASURED = 0.01  # of a depth image: less are specks
NOISE = 3.0  # grey levels that are left of it in most of a picture


def is_keyframe(frame: Frame, keyframes: Sequence[Keyframe], rendering: Rendering, config: MappingConfig) -> bool:
    """Whether ``frame`` shows something new: seen from another direction than any keyframe's, or unknown to the map.

    ``rendering`` is the map as seen by the frame. Distances count relative to the depth, so the unit does not matter.
    Where there are as many keyframes as may be kept, one has to give way, and the new one must be farther from the
    others than that; else they would take turns for ever.
    """
    if not keyframes:
        return True
    known = rendering.alpha >= 0.5
    unknown = _new_area(frame, known) > config.keyframe_new_area
    if unknown and not _at_rest(frame, keyframes, config.keyframe_new_area):
        return True
    depth = float(rendering.depth[known].median()) if bool(known.any()) else viewing_distance(frame, rendering)
    angle, parallax = _apart(frame.T_world_camera[None], np.array([depth]), keyframes)
    if not ((angle > config.keyframe_rotation) | (parallax > config.keyframe_parallax)).all():
        return False
    full = len(keyframes) >= config.max_keyframes
    return not full or _steps(angle, parallax, config).min() > most_redundant(keyframes, config)[1]


def _new_area(frame: Frame, known: torch.Tensor) -> float:
    """Share of a frame that the map does not know, where ``known`` (H, W) is False; of what has depth in a frame that
    has: in the sky or behind glass nothing will be known after it either. Specks of depth tell nothing.
    """
    asked = known if frame.depth is None else known[torch.from_numpy(frame.depth > 0).to(known.device)]
    return float((~asked).float().mean()) if asked.numel() >= MIN_MEASURED * known.numel() else 0.0


def _at_rest(frame: Frame, keyframes: Sequence[Keyframe], new_area: float) -> bool:
    """Whether a keyframe shows the same picture, and has depth as well but for a share ``new_area`` of it: what the map
    did not learn from that one, for lack of room or of depth, it will not learn from another before the camera moves.
    Poses do not tell it, since nobody knows how large their noise is.

    Asked are the latest and those that were nearest and turned alike.
    """
    others, pose = np.stack([keyframe.T_world_camera for keyframe in keyframes]), frame.T_world_camera
    nearest = np.linalg.norm(others[:, :3, 3] - pose[:3, 3], axis=1).argmin()
    asked = {len(keyframes) - 1, int(nearest), int((others[:, :3, 2] @ pose[:3, 2]).argmax())}
    views = [keyframes[k].view for k in asked]
    same = [view for view in views if _same_picture(frame.image, view.image.cpu().numpy())]
    if frame.depth is None:
        return bool(same)
    measured = float((frame.depth > 0).mean())
    return any(measured - _measured(view) <= new_area for view in same)


def _measured(view: TrainingView) -> float:
    """Share of a view of which a sensor measured the depth."""
    return float((view.depth > 0).float().mean()) if view.measured and view.depth is not None else 0.0


def _same_picture(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether two (H, W, 3) images differ by noise and exposure alone, almost everywhere."""
    if image.shape != other.shape:
        return False
    height, width = image.shape[:2]
    size = max(width // BLUR, 1), max(height // BLUR, 1)
    a, b = (cv2.resize(each, size, interpolation=cv2.INTER_AREA).mean(2, dtype=np.float32) for each in (image, other))
    a, b = a - a.mean(), b - b.mean()
    gain = np.clip((a * b).mean() / max((a * a).mean(), 1e-6), 1 / MAX_GAIN, MAX_GAIN)  # else nothing looks like all
    return float(np.percentile(np.abs(b - gain * a), 95)) < NOISE


def _apart(
    poses: NDArray[np.float64], depths: NDArray[np.float64], keyframes: Sequence[Keyframe]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of cameras at ``poses`` (n, 4, 4) and the keyframes, both (n, K) in degrees: the angle between the optical axes,
    and that under which the way from one to the other is seen from ``depths`` (n,) away.
    """
    others = np.stack([keyframe.T_world_camera for keyframe in keyframes])
    angle = np.degrees(np.arccos(np.clip(poses[:, :3, 2] @ others[:, :3, 2].T, -1, 1)))
    baseline = np.linalg.norm(poses[:, None, :3, 3] - others[None, :, :3, 3], axis=2)
    return angle, np.degrees(np.arctan2(baseline, depths[:, None]))


def _steps(angle: NDArray[np.float64], parallax: NDArray[np.float64], config: MappingConfig) -> NDArray[np.float64]:
    """How far that is, in units of what makes a frame a keyframe."""
    return angle / max(config.keyframe_rotation, 1e-3) + parallax / max(config.keyframe_parallax, 1e-3)


def viewing_distance(frame: Frame, rendering: Rendering) -> float:
    """Median depth of what a frame shows, measured or as the map has it; infinite where neither is known."""
    if frame.depth is not None and (frame.depth > 0).any():
        return float(np.median(frame.depth[frame.depth > 0]))
    known = rendering.alpha >= 0.5
    return float(rendering.depth[known].median()) if bool(known.any()) else math.inf


def most_redundant(keyframes: Sequence[Keyframe], config: MappingConfig) -> tuple[int, float]:
    """Which of the ``keyframes`` another one shows best, from almost the same direction and place relative to the
    depth; and how far it is from that, in units of what makes a frame a keyframe.
    """
    poses = np.stack([keyframe.T_world_camera for keyframe in keyframes])
    depths = np.array([keyframe.distance for keyframe in keyframes])
    steps = _steps(*_apart(poses, depths, keyframes), config)
    np.fill_diagonal(steps, np.inf)
    nearest = steps.min(1)
    return int(nearest.argmin()), float(nearest.min())
