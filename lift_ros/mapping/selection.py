"""Clicks on a map, and what is similar to them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.errors import LiftError
from lift_ros.lifting.base import Clickable
from lift_ros.lifting.clicks import grow_region, nearest_gaussian
from lift_ros.mapping.snapshot import MapSnapshot, points_of
from lift_ros.render import BlendWeights, blend_weights, rasterize
from lift_ros.scene.gaussians import GaussianScene
from lift_ros.scene.neighbours import Neighbours


@dataclass(frozen=True)
class Clicks:
    """What was clicked on, and how much of it is meant.

    Attributes:
        points: (3,) each, world frame.
        pixels: (column, row) each, of the image of ``camera``.
        threshold: similarity to a click, [-1, 1], by what the lifting method takes for it.
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


def select(snapshot: MapSnapshot, method: Clickable, neighbours: Neighbours, clicks: Clicks) -> Selection:
    """The Gaussians that ``method`` takes for as similar to a click as asked.

    Raises:
        LiftError: there are no clicks, or one of them meets nothing.
    """
    chosen = _similar(snapshot.scene, method, neighbours, clicks)
    points, colors, index = points_of(snapshot.scene, snapshot.solid)
    member = chosen.cpu().numpy()[index]
    mask = None
    if clicks.camera is not None:
        mask = replace(snapshot, ids=chosen.to(torch.int64)).labels_from(clicks.camera) > 0
    ids = snapshot.ids.cpu().numpy()[index[member]].astype(np.uint32)
    return Selection(chosen, points[member], colors[member], ids, mask)


def similarity_image(
    scene: GaussianScene, method: Clickable, camera: PosedCamera, pixel: tuple[int, int]
) -> NDArray[np.float32]:
    """(H, W) in [-1, 1], how similar ``method`` takes what ``camera`` sees for what it sees at ``pixel`` (column, row);
    -1 where the map shows nothing.
    """
    splats = scene.splats
    weights = blend_weights(splats, camera, torch.tensor([pixel], device=scene.device))
    score = method.similarity(weights)[:, None] + 1
    out = rasterize(splats, score.to(scene.means), camera)
    return (out.image[..., 0] - 1).cpu().numpy()


def _similar(scene: GaussianScene, method: Clickable, neighbours: Neighbours, clicks: Clicks) -> torch.Tensor:
    """(N,) bool."""
    if not (np.isfinite(clicks.threshold) and all(np.isfinite(point).all() for point in clicks.points)):
        raise LiftError("points and threshold must be finite numbers")
    if not clicks.points and not clicks.pixels:
        raise LiftError("nothing was clicked on: give points or pixels")
    if not len(scene):
        raise LiftError("the map is empty")
    clicked = _clicked(scene, clicks)
    chosen = method.similarity(clicked) > clicks.threshold
    return grow_region(chosen, _seeds(clicked, chosen), neighbours) if clicks.connected else chosen


def _seeds(clicked: BlendWeights, chosen: torch.Tensor) -> torch.Tensor:
    """(C,) int64, which of the ``chosen`` Gaussians (N,) bool each click shows most of; any, where it shows none.

    The one that a pixel shows most of is only a part of what it shows: it may be less similar to that than asked.
    """
    val = torch.where(chosen[clicked.col], clicked.val, 0)
    most = [start + int(val[start:stop].argmax()) for start, stop in itertools.pairwise(clicked.crow.tolist())]
    return clicked.col[most]


def _clicked(scene: GaussianScene, clicks: Clicks) -> BlendWeights:
    """(C, N), which Gaussians were clicked on; points before pixels."""
    means, device = scene.means, scene.device
    nearest = [nearest_gaussian(means, torch.as_tensor(point).to(means)) for point in clicks.points]
    col = torch.tensor(nearest, dtype=torch.int64, device=device)
    count, val = torch.ones_like(col), torch.ones(len(col), device=device)
    if clicks.pixels:
        shown = _weights(scene, clicks)
        count, col, val = (torch.cat(pair) for pair in ((count, shown.crow.diff()), (col, shown.col), (val, shown.val)))
        for pixel, some in zip(clicks.pixels, shown.crow.diff().tolist(), strict=True):
            if not some:
                raise LiftError(f"the map shows nothing at pixel ({pixel[0]}, {pixel[1]})")
    crow = torch.cat([count.new_zeros(1), count.cumsum(0)])
    return BlendWeights(crow, col, val, len(scene))


def _weights(scene: GaussianScene, clicks: Clicks) -> BlendWeights:
    """(P, N) of the pixels that were clicked on."""
    camera = clicks.camera
    if camera is None:
        raise LiftError("there is no view yet that pixels could be in")
    for column, row in clicks.pixels:
        if not (0 <= column < camera.width and 0 <= row < camera.height):
            raise LiftError(f"pixel ({column}, {row}) is outside the {camera.width}x{camera.height} image")
    pixels = torch.tensor(clicks.pixels, device=scene.device)
    return blend_weights(scene.splats, camera, pixels)
