"""Clicks on a map, and what is similar to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.errors import LiftError
from lift_ros.lifting.clicks import click_pixel, click_point, grow_region, select_gaussians
from lift_ros.render import blend_weights
from lift_ros.scene.gaussians import GaussianScene
from lift_ros.scene.neighbours import Neighbours


@dataclass(frozen=True)
class Clicks:
    """What was clicked on, and how much of it is meant.

    Attributes:
        points: (3,) each, world frame.
        pixels: (column, row) each, of the image of ``camera``.
        threshold: cosine similarity to a click, [-1, 1].
        connected: whether look-alikes that do not hang together with a click are left out.
    """

    points: Sequence[NDArray]
    pixels: Sequence[tuple[int, int]]
    camera: PosedCamera | None
    threshold: float
    connected: bool


def select(scene: GaussianScene, features: torch.Tensor, neighbours: Neighbours, clicks: Clicks) -> torch.Tensor:
    """(N,) bool, the Gaussians that are as similar to a click as asked, by their unit ``features`` (N, d).

    Raises:
        LiftError: there are no clicks, or one of them meets nothing.
    """
    if not (np.isfinite(clicks.threshold) and all(np.isfinite(point).all() for point in clicks.points)):
        raise LiftError("points and threshold must be finite numbers")
    found, seeds = [], []
    for point in clicks.points:
        if not len(scene):
            raise LiftError("the map is empty")
        feature, nearest = click_point(features, scene.means, torch.as_tensor(point).to(scene.means))
        found.append(feature)
        seeds.append(nearest)
    for column, row in clicks.pixels:
        if clicks.camera is None:
            raise LiftError("there is no view yet that pixels could be in")
        camera = clicks.camera
        if not (0 <= column < camera.width and 0 <= row < camera.height):
            raise LiftError(f"pixel ({column}, {row}) is outside the {camera.width}x{camera.height} image")
        pixel = torch.tensor([[column, row]], device=scene.device)
        weights = blend_weights(scene.means, scene.quats, scene.scales, scene.opacities, camera, pixel)
        if not len(weights.val):
            raise LiftError(f"the map shows nothing at pixel ({column}, {row})")
        found.append(click_pixel(features, weights, 0))
        seeds.append(int(weights.col[weights.val.argmax()]))
    if not found:
        raise LiftError("nothing was clicked on: give points or pixels")
    chosen = select_gaussians(features, torch.stack(found), clicks.threshold)
    return grow_region(chosen, torch.tensor(seeds, device=scene.device), neighbours) if clicks.connected else chosen
