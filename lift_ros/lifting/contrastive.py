"""Contrastive clustering: pixels of a mask draw near its mean feature and away from those of the view's other masks.

The loss that OmniSeg3D took from Li et al., "Prototypical Contrastive Learning" (ICLR 2021), and Unified-Lift from it:
OmniSeg3D eq. 5, Unified-Lift eq. 1. Features are on or near the unit sphere.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from lift_ros.lifting import steps
from lift_ros.lifting.training import rows

ALPHA = 10.0  # of phi, keeps it small for small clusters
PHI_SCALE, PHI_RANGE = 10.0, (0.1, 1.0)  # bare, phi is near 0.02, and the softmax is a maximum


class Groups(NamedTuple):
    """Which pixels are a cluster. It stays so from step to step, and what follows from it is computed once.

    Attributes:
        index: (P,) int64 cluster of each pixel.
        sizes: (M,) pixels of each cluster, at least 1.
        weight: (M,) the denominator of phi: n log(n + alpha).
        absent: (M, 1) logarithm of whether there are pixels at all: 0 or minus infinity.
    """

    index: torch.Tensor
    sizes: torch.Tensor
    weight: torch.Tensor
    absent: torch.Tensor

    @classmethod
    def of(cls, index: torch.Tensor, count: int, dtype: torch.dtype = torch.float32) -> Groups:
        """Of ``index`` (P,) int64 in [0, count), for features of the type ``dtype``."""
        n = torch.bincount(index, minlength=count).to(dtype)
        sizes = n.clamp_min(1)
        return cls(
            index, sizes, sizes * torch.log(sizes + ALPHA), torch.where(n > 0, 0.0, -torch.inf).to(dtype)[:, None]
        )


class Clusters(NamedTuple):
    """Pixel features by the mask they lie in.

    Attributes:
        groups: the clusters.
        means: (M, d), 0 for clusters without pixels. Where ``steps`` computed them, they carry no gradient: the losses
            below know what goes through them.
        temperatures: (M,), constants.
    """

    groups: Groups
    means: torch.Tensor
    temperatures: torch.Tensor

    @classmethod
    def of(cls, features: torch.Tensor, groups: Groups) -> Clusters:
        """Of ``features`` (P, d) in clusters.

        The temperature is that of OmniSeg3D, 3.2: phi_i = sum_j ||f_j - mean_i|| / (n_i log(n_i + alpha)), alpha = 10.
        As in the code that was published with it, it is scaled by 10, kept within 0.1 and 1, and carries no gradient;
        its authors' later code for Gaussians, and Unified-Lift's, keeps it within 0.5 and 1.
        """
        index, n = groups.index, groups.sizes
        if steps.fits(features):
            return cls(groups, *steps.clusters(features, index, n, groups.weight, PHI_SCALE, PHI_RANGE))
        means = features.new_zeros(len(n), features.shape[1]).index_add(0, index, features) / n[:, None]
        with torch.no_grad():
            spread = (features - rows(means, index)).norm(dim=1)
            phi = torch.zeros_like(n).index_add(0, index, spread) / groups.weight
        return cls(groups, means, (PHI_SCALE * phi).clamp(*PHI_RANGE))

    def log_softmax(self, features: torch.Tensor) -> torch.Tensor:
        """(P, d) -> (M, P) logarithm of the softmax over clusters l of sim(F_u, mean_l) = F_u . mean_l / phi_l, minus
        infinity for clusters without pixels.

        Clusters come first: along a last axis this short the softmax takes twenty times as long.
        """
        scaled = self.means / self.temperatures[:, None]
        return torch.log_softmax(torch.addmm(self.groups.absent, scaled, features.T), dim=0)


def contrastive_loss(features: torch.Tensor, clusters: Clusters) -> torch.Tensor:
    """Unified-Lift eq. 1: mean over pixels of -log(exp sim(F_u, mean_j) / sum_l exp sim(F_u, mean_l)).

    Args:
        features: (P, d), P > 0.
        clusters: of these features; j is that of each pixel.
    """
    groups = clusters.groups
    if steps.fits(features):
        known = clusters.means, clusters.temperatures
        return steps.contrast(features, groups.index, groups.sizes, groups.absent, *known)
    return -clusters.log_softmax(features).gather(0, groups.index[None]).mean()


def norm_loss(features: torch.Tensor) -> torch.Tensor:
    """OmniSeg3D eq. 9: mean of (||f|| - 1)^2 over (P, d). Blending shortens features, and the dot product sees it."""
    return (features.norm(dim=1) - 1).square().mean()
