"""Which frames become keyframes, and which keyframe is the most redundant."""

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

BLUR = 4  # pixels over which noise is averaged before two images are compared
MAX_GAIN = 2.0  # between two images, by automatic exposure
MIN_MEASURED = 0.01  # share of a depth image: less is mere specks
NOISE = 3.0  # grey levels that averaged noise stays below in most of an image


def is_keyframe(frame: Frame, keyframes: Sequence[Keyframe], rendering: Rendering, config: MappingConfig) -> bool:
    """Whether ``frame`` shows something new: from a direction no keyframe has, or something the map does not know.

    ``rendering`` is the map as seen by the frame. Distances count relative to the depth, so the unit does not matter.
    If no more keyframes may be kept, the most redundant one will be evicted, so the new one must be farther from all
    others than that one is; otherwise the two would replace each other forever.
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
    """Share of a frame where ``known`` (H, W) is False. With a depth image only pixels with depth count, since sky and
    glass stay unknown anyway, and ``Frame.ignored`` never; 0 if those are mere specks.
    """
    counted = frame.depth > 0 if frame.depth is not None else None if frame.ignored is None else ~frame.ignored
    asked = known if counted is None else known[torch.from_numpy(counted).to(known.device)]
    return float((~asked).float().mean()) if asked.numel() >= MIN_MEASURED * known.numel() else 0.0


def _at_rest(frame: Frame, keyframes: Sequence[Keyframe], new_area: float) -> bool:
    """Whether a keyframe shows the same image, with depth of as much of it but for a share ``new_area``.

    What the map did not learn from that keyframe, for lack of room or of depth, it will not learn from another before
    the camera moves. Images are compared rather than poses, whose noise is unknown; and only with the latest keyframe,
    the nearest one and the one of the most similar direction.
    """
    others, pose = np.stack([keyframe.T_world_camera for keyframe in keyframes]), frame.T_world_camera
    nearest = np.linalg.norm(others[:, :3, 3] - pose[:3, 3], axis=1).argmin()
    asked = {len(keyframes) - 1, int(nearest), int((others[:, :3, 2] @ pose[:3, 2]).argmax())}
    views = [keyframes[k].view for k in asked]
    same = [view for view in views if _same_picture(frame, view)]
    if frame.depth is None:
        return bool(same)
    measured = float((frame.depth > 0).mean())
    return any(measured - _measured(view) <= new_area for view in same)


def _measured(view: TrainingView) -> float:
    """Share of a view with depth measured by a sensor."""
    return float((view.depth > 0).float().mean()) if view.measured and view.depth is not None else 0.0


def _same_picture(frame: Frame, view: TrainingView) -> bool:
    """Whether two images differ only by noise and exposure almost everywhere, of what is not ignored."""
    image, other = frame.image, view.image.cpu().numpy()
    if image.shape != other.shape:
        return False
    for ignored in (frame.ignored, None if view.ignored is None else view.ignored.cpu().numpy()):
        if ignored is not None:
            image, other = (np.where(ignored[..., None], np.uint8(0), each) for each in (image, other))
    height, width = image.shape[:2]
    size = max(width // BLUR, 1), max(height // BLUR, 1)
    a, b = (cv2.resize(each, size, interpolation=cv2.INTER_AREA).mean(2, dtype=np.float32) for each in (image, other))
    a, b = a - a.mean(), b - b.mean()
    # unbounded, a blank image would match any
    gain = np.clip((a * b).mean() / max((a * a).mean(), 1e-6), 1 / MAX_GAIN, MAX_GAIN)
    return float(np.percentile(np.abs(b - gain * a), 95)) < NOISE


def _apart(
    poses: NDArray[np.float64], depths: NDArray[np.float64], keyframes: Sequence[Keyframe]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Between cameras at ``poses`` (n, 4, 4) and the keyframes, both (n, K) in degrees: the angle between the optical
    axes, and the parallax of points ``depths`` (n,) away.
    """
    others = np.stack([keyframe.T_world_camera for keyframe in keyframes])
    angle = np.degrees(np.arccos(np.clip(poses[:, :3, 2] @ others[:, :3, 2].T, -1, 1)))
    baseline = np.linalg.norm(poses[:, None, :3, 3] - others[None, :, :3, 3], axis=2)
    return angle, np.degrees(np.arctan2(baseline, depths[:, None]))


def _steps(angle: NDArray[np.float64], parallax: NDArray[np.float64], config: MappingConfig) -> NDArray[np.float64]:
    """Angle and parallax as one distance, in units of what makes a frame a keyframe."""
    return angle / max(config.keyframe_rotation, 1e-3) + parallax / max(config.keyframe_parallax, 1e-3)


def viewing_distance(frame: Frame, rendering: Rendering) -> float:
    """Median depth of a frame, measured or else rendered from the map; infinite if neither is known."""
    if frame.depth is not None and (frame.depth > 0).any():
        return float(np.median(frame.depth[frame.depth > 0]))
    known = rendering.alpha >= 0.5
    return float(rendering.depth[known].median()) if bool(known.any()) else math.inf


def most_redundant(keyframes: Sequence[Keyframe], config: MappingConfig) -> tuple[int, float]:
    """Index of the keyframe that is closest to another one, in direction and place relative to the depth; and the
    distance between the two, in units of what makes a frame a keyframe.
    """
    poses = np.stack([keyframe.T_world_camera for keyframe in keyframes])
    depths = np.array([keyframe.distance for keyframe in keyframes])
    steps = _steps(*_apart(poses, depths, keyframes), config)
    np.fill_diagonal(steps, np.inf)
    nearest = steps.min(1)
    return int(nearest.argmin()), float(nearest.min())
