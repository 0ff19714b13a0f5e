"""A camera carried by hand round the middle of the room."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

TURN_RATE = 0.45  # rad/s, a slow walk
SWAY = ((0.35, 0.02), (0.9, 0.008), (1.8, 0.004))  # frequency in Hz, amplitude in metres
SHAKE = ((0.3, 0.03), (0.8, 0.012), (2.1, 0.004))  # frequency in Hz, amplitude in metres at the point looked at


def handheld_path(frames: int, rate: float = 10.0, seed: int = 0, size: float = 1.0) -> NDArray[np.float64]:
    """Camera poses T_world_camera (``frames``, 4, 4), optical convention, ``rate`` a second; z of the world is up.

    ``size`` is that of the room. In a larger one the walk is longer, and goes to and fro between middle and walls.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / rate
    angle = rng.uniform(0, 2 * np.pi) + TURN_RATE / size * t + 0.08 * np.sin(0.7 * t)
    radius = 1.42 + 0.12 * np.sin(0.5 * t + rng.uniform(0, 6))
    radius += 1.42 * (size - 1) * (0.6 + 0.4 * np.sin(0.9 * t / size))
    height = 1.22 + 0.18 * np.sin(0.42 * t + rng.uniform(0, 6))
    position = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], -1) + _wobble(rng, t, SWAY)
    aim = np.array([0.0, 0.0, 0.3]) + 0.18 * np.sin(np.outer(0.6 * t, (1.0, 0.8, 0.5)) + rng.uniform(0, 6, 3))
    aim += _wobble(rng, t, SHAKE)
    aim[:, :2] += (1 - 1.42 / radius[:, None]) * position[:, :2] * (size > 1)  # what is as near as in a usual room

    forward = aim - position
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    roll = 0.04 * np.sin(0.9 * t + rng.uniform(0, 6))
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross(forward, right)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    cosine, sine = np.cos(roll)[:, None], np.sin(roll)[:, None]
    poses[:, :3, 0] = cosine * right + sine * down
    poses[:, :3, 1] = cosine * down - sine * right
    poses[:, :3, 2] = forward
    poses[:, :3, 3] = position
    return poses


def _wobble(rng: Generator, t: NDArray, parts: tuple[tuple[float, float], ...]) -> NDArray[np.float64]:
    phase = rng.uniform(0, 2 * np.pi, (len(parts), 3))
    return sum(a * np.sin(2 * np.pi * f * t[:, None] + phase[i]) for i, (f, a) in enumerate(parts))
