"""Room in a full scene: distant parts get coarser, so that new ground can be mapped.

What is thinned looks the same from where the camera is now. It is thinned less than that would allow: through a series
of rooms of one size, the Gaussians that a room keeps fall with the square root of its distance, not with the square.
Distant rooms thus take a growing share of the budget, but their objects stay apart.
"""

from __future__ import annotations

import torch

from lift_ros.camera import PosedCamera
from lift_ros.scene.gaussians import GaussianScene

FINE = 0.5  # pixels: only Gaussians that look smaller to the camera are thinned


def thinned(
    scene: GaussianScene, camera: PosedCamera, count: int, ids: torch.Tensor, spare: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which Gaussians to remove, and which to enlarge in their place: see ``GaussianScene.thin``.

    Every second one of the smallest is removed, in world units over the fourth root of the distance from ``camera``.

    Args:
        count: how many to remove; fewer if too few look smaller than ``FINE``.
        ids: (N,) object of each, 0 for none.
        spare: no object is thinned below this number of Gaussians.

    Returns:
        gone (N,) and cover (N,), bool.
    """
    distance = (scene.means @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]).norm(dim=1)
    size = camera.intrinsics.fx * scene.log_scales.amax(1).exp() / distance.clamp_min(1e-9)
    large = (ids == 0) | (torch.bincount(ids)[ids] >= 2 * spare)
    fine = (large & (size < FINE)).nonzero().squeeze(1)
    first = (size * distance.pow(0.75))[fine].topk(min(2 * count, len(fine)), largest=False).indices
    fine = fine[first].sort().values
    # in the order of the objects, and there of the planting: neighbours take turns
    fine = fine[torch.argsort(ids[fine], stable=True)]
    gone, cover = (torch.zeros(len(scene), dtype=torch.bool, device=scene.device) for _ in range(2))
    gone[fine[1::2]] = True
    cover[fine[: len(fine) // 2 * 2 : 2]] = True
    return gone, cover
