"""Contrastive clustering: pixels of a mask draw near its mean feature and away from those of the view's other masks.

The loss that OmniSeg3D took from Li et al., "Prototypical Contrastive Learning" (ICLR 2021), and Unified-Lift from it:
OmniSeg3D eq. 5, Unified-Lift eq. 1. Features are on or near the unit sphere.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from lift_ros.lifting.training import rows

ALPHA = 10.0  # of phi, keeps it small for small clusters
PHI_SCALE, PHI_RANGE = 10.0, (0.1, 1.0)  # bare, phi is near 0.02, and the softmax is a maximum


class Clusters(NamedTuple):
    """Pixel features by the mask they lie in.

    Attributes:
        means: (M, d), 0 for clusters without pixels.
        sizes: (M,) int64.
        temperatures: (M,), constants.
    """

    means: torch.Tensor
    sizes: torch.Tensor
    temperatures: torch.Tensor

    @classmethod
    def of(cls, features: torch.Tensor, index: torch.Tensor, count: int) -> Clusters:
        """Of ``features`` (P, d) in clusters ``index`` (P,) int64 in [0, count).

        The temperature is that of OmniSeg3D, 3.2: phi_i = sum_j ||f_j - mean_i|| / (n_i log(n_i + alpha)), alpha = 10.
        As in the code that was published with it, it is scaled by 10, kept within 0.1 and 1, and carries no gradient.
        """
        sizes = torch.bincount(index, minlength=count)
        n = sizes.clamp_min(1).to(features.dtype)
        means = features.new_zeros(count, features.shape[1]).index_add(0, index, features) / n[:, None]
        with torch.no_grad():
            spread = (features - rows(means, index)).norm(dim=1)
            phi = features.new_zeros(count).index_add(0, index, spread) / (n * torch.log(n + ALPHA))
        return cls(means, sizes, (PHI_SCALE * phi).clamp(*PHI_RANGE))

    def log_softmax(self, features: torch.Tensor) -> torch.Tensor:
        """(P, d) -> (M, P) logarithm of the softmax over clusters l of sim(F_u, mean_l) = F_u . mean_l / phi_l, minus
        infinity for clusters without pixels.

        Clusters come first: along a last axis this short the softmax takes twenty times as long.
        """
        absent = torch.where(self.sizes > 0, 0.0, -torch.inf).to(features.dtype)
        scaled = self.means / self.temperatures[:, None]
        return torch.log_softmax(torch.addmm(absent[:, None], scaled, features.T), dim=0)


def contrastive_loss(features: torch.Tensor, index: torch.Tensor, clusters: Clusters) -> torch.Tensor:
    """Unified-Lift eq. 1: mean over pixels of -log(exp sim(F_u, mean_j) / sum_l exp sim(F_u, mean_l)).

    Args:
        features: (P, d), P > 0.
        index: (P,) int64, the cluster j of each pixel.
        clusters: ``Clusters.of(features, index, count)``.
    """
    return -clusters.log_softmax(features).gather(0, index[None]).mean()


def norm_loss(features: torch.Tensor) -> torch.Tensor:
    """OmniSeg3D eq. 9: mean of (||f|| - 1)^2 over (P, d). Blending shortens features, and the dot product sees it."""
    return (features.norm(dim=1) - 1).square().mean()
