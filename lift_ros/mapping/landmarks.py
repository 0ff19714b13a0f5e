"""Image-space motion of the Gaussians a keyframe shows since its blend weights were computed.

The farther they have moved, the more of those weights now belong to other Gaussians.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.scene.gaussians import heirs

PER_VIEW = 64  # Gaussians that are followed
FAR = 8.0  # pixels; motion counts up to here: beyond, the Gaussian is simply somewhere else


@dataclass(frozen=True)
class Landmarks:
    """A sample of the Gaussians that a view showed, and where in the image.

    Attributes:
        gaussian: (S,) int64, sampled in proportion to their summed blend weights.
        position: (S, 2) x / z and y / z of their means in the camera frame.
        lost: number of sampled Gaussians that have since been removed from the scene.
    """

    gaussian: NDArray[np.int64]
    position: NDArray[np.float64]
    lost: int = 0

    @classmethod
    def of(cls, evidence: MaskEvidence, means: NDArray[np.float32], camera: PosedCamera) -> Landmarks:
        """A sample of ``evidence``, what ``camera`` saw of the Gaussians at ``means`` (N, 3), world frame."""
        reached = evidence.weight.cumsum(dtype=np.float64)
        every = reached[-1:] * (np.arange(PER_VIEW) + 0.5) / PER_VIEW if len(reached) else reached
        gaussian = evidence.gaussian[np.searchsorted(reached, every)].astype(np.int64)
        viewmat = camera.viewmat.cpu().numpy()
        return cls(gaussian, _slopes(means[gaussian] @ viewmat[:3, :3].T + viewmat[:3, 3]))

    def follow(self, origin: torch.Tensor) -> Landmarks:
        """The landmarks after an edit of the scene (see ``GaussianScene``), ``origin`` on the CPU."""
        entry, heir = (t.numpy() for t in heirs(torch.from_numpy(self.gaussian), origin))
        gone = len(self.gaussian) - len(np.unique(entry))
        return Landmarks(heir, self.position[entry], self.lost + gone)


def movement(
    landmarks: Sequence[Landmarks], means: NDArray[np.float32], cameras: Sequence[PosedCamera]
) -> NDArray[np.float64]:
    """(K,) mean motion of the ``landmarks`` in the image of each view, in pixels, 0 for a view without landmarks.

    They move when the scene does, whose Gaussians are now at ``means`` (N, 3), and when the pose of the camera is
    corrected. Lost ones count as moved by ``FAR``.
    """
    count = np.array([len(each.gaussian) for each in landmarks], np.int64)
    lost = np.array([each.lost for each in landmarks], np.int64)
    if not count.any():
        return FAR * (lost > 0)
    view = np.repeat(np.arange(len(count)), count)
    viewmats = np.stack([camera.viewmat.cpu().numpy() for camera in cameras])[view]
    points = means[np.concatenate([each.gaussian for each in landmarks])]
    points = np.einsum("nij,nj->ni", viewmats[:, :3, :3], points) + viewmats[:, :3, 3]
    slopes = np.concatenate([each.position for each in landmarks])
    focal = np.array([(camera.intrinsics.fx, camera.intrinsics.fy) for camera in cameras])[view]
    with np.errstate(invalid="ignore"):
        by = np.linalg.norm(focal * (_slopes(points) - slopes), axis=1)
    by = np.where(points[:, 2] > 0, by, FAR).clip(max=FAR)
    return (np.bincount(view, by, len(count)) + FAR * lost) / (count + lost).clip(min=1)


def _slopes(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n, 2) x / z and y / z of ``points`` (n, 3); not finite at z = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return points[:, :2].astype(np.float64) / points[:, 2:]
