"""The map of one moment, for readers in other threads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.objects.description import MapObject, describe
from lift_ros.objects.registry import Track
from lift_ros.render import Rendering, label_image, rasterize
from lift_ros.scene.gaussians import GaussianScene
from lift_ros.scene.trainer import camera_center

VISIBLE_OPACITY = 0.3  # fainter Gaussians fill in colour, they are no surface


@dataclass(frozen=True)
class MapSnapshot:
    """Nothing in it changes any more.

    Attributes:
        scene: the Gaussians.
        ids: (N,) int64 object of each, 0 for none.
        tracks: what is known of the objects besides their Gaussians.
        up: axis of the world that points up, see ``ObjectsConfig``.
    """

    scene: GaussianScene
    ids: torch.Tensor
    tracks: tuple[Track, ...] = ()
    up: str = "none"

    @cached_property
    def objects(self) -> tuple[MapObject, ...]:
        """The objects, ascending by id. Made when first asked for: boxes take some 10 ms an object."""
        points, colors, chosen = surface_points(self.scene)
        return tuple(describe(self.tracks, self.ids.cpu().numpy()[chosen], points, colors, self.up))

    def render(self, camera: PosedCamera) -> Rendering:
        """Colour (H, W, 3) in [0, 1], alpha and expected depth as seen by ``camera``."""
        scene, camera = self.scene, _on(camera, self.scene.device)
        out = rasterize(
            scene.means, scene.quats, scene.scales, scene.opacities, scene.colors(camera_center(camera)), camera
        )
        return Rendering(out.image.clamp(0, 1), out.alpha, out.depth)

    def label_image(self, camera: PosedCamera) -> tuple[NDArray[np.uint32], NDArray[np.float32], NDArray[np.float32]]:
        """(H, W) ids, 0 where none; the share of each pixel that this id has; the accumulated opacity."""
        scene, camera = self.scene, _on(camera, self.scene.device)
        labels, share, alpha = label_image(scene.means, scene.quats, scene.scales, scene.opacities, self.ids, camera)
        return labels.cpu().numpy().astype(np.uint32), share.cpu().numpy(), alpha.cpu().numpy()

    def cloud(self, limit: int) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint32]]:
        """At most ``limit`` points (n, 3) of the surfaces, evenly thinned, with colours (n, 3) and ids (n,)."""
        points, colors, chosen = surface_points(self.scene)
        step = max(1, -(-len(points) // max(limit, 1)))
        return points[::step], colors[::step], self.ids.cpu().numpy()[chosen][::step].astype(np.uint32)


def surface_points(scene: GaussianScene) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
    """Centres (n, 3) of the Gaussians that are solid enough to be surface, their colours (n, 3) and indices (n,)."""
    chosen = (scene.opacities > VISIBLE_OPACITY).nonzero().squeeze(1)
    base = GaussianScene(**{**scene.tensors(), "sh": scene.sh[:, :1]})
    colors = base.colors(torch.zeros(3, device=scene.device))[chosen].clamp(0, 1)
    return (
        scene.means[chosen].cpu().numpy(),
        (255 * colors).round().byte().cpu().numpy(),
        chosen.cpu().numpy(),
    )


def _on(camera: PosedCamera, device: torch.device) -> PosedCamera:
    return PosedCamera(camera.intrinsics, camera.viewmat.to(device))
