"""Interactive segmentation (OmniSeg3D, 3.4): what is as similar to a click as a threshold demands.

A high threshold selects a part, a low one the whole it belongs to. Features are unit embeddings of Gaussians (N, d),
those of methods that are ``HasUnitFeatures``. A click is the unit feature (d,) at a pixel or a point; several clicks
(C, d) select what is similar to any of them.
"""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from lift_ros.lifting.parts import connected_parts
from lift_ros.render import BlendWeights
from lift_ros.scene.neighbours import Neighbours


def click_pixel(features: torch.Tensor, weights: BlendWeights, row: int) -> torch.Tensor:
    """The feature (d,) that shows at a pixel: row ``row`` of the blend weights of an image."""
    index = torch.tensor([row], device=features.device)
    return normalize(weights.rows(index).matmul(features), dim=1)[0]


def click_point(features: torch.Tensor, means: torch.Tensor, point: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The feature (d,) of the Gaussian nearest to ``point`` (3,), of those at ``means`` (N, 3), and which it is."""
    nearest = int((means - point).square().sum(1).argmin())
    return features[nearest], nearest


def similarity(features: torch.Tensor, clicks: torch.Tensor) -> torch.Tensor:
    """(N,) the score field: cosine similarity of ``features`` (N, d) to the most similar of the ``clicks`` (C, d)."""
    return (features @ clicks.T).amax(1)


def select_gaussians(features: torch.Tensor, clicks: torch.Tensor, threshold: float) -> torch.Tensor:
    """(N,) bool, the Gaussians whose similarity to a click exceeds ``threshold``."""
    return similarity(features, clicks) > threshold


def grow_region(selected: torch.Tensor, seeds: torch.Tensor, neighbours: Neighbours) -> torch.Tensor:
    """Region growing: the ``selected`` Gaussians (N,) bool that hang together with one of the ``seeds`` (S,) int64.

    Look-alikes elsewhere fall away. Seeds that are not selected grow nothing.
    """
    part = torch.from_numpy(connected_parts(neighbours, selected.cpu().numpy())).to(selected.device)
    return selected & torch.isin(part, part[seeds[selected[seeds]]])
