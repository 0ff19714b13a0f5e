"""A small synthetic world with exact answers: textured walls and a box, rendered by ray casting."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lift_ros.camera import Camera
from lift_ros.frame import Frame

CAMERA = Camera(96, 72, 80.0, 80.0, 48.0, 36.0)
WALL, BOX = 3.0, 2.0  # z of the back wall, and of the front of a box that stands before its middle
BOX_HALF = 0.35


def texture(seed: int) -> NDArray[np.float32]:
    """(256, 256, 3) smooth noise with detail at several scales, in [0, 1]."""
    rng = np.random.default_rng(seed)
    total = np.zeros((256, 256, 3), np.float32)
    for cells, weight in ((8, 0.5), (24, 0.35), (64, 0.15)):
        total += weight * cv2.resize(
            rng.random((cells, cells, 3), np.float32), (256, 256), interpolation=cv2.INTER_CUBIC
        )
    return np.clip(total, 0, 1)


_WALL_TEXTURE, _BOX_TEXTURE = texture(0), texture(1)


def _lookup(image: NDArray, x: NDArray, y: NDArray, size: float) -> NDArray:
    u, v = ((x / size + 0.5) * 256).astype(np.float32), ((y / size + 0.5) * 256).astype(np.float32)
    return cv2.remap(image, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def view(x: float, y: float = 0.0, yaw: float = 0.0, depth: bool = True, gain: float = 1.0, unit: float = 1.0) -> Frame:
    """What a camera at (x, y, 0) sees, turned by ``yaw`` radians; all lengths times ``unit``."""
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.array([0, yaw, 0.0]))[0]
    T[:3, 3] = (x, y, 0)
    rays = CAMERA.unproject(np.ones((CAMERA.height, CAMERA.width), np.float32)).astype(np.float64) @ T[:3, :3].T

    def at(z: float) -> tuple[NDArray, NDArray]:
        return x + rays[..., 0] / rays[..., 2] * z, y + rays[..., 1] / rays[..., 2] * z

    wall, box = at(WALL), at(BOX)
    on_box = (np.abs(box[0]) < BOX_HALF) & (np.abs(box[1]) < BOX_HALF)
    color = np.where(on_box[..., None], _lookup(_BOX_TEXTURE, *box, 1.0), _lookup(_WALL_TEXTURE, *wall, 5.0))
    z = np.where(on_box, BOX, WALL) / rays[..., 2]  # length along the ray whose camera-frame z is 1
    image = np.clip(color * gain * 255, 0, 255).astype(np.uint8)
    T[:3, 3] *= unit
    return Frame(image, CAMERA, T, stamp=x, depth=(z * unit).astype(np.float32) if depth else None)


def views(count: int = 6, **options) -> list[Frame]:
    """Cameras side by side, turned towards the box."""
    places = np.linspace(-0.5, 0.5, count)
    return [view(float(x), 0.1 * (-1) ** i, yaw=-0.2 * float(x), **options) for i, x in enumerate(places)]
