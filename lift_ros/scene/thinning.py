"""Room in a full scene: what lies far off gets coarser, so that new ground can be mapped.

What is thinned looks the same from where the camera is now. It is thinned by less than that would allow: in ever new
rooms of one size, the Gaussians that a room keeps fall with the square root of its distance, not with the square. So
what is left behind takes more and more of the budget, but its objects stay apart.
"""

from __future__ import annotations

import torch

from lift_ros.camera import PosedCamera
from lift_ros.scene.gaussians import GaussianScene

FINE = 0.5  # pixels: Gaussians that look smaller from where the camera is can be coarser


def thinned(
    scene: GaussianScene, camera: PosedCamera, count: int, ids: torch.Tensor, spare: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which Gaussians may go, and which are to cover for them: see ``GaussianScene.thin``.

    Of those that are smallest, in world units over the fourth root of the distance from ``camera``, every second goes.

    Args:
        count: how many to remove; fewer where too few look smaller than ``FINE``.
        ids: (N,) object of each, 0 for none.
        spare: Gaussians below which no object falls.

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
