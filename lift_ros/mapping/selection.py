"""Clicks on a map, and what is similar to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.errors import LiftError
from lift_ros.lifting.clicks import click_pixel, click_point, grow_region, select_gaussians
from lift_ros.mapping.snapshot import MIN_SHARE, MapSnapshot, surface_points
from lift_ros.render import BlendWeights, blend_weights
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


class Selection(NamedTuple):
    """What was selected.

    Attributes:
        gaussians: (N,) bool.
        points, colors, ids: (n, 3), (n, 3) uint8 and (n,) uint32 object, of those that are surface.
        mask: (H, W) bool of the clicks' camera; None without one.
    """

    gaussians: torch.Tensor
    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    ids: NDArray[np.uint32]
    mask: NDArray[np.bool_] | None


def select(snapshot: MapSnapshot, features: torch.Tensor, neighbours: Neighbours, clicks: Clicks) -> Selection:
    """The Gaussians that are as similar to a click as asked, by their unit ``features`` (N, d).

    Raises:
        LiftError: there are no clicks, or one of them meets nothing.
    """
    chosen = _similar(snapshot.scene, features, neighbours, clicks)
    points, colors, index = surface_points(snapshot.scene)
    member = chosen.cpu().numpy()[index]
    mask = None
    if clicks.camera is not None:
        shown, share, _ = replace(snapshot, ids=chosen.to(torch.int64)).label_image(clicks.camera)
        mask = (shown > 0) & (share >= MIN_SHARE)
    ids = snapshot.ids.cpu().numpy()[index[member]].astype(np.uint32)
    return Selection(chosen, points[member], colors[member], ids, mask)


def _similar(scene: GaussianScene, features: torch.Tensor, neighbours: Neighbours, clicks: Clicks) -> torch.Tensor:
    """(N,) bool."""
    if not (np.isfinite(clicks.threshold) and all(np.isfinite(point).all() for point in clicks.points)):
        raise LiftError("points and threshold must be finite numbers")
    if not clicks.points and not clicks.pixels:
        raise LiftError("nothing was clicked on: give points or pixels")
    if not len(scene):
        raise LiftError("the map is empty")
    found, seeds = [], []
    for point in clicks.points:
        feature, nearest = click_point(features, scene.means, torch.as_tensor(point).to(scene.means))
        found.append(feature)
        seeds.append(nearest)
    if clicks.pixels:
        weights = _weights(scene, clicks)
        for row, (column, line) in enumerate(clicks.pixels):
            here = slice(int(weights.crow[row]), int(weights.crow[row + 1]))
            if here.start == here.stop:
                raise LiftError(f"the map shows nothing at pixel ({column}, {line})")
            found.append(click_pixel(features, weights, row))
            seeds.append(int(weights.col[here][weights.val[here].argmax()]))
    chosen = select_gaussians(features, torch.stack(found), clicks.threshold)
    return grow_region(chosen, torch.tensor(seeds, device=scene.device), neighbours) if clicks.connected else chosen


def _weights(scene: GaussianScene, clicks: Clicks) -> BlendWeights:
    """(P, N) of the pixels that were clicked on."""
    camera = clicks.camera
    if camera is None:
        raise LiftError("there is no view yet that pixels could be in")
    for column, row in clicks.pixels:
        if not (0 <= column < camera.width and 0 <= row < camera.height):
            raise LiftError(f"pixel ({column}, {row}) is outside the {camera.width}x{camera.height} image")
    pixels = torch.tensor(clicks.pixels, device=scene.device)
    return blend_weights(scene.means, scene.quats, scene.scales, scene.opacities, camera, pixels)
