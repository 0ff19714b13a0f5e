"""Photometric training of the scene: the loop of 3DGS, for few steps and a scene that grows meanwhile."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from lift_ros.camera import PosedCamera
from lift_ros.frame import Frame
from lift_ros.render import Rendering, ScreenStatistics, Target, rasterize
from lift_ros.scene.alignment import PoseCorrections, alignment_step, moved
from lift_ros.scene.config import SceneConfig
from lift_ros.scene.exposure import Exposures
from lift_ros.scene.gaussians import GaussianScene, follow
from lift_ros.scene.losses import Gradients, ViewLosses, supervised
from lift_ros.scene.optimizer import SceneOptimizer

EXPOSURE_RIDGE = 1e-3  # pull to gain 1 and bias 0, as a variance of colours
MIN_OPACITY = 0.02  # of Gaussians that are worth keeping
EXPOSURE_STEP = 2  # an exposure is two numbers a channel: every second pixel will do
MANY = 100_000  # Gaussians, from which it pays to look for those in view
FEW = 0.5  # share of them in view, up to which it pays to train these alone
BLUR = 2.0  # pixels that the rasterizer adds to the size of the smallest
REACH = 3.5  # standard deviations: farther out no opacity is above 1/255


class TrainingView(NamedTuple):
    """What one step is supervised with.

    Attributes:
        camera: with its pose.
        image: (H, W, 3) RGB uint8: a map keeps many.
        depth: (H, W) z-depth, 0 or NaN where unknown, or None.
        index: number of the frame; each has its own exposure.
        measured: whether a sensor measured ``depth``; else it was estimated and weighs less.
        ignored: (H, W) bool, pixels that train nothing, or None; see ``Frame``.
    """

    camera: PosedCamera
    image: torch.Tensor
    depth: torch.Tensor | None
    index: int
    measured: bool = True
    ignored: torch.Tensor | None = None

    @classmethod
    def from_frame(
        cls, frame: Frame, index: int, estimated_depth: np.ndarray | None = None, device: str = "cpu"
    ) -> TrainingView:
        """A frame as it came, with ``estimated_depth`` (H, W) in place of a missing depth image."""
        depth = frame.depth if frame.depth is not None else estimated_depth
        return cls(
            frame.posed_camera(device),
            torch.as_tensor(frame.image, device=device),
            None if depth is None else torch.as_tensor(depth, dtype=torch.float32, device=device),
            index,
            frame.depth is not None,
            None if frame.ignored is None else torch.as_tensor(frame.ignored, device=device),
        )


class PhotometricTrainer:
    """Fits a scene to views, one view a step.

    After any edit of the scene made elsewhere (seeds, prunes), pass its ``origin`` to ``edit``, so that the state of
    the optimiser stays aligned. Two trainers given the same scene and views do the same.
    """

    def __init__(self, scene: GaussianScene, config: SceneConfig, anchored: bool = False) -> None:
        """``anchored``: the scene was there before the views; exposures and poses are relative to it."""
        self.scene = scene
        self.config = config
        self.exposures = Exposures(EXPOSURE_RIDGE, anchored=anchored)
        self.poses = PoseCorrections(anchored)
        self._view_losses = ViewLosses(config)
        self._optimizer = SceneOptimizer(scene)
        self._depth_scale = 0.0  # median rendered depth: the length that learning rates are relative to
        self._gradient = torch.zeros(len(scene), device=scene.device)
        self._seen = torch.zeros(len(scene), device=scene.device)

    def edit(self, origin: torch.Tensor) -> None:
        """Follow an edit of the scene that was made elsewhere."""
        self._optimizer.edit(origin)
        self._gradient = follow(self._gradient, origin)
        self._seen = follow(self._seen, origin)

    def forget(self, index: int) -> None:
        """Forget exposure and pose correction of frame ``index``; there will be no more steps on it."""
        self.exposures.forget(index)
        self.poses.forget(index)

    def render(self, camera: PosedCamera) -> Rendering:
        """The scene from ``camera``, without gradients."""
        scene = self.scene
        with torch.no_grad():
            return rasterize(scene.splats, scene.colors(camera.center), camera)

    def step(self, view: TrainingView, rate: float = 1.0) -> dict[str, float]:
        """One step of gradient descent on ``view``, with ``rate`` times the learning rates of the configuration.

        Returns the values of the losses by name.
        A step whose loss or gradient is not finite changes nothing, nor does one on a view that shows nothing of a map
        (see ``_active``); no losses are returned then.
        """
        if not len(self.scene):
            return {}
        given = view.camera
        view = view._replace(camera=self.poses.apply(view.index, given), image=view.image.float() / 255)
        active = self._active(view.camera)
        if not isinstance(active, slice) and not len(active):
            return {}
        leaves = {name: tensor[active].detach().requires_grad_() for name, tensor in self.scene.tensors().items()}
        scene = GaussianScene(**leaves)
        screen = ScreenStatistics()
        out = rasterize(scene.splats, scene.colors(view.camera.center), view.camera, screen)
        losses, gradients = self._losses(view, out)
        total = supervised(out, losses, gradients)
        if self.config.scale_weight:
            spread = scene.log_scales.amax(dim=1) - scene.log_scales.mean(dim=1)
            losses["scale"] = self.config.scale_weight * (spread - 1.5).clamp_min(0).mean()
            total = total + losses["scale"]
        grads = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
        if not torch.stack([value.sum() for value in (total, *grads.values())]).isfinite().all():
            return {}
        if self.config.refine_poses:
            ignored = None if view.ignored is None else view.ignored.cpu().numpy()
            step = alignment_step(out, view.image, view.camera, ignored)
            if step is not None:
                self.poses.update(view.index, given, moved(view.camera, step))
        self._measure(view, out, screen, active)
        self._optimizer.step(self.scene, grads, self._depth_scale, rate, active)
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def _losses(self, view: TrainingView, out: Rendering) -> tuple[dict[str, torch.Tensor], Gradients]:
        """The losses of the rendering against the view, and their gradients by its image, alpha and depth."""
        out = Rendering(*(tensor.detach() for tensor in out))
        few = (slice(None, None, EXPOSURE_STEP),) * 2
        comparable = out.alpha[few] > 0.9
        if view.ignored is not None:
            comparable &= ~view.ignored[few]
        self.exposures.update(view.index, out.image[few], view.image[few], comparable)
        gain, bias = (tensor.to(out.image.device) for tensor in self.exposures[view.index])
        image = view.image
        if view.ignored is not None:  # as if it showed what is rendered: SSIM compares windows, also with pixels beside
            image = torch.where(view.ignored[..., None], out.image * gain + bias * out.alpha[..., None], image)
        losses, gradients = self._view_losses(out, Target(image, view.depth, gain, bias), view.measured)
        if view.ignored is not None:  # where the two differ by rounding, L1 has a gradient all the same
            by_image, by_alpha, by_depth = gradients
            gradients = by_image * ~view.ignored[..., None], by_alpha * ~view.ignored, by_depth
        return dict(losses), gradients

    def _active(self, camera: PosedCamera) -> torch.Tensor | slice:
        """Which Gaussians a step trains: of a large map only those in view, if these are few, so that the cost of a
        step depends on the view and not on the map; otherwise all.
        """
        scene = self.scene
        if len(scene) < MANY:
            return slice(None)
        chosen = in_view(camera, scene.means, REACH * scene.log_scales.amax(1).exp()).nonzero().squeeze(1)
        return chosen if len(chosen) < FEW * len(scene) else slice(None)

    def _measure(
        self, view: TrainingView, out: Rendering, screen: ScreenStatistics, active: torch.Tensor | slice
    ) -> None:
        """Statistics of this step: the scale of the scene, and where the screen gradient asks for more Gaussians."""
        depth = out.depth.detach()[::8, ::8]
        depth = depth[depth > 0]
        if len(depth):
            median = float(depth.median())
            self._depth_scale = median if not self._depth_scale else 0.95 * self._depth_scale + 0.05 * median
        half_size = torch.tensor([view.camera.width / 2, view.camera.height / 2], device=depth.device)
        self._gradient[active] += (screen.means2d_gradient * half_size).norm(dim=1)
        self._seen[active] += screen.radii > 0

    def densify(self) -> torch.Tensor:
        """Remove faint Gaussians, split where the screen gradient since the last call was high; return ``origin``."""
        scene, config = self.scene, self.config
        keep = scene.opacities > MIN_OPACITY
        keep &= torch.isfinite(scene.means.sum(1) + scene.quats.sum(1) + scene.log_scales.exp().sum(1))
        excess = int(keep.sum()) - config.max_gaussians
        if excess > 0:  # seeds were added to a full scene
            keep[torch.where(keep, scene.opacities, torch.inf).topk(excess, largest=False).indices] = False
        origin = scene.prune(keep)
        self.edit(origin)

        mean_gradient = self._gradient / self._seen.clamp_min(1)
        wanted = mean_gradient > config.densify_gradient
        room = config.max_gaussians - len(scene)
        if room < int(wanted.sum()):
            wanted = torch.zeros_like(wanted)
            wanted[mean_gradient.topk(max(room, 0)).indices] = True
        split = scene.split(wanted)
        self.edit(split)
        self._gradient.zero_()
        self._seen.zero_()
        return origin[split]


def in_view(camera: PosedCamera, means: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """(N,) bool, False for balls of radius ``reach`` (N,) around ``means`` (N, 3), world, that ``camera`` does not see.

    Some that it does not see, just outside the corners, are True as well.
    """
    lens = camera.intrinsics
    x, y, z = camera.viewmat[:3, :3] @ means.T + camera.viewmat[:3, 3:]  # rows, each in one piece
    seen = z > -reach
    for along, focal, centre, size in ((x, lens.fx, lens.cx, lens.width), (y, lens.fy, lens.cy, lens.height)):
        for pixels in (centre, size - centre):  # from the axis to the two planes that bound the view
            slope = (pixels + BLUR) / focal
            # the distance inwards from the plane, (along + slope z) / (1 + slope^2)^(1/2), is more than -reach
            seen &= torch.add(along, z, alpha=slope).add_(reach, alpha=(1 + slope**2) ** 0.5) > 0
            along = -along
    return seen
