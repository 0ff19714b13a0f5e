"""The map of one moment, for readers in other threads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.frame import Frame
from lift_ros.objects.description import MapObject, describe
from lift_ros.objects.registry import Track
from lift_ros.render import Rendering, Splats, blend_weights, follow_edges, label_image, rasterize
from lift_ros.scene.alignment import WORK_WIDTH, CorrectionTrack, align, corrected
from lift_ros.scene.gaussians import GaussianScene

MIN_SHARE = 0.3  # blend weight that an object needs in a pixel to label it
BORDER_WIDTH = 640  # pixels, least width at which borders are refined; finer ones cost more than they are worth
VISIBLE_OPACITY = 0.3  # of Gaussians that are surface; fainter ones only fill in colour
GUESSED_OPACITY = 0.1  # of Gaussians that represent an object in which fewer than FEW are surface
FEW = 40


@dataclass(frozen=True)
class MapSnapshot:
    """An immutable copy of the map.

    Attributes:
        scene: the Gaussians.
        ids: (N,) int64 object of each, 0 for none.
        uncertainty: (N,) float32 in [0, 1], of the lifting method about the label of each.
        tracks: the state of the objects besides their Gaussians.
        up: axis of the world that points up, see ``ObjectsConfig``.
        corrections: of the poses of the keyframes; None if poses are not refined.
    """

    scene: GaussianScene
    ids: torch.Tensor
    uncertainty: torch.Tensor
    tracks: tuple[Track, ...] = ()
    up: str = "none"
    corrections: CorrectionTrack | None = None

    @cached_property
    def objects(self) -> tuple[MapObject, ...]:
        """The objects, ascending by id. Made when first used: a box takes 10 ms, a few times that without gravity."""
        opacities, solid = self._splats.opacities, self.solid
        last = max((track.id for track in self.tracks), default=0)
        count = torch.bincount(self.ids[solid], minlength=last + 1)
        for track in self.tracks:  # what labels show has points, also while all of it is a guess
            if count[track.id] < FEW:
                own = ((self.ids == track.id) & (opacities > GUESSED_OPACITY)).nonzero().squeeze(1)
                solid[own[opacities[own].topk(min(FEW, len(own))).indices]] = True
        points, colors, chosen = points_of(self.scene, solid)
        ids, uncertainty = self.ids.cpu().numpy()[chosen], self.uncertainty.cpu().numpy()[chosen]
        return tuple(describe(self.tracks, ids, points, colors, uncertainty, self.up))

    @property
    def solid(self) -> torch.Tensor:
        """(N,) bool, Gaussians opaque enough to be surface."""
        return self._splats.opacities > VISIBLE_OPACITY

    @cached_property
    def surfaces(self) -> tuple[torch.Tensor, NDArray[np.int64]]:
        """(n, 3) centres of the ``solid`` Gaussians of objects, and their ids (n,)."""
        chosen = self.solid & (self.ids > 0)
        return self.scene.means[chosen], self.ids[chosen].cpu().numpy()

    @cached_property
    def _splats(self) -> Splats:
        """Computed once for all images."""
        return self.scene.splats

    def render(self, camera: PosedCamera) -> Rendering:
        """Colour (H, W, 3) in [0, 1], alpha and expected depth as seen by ``camera``."""
        scene, camera = self.scene, _on(camera, self.scene.device)
        out = rasterize(self._splats, scene.colors(camera.center), camera)
        return Rendering(out.image.clamp(0, 1), out.alpha, out.depth)

    def locate(self, frame: Frame, steps: int = 0) -> PosedCamera:
        """The camera of ``frame``. If poses are refined, it is corrected like the keyframes before and after it, then
        aligned with the map in up to ``steps`` Gauss-Newton steps of about 10 ms each.
        """
        camera = frame.posed_camera(self.scene.device)
        if self.corrections is None:
            return camera
        camera = corrected(camera, self.corrections.at(frame.stamp))
        if not steps:
            return camera
        small = frame.at_width(WORK_WIDTH)
        image = torch.from_numpy(small.image).float() / 255
        found = align(self.render, image, PosedCamera(small.camera, camera.viewmat), steps, small.ignored)
        return PosedCamera(camera.intrinsics, found.viewmat)

    def labels_of(
        self, frame: Frame, width: int, align_steps: int = 0, min_share: float = MIN_SHARE
    ) -> tuple[NDArray[np.uint32], PosedCamera]:
        """The objects in a frame: rendered from the map, then with borders moved to the edges in the frame.

        Args:
            width: at which the map is rendered, pixels.
            align_steps: see ``locate``.
            min_share: blend weight that an object needs in a pixel to label it.

        Returns:
            (H, W) ids at the size of the frame, 0 for none and at pixels that are ignored; the camera that they were
            rendered with.
        """
        located = self.locate(frame, align_steps)
        view = PosedCamera(located.intrinsics.at_width(width), located.viewmat)
        labels = self.labels_from(view, min_share).astype(np.int32)  # OpenCV resizes no uint32; the same bits
        picture = frame.at_width(max(BORDER_WIDTH, width))
        labels = _enlarged(labels, picture.camera.width, picture.camera.height)
        labels = follow_edges(labels, picture.image, picture.depth)
        labels = _enlarged(labels, frame.camera.width, frame.camera.height).astype(np.uint32)
        return labels if frame.ignored is None else np.where(frame.ignored, 0, labels), view

    def labels_from(self, camera: PosedCamera, min_share: float = MIN_SHARE) -> NDArray[np.uint32]:
        """(H, W) ids rendered from the map alone, 0 where none has ``min_share`` of the pixel."""
        labels, share, _ = self.label_image(camera)
        return np.where(share >= min_share, labels, 0)

    def label_image(self, camera: PosedCamera) -> tuple[NDArray[np.uint32], NDArray[np.float32], NDArray[np.float32]]:
        """(H, W) ids, 0 where none; the share of each pixel that this id has; the accumulated opacity."""
        camera = _on(camera, self.scene.device)
        labels, share, alpha = label_image(self._splats, self.ids, camera)
        return labels.cpu().numpy().astype(np.uint32), share.cpu().numpy(), alpha.cpu().numpy()

    def label_at(self, camera: PosedCamera, column: int, row: int) -> tuple[int, float]:
        """``label_image`` at one pixel: id and share."""
        camera = _on(camera, self.scene.device)
        pixel = torch.tensor([[column, row]], device=self.scene.device)
        weights = blend_weights(self._splats, camera, pixel)
        label, share = weights.winning_label(self.ids)
        return int(label), float(share)

    def uncertainty_image(self, camera: PosedCamera) -> NDArray[np.float32]:
        """(H, W) in [0, 1]: the uncertainty of the Gaussians blended into each pixel, 1 where there are none."""
        camera = _on(camera, self.scene.device)
        out = rasterize(self._splats, self.uncertainty[:, None], camera)
        return (out.image[..., 0] + 1 - out.alpha).clamp(0, 1).cpu().numpy()

    def cloud(self, limit: int) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint32]]:
        """At most ``limit`` points (n, 3) of the surfaces, evenly thinned, with colours (n, 3) and ids (n,)."""
        points, colors, chosen = points_of(self.scene, self.solid)
        step = max(1, -(-len(points) // max(limit, 1)))
        return points[::step], colors[::step], self.ids.cpu().numpy()[chosen][::step].astype(np.uint32)


def points_of(
    scene: GaussianScene, which: torch.Tensor
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
    """Centres (n, 3) of the Gaussians ``which`` (N,) bool, their colours (n, 3) and indices (n,)."""
    chosen = which.nonzero().squeeze(1)
    base = GaussianScene(**{**scene.tensors(), "sh": scene.sh[:, :1]})
    colors = base.colors(torch.zeros(3, device=scene.device))[chosen].clamp(0, 1)
    return (
        scene.means[chosen].cpu().numpy(),
        (255 * colors).round().byte().cpu().numpy(),
        chosen.cpu().numpy(),
    )


def _enlarged(labels: NDArray[np.int32], width: int, height: int) -> NDArray[np.int32]:
    if labels.shape == (height, width):
        return labels
    return cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)


def _on(camera: PosedCamera, device: torch.device) -> PosedCamera:
    return PosedCamera(camera.intrinsics, camera.viewmat.to(device))
