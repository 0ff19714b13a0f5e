"""How far what a view shows has moved in it: that is how much of its blend weights have come to other Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.scene.gaussians import heirs

PER_VIEW = 64
FAR = 8.0  # pixels; what has moved farther is somewhere else


@dataclass(frozen=True)
class Landmarks:
    """Some of the Gaussians that a view showed, and where.

    Attributes:
        gaussian: (S,) int64, each for the same share of what the view showed.
        position: (S, 2) of their means in it, as the slope of the ray to each.
        lost: how many more there were that have been removed from the scene.
    """

    gaussian: NDArray[np.int64]
    position: NDArray[np.float64]
    lost: int = 0

    @classmethod
    def of(cls, evidence: MaskEvidence, means: NDArray[np.float32], camera: PosedCamera) -> Landmarks:
        """Of the Gaussians at ``means`` (N, 3), world, as ``camera`` sees them and ``evidence`` has it."""
        reached = evidence.weight.cumsum(dtype=np.float64)
        every = reached[-1:] * (np.arange(PER_VIEW) + 0.5) / PER_VIEW if len(reached) else reached
        gaussian = evidence.gaussian[np.searchsorted(reached, every)].astype(np.int64)
        viewmat = camera.viewmat.cpu().numpy()
        return cls(gaussian, _slopes(means[gaussian] @ viewmat[:3, :3].T + viewmat[:3, 3]))

    def follow(self, origin: torch.Tensor) -> Landmarks:
        """Those that are left after an edit of the scene (see ``GaussianScene``), ``origin`` on the CPU."""
        entry, heir = (t.numpy() for t in heirs(torch.from_numpy(self.gaussian), origin))
        gone = len(self.gaussian) - len(np.unique(entry))
        return Landmarks(heir, self.position[entry], self.lost + gone)


def movement(
    landmarks: Sequence[Landmarks], means: NDArray[np.float32], cameras: Sequence[PosedCamera]
) -> NDArray[np.float64]:
    """(K,) pixels by which the ``landmarks`` of each view have moved in it, on average: because the scene did, whose
    Gaussians now lie at ``means`` (N, 3), or the pose that its camera is taken to have had. Those that are lost have
    moved ``FAR``. 0 for a view without any.
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
