"""A flat textured wall with rectangles on it, seen by a camera that slides along: images, depth and masks are exact."""

from __future__ import annotations

import cv2
import numpy as np

from lift_ros.camera import Camera

CAMERA = Camera(160, 120, 150.0, 150.0, 80.0, 60.0)
DISTANCE = 2.0  # m, from the camera to the wall
STEP = 0.12  # m, between frames: nine pixels at that distance, and a keyframe each
RECTANGLES = {1: (30, 30, 40, 50), 2: (110, 50, 45, 45), 3: (190, 25, 40, 60)}  # column, row, width, height
COLORS = {1: (220, 60, 50), 2: (60, 200, 70), 3: (60, 80, 220)}

_rng = np.random.default_rng(0)
_noise = cv2.GaussianBlur(_rng.integers(0, 255, (120, 640)).astype(np.float32), (0, 0), 2)
POSTER = np.repeat((100 + 4 * (_noise - _noise.mean()))[..., None], 3, axis=2)
LABELS = np.zeros(POSTER.shape[:2], np.uint16)
for _label, (_c, _r, _w, _h) in RECTANGLES.items():
    LABELS[_r : _r + _h, _c : _c + _w] = _label
    POSTER[_r : _r + _h, _c : _c + _w] = 0.3 * POSTER[_r : _r + _h, _c : _c + _w] + 0.7 * np.array(COLORS[_label])
POSTER = POSTER.clip(0, 255).astype(np.uint8)


def image(index: int) -> np.ndarray:
    """(120, 160, 3) uint8."""
    return np.ascontiguousarray(POSTER[:, _columns(index)])


def labels(index: int) -> np.ndarray:
    """(120, 160) uint16, 0 the wall."""
    return np.ascontiguousarray(LABELS[:, _columns(index)])


def depth() -> np.ndarray:
    """(120, 160) float32 metres."""
    return np.full((CAMERA.height, CAMERA.width), DISTANCE, np.float32)


def position(index: int) -> tuple[float, float, float]:
    """Of the camera, which looks along z and does not turn."""
    return (STEP * _place(index), 0.0, 0.0)


def _columns(index: int) -> slice:
    first = round(STEP * _place(index) * CAMERA.fx / DISTANCE)
    return slice(first, first + CAMERA.width)


def _place(index: int) -> int:
    """To the end of the wall and back again."""
    turn = (POSTER.shape[1] - CAMERA.width) * DISTANCE / CAMERA.fx // STEP
    return int(turn - abs(index % (2 * turn) - turn))
