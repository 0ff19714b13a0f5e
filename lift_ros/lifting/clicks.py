"""Interactive segmentation (OmniSeg3D, 3.4): what is as similar to a click as a threshold demands.

A high threshold selects a part, a low one the whole it belongs to. A click is a row of blend weights: the Gaussians
that show at a pixel, or the one nearest to a point. Several clicks select what is similar to any of them. How similar
that is, lifting methods tell that are ``Clickable``.
"""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from lift_ros.evidence.parts import connected_parts
from lift_ros.render import BlendWeights
from lift_ros.scene.neighbours import Neighbours


def nearest_gaussian(means: torch.Tensor, point: torch.Tensor) -> int:
    """Which of the Gaussians at ``means`` (N, 3) is nearest to ``point`` (3,)."""
    return int((means - point).square().sum(1).argmin())


def similarity(features: torch.Tensor, clicked: BlendWeights) -> torch.Tensor:
    """(N,) cosine similarity of unit ``features`` (N, d) to what shows at the most similar of the clicks (C, N).

    What shows at a click is blended of unit features here, while training blends raw ones, of any length.
    """
    cosines = features @ normalize(clicked.matmul(features), dim=1).T
    return cosines.amax(1).clamp(-1, 1)  # rounding takes what is the same above 1


def grow_region(selected: torch.Tensor, seeds: torch.Tensor, neighbours: Neighbours) -> torch.Tensor:
    """Region growing: the ``selected`` Gaussians (N,) bool that hang together with one of the ``seeds`` (S,) int64.

    Look-alikes elsewhere fall away. Seeds that are not selected grow nothing.
    """
    part = torch.from_numpy(connected_parts(neighbours, selected.cpu().numpy())).to(selected.device)
    return selected & torch.isin(part, part[seeds[selected[seeds]]])
