"""Correction of camera poses by direct image alignment: poses that are off by a few pixels blur the scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.render import Rendering
from lift_ros.resampling import any_of

WORK_WIDTH = 160  # of the images that are aligned: finer ones narrow the basin of convergence
HUBER = 0.05  # residuals in units of image intensity beyond which a pixel counts less
MAX_ANGLE = 0.02  # bound of a step: rotation in radians, translation as a share of the median depth


def alignment_step(
    rendering: Rendering, image: torch.Tensor, camera: PosedCamera, ignored: NDArray[np.bool_] | None = None
) -> NDArray[np.float64] | None:
    """One Gauss-Newton step of the photometric error of ``image`` (H, W, 3) against the scene rendered from ``camera``.

    The linearisation is that of direct odometry (Kerl et al. 2013) with the mean of both images' gradients (ESM,
    Benhimane and Malis 2004). Brightness is compared after both images were brought to the same mean and spread; pixels
    that are ``ignored`` (H, W) are not.

    Returns:
        (6,) twist (translation, rotation) in the camera frame: the better world-to-camera transform is
        ``rigid_exp(twist) @ camera.viewmat``. None where the image does not determine it.
    """
    intrinsics = camera.intrinsics.at_width(WORK_WIDTH)
    size = (intrinsics.width, intrinsics.height)
    rendered, depth, alpha = (
        cv2.resize(x.detach().cpu().numpy(), size, interpolation=cv2.INTER_AREA)
        for x in (rendering.image, rendering.depth, rendering.alpha)
    )
    seen = cv2.resize(image.cpu().numpy(), size, interpolation=cv2.INTER_AREA)
    valid = (alpha > 0.9) & (depth > 0)
    if ignored is not None:  # and what lies beside, whose gradients they are part of
        valid &= cv2.dilate(any_of(ignored, *valid.shape).astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    if valid.sum() < 0.2 * valid.size:
        return None
    a, b = (_normalised(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), valid) for x in (seen, rendered))
    both = 0.5 * (a + b)
    gx, gy = cv2.Scharr(both, cv2.CV_32F, 1, 0)[valid] / 32, cv2.Scharr(both, cv2.CV_32F, 0, 1)[valid] / 32
    points = intrinsics.unproject(depth)[valid].astype(np.float64)
    x, y, z = points.T
    # the derivative of the intensity by a displacement of the point, then by the twist that causes it
    by_x, by_y = gx * intrinsics.fx / z, gy * intrinsics.fy / z
    by_point = np.stack([by_x, by_y, -(by_x * x + by_y * y) / z], axis=1)
    J = np.concatenate([by_point, np.cross(points, by_point)], axis=1)
    residual = (b - a)[valid].astype(np.float64)
    weight = 1 / np.maximum(1, np.abs(residual) / HUBER)
    unit = float(np.median(z))
    J[:, :3] *= unit
    information = (J * weight[:, None]).T @ J
    damping = 1e-3 * np.trace(information) / 6
    if not 0 < damping < np.inf:
        return None
    step = np.linalg.solve(information + damping * np.eye(6), (J * weight[:, None]).T @ residual)
    step *= min(1.0, MAX_ANGLE / max(np.abs(step).max(), 1e-12))
    step[:3] *= unit
    return step


def align(
    render: Callable[[PosedCamera], Rendering],
    image: torch.Tensor,
    camera: PosedCamera,
    steps: int,
    ignored: NDArray[np.bool_] | None = None,
) -> PosedCamera:
    """``camera`` after up to ``steps`` alignment steps of its ``image`` (H, W, 3) against what ``render`` shows."""
    for _ in range(steps):
        step = alignment_step(render(camera), image, camera, ignored)
        if step is None:
            break
        camera = moved(camera, step)
    return camera


def moved(camera: PosedCamera, step: NDArray[np.float64]) -> PosedCamera:
    """``camera`` moved by an ``alignment_step``."""
    return _with_viewmat(camera, rigid_exp(step) @ _viewmat(camera))


def corrected(camera: PosedCamera, twist: NDArray[np.float64]) -> PosedCamera:
    """``camera`` moved by a world-frame ``twist`` (6,): its pose becomes ``rigid_exp(twist) @ T_world_camera``."""
    return _with_viewmat(camera, _viewmat(camera) @ np.linalg.inv(rigid_exp(twist)))


class PoseCorrections:
    """A rigid correction per frame in the world frame, with a mean of zero over all frames, including forgotten ones.

    Photometric training cannot tell a moved scene from moved cameras; the mean is the gauge that keeps the scene in
    the world frame of the given poses. If the scene is older than the frames (``anchored``), it is the gauge itself.
    """

    def __init__(self, anchored: bool = False) -> None:
        self._anchored = anchored
        self._twists: dict[int, NDArray[np.float64]] = {}
        self._sum, self._count = np.zeros(6), 0  # over all frames, also those forgotten

    def forget(self, index: int) -> None:
        """Forget a frame that will not be asked for again; the corrections of the others stay."""
        self._twists.pop(index, None)

    def twist(self, index: int) -> NDArray[np.float64]:
        """(6,) world-frame twist (translation, rotation) of a frame, from its neighbours if it was never aligned."""
        if not self._twists:
            return np.zeros(6)
        if index in self._twists:
            raw = self._twists[index]
        else:
            before = max((i for i in self._twists if i < index), default=None)
            after = min((i for i in self._twists if i > index), default=None)
            raw = np.mean([self._twists[i] for i in (before, after) if i is not None], axis=0)
        return raw - self._mean()

    def apply(self, index: int, camera: PosedCamera) -> PosedCamera:
        """``camera`` with the correction of frame ``index``; unchanged if no frame was ever aligned."""
        return corrected(camera, self.twist(index)) if self._twists else camera

    def pose(self, index: int, T_world_camera: NDArray[np.float64]) -> NDArray[np.float64]:
        """(4, 4) ``T_world_camera`` of frame ``index`` corrected."""
        return rigid_exp(self.twist(index)) @ T_world_camera

    def update(self, index: int, given: PosedCamera, found: PosedCamera) -> None:
        """Set the correction of frame ``index`` to what takes its ``given`` camera to the one that was ``found``."""
        # V_found = V_given C^-1, so C = V_found^-1 V_given
        twist = rigid_log(np.linalg.inv(_viewmat(found)) @ _viewmat(given)) + self._mean()
        self._count += index not in self._twists
        self._sum += twist - self._twists.get(index, np.zeros(6))
        self._twists[index] = twist

    def _mean(self) -> NDArray[np.float64]:
        return np.zeros(6) if self._anchored or not self._count else self._sum / self._count


@dataclass(frozen=True)
class CorrectionTrack:
    """Corrections of keyframes over time, for the frames between them. Immutable.

    Attributes:
        stamps: (K,) seconds, ascending.
        twists: (K, 6), see ``PoseCorrections.twist``.
    """

    stamps: NDArray[np.float64]
    twists: NDArray[np.float64]

    @classmethod
    def of(cls, stamps: Sequence[float], twists: Sequence[NDArray[np.float64]]) -> CorrectionTrack:
        """Of keyframes in any order."""
        order = np.argsort(stamps, kind="stable")
        return cls(np.array(stamps, np.float64)[order], np.array(twists, np.float64).reshape(-1, 6)[order])

    def at(self, stamp: float) -> NDArray[np.float64]:
        """(6,) twist, interpolated between the keyframes before and after; that of the first or last outside them."""
        if not len(self.stamps):
            return np.zeros(6)
        return np.array([np.interp(stamp, self.stamps, column) for column in self.twists.T])


def rigid_exp(twist: NDArray) -> NDArray[np.float64]:
    """(6,) translation and rotation vector -> (4, 4), the translation applied as it is."""
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.asarray(twist[3:], np.float64))[0]
    T[:3, 3] = twist[:3]
    return T


def rigid_log(T: NDArray) -> NDArray[np.float64]:
    """Inverse of ``rigid_exp``."""
    return np.concatenate([T[:3, 3], cv2.Rodrigues(T[:3, :3])[0].ravel()])


def _normalised(gray: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    mean, spread = gray[valid].mean(), gray[valid].std()
    return (gray - mean) * (0.2 / max(spread, 1e-3))


def _viewmat(camera: PosedCamera) -> NDArray[np.float64]:
    return camera.viewmat.detach().cpu().numpy().astype(np.float64)


def _with_viewmat(camera: PosedCamera, viewmat: NDArray[np.float64]) -> PosedCamera:
    return replace(camera, viewmat=torch.as_tensor(viewmat, dtype=torch.float32).to(camera.viewmat.device))
