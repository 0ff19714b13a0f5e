"""What the rasterizers take and return, on either device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch


class Rendering(NamedTuple):
    """One rendered view.

    Attributes:
        image: (H, W, C) blended channels, sum_i w_i f_i, on a background of zeros.
        alpha: (H, W) sum_i w_i, in [0, 1).
        depth: (H, W) expected z-depth, sum_i w_i z_i / alpha, in the unit of the means; 0 where alpha is 0.
    """

    image: torch.Tensor
    alpha: torch.Tensor
    depth: torch.Tensor


@dataclass
class ScreenStatistics:
    """What densification wants to know of the Gaussians as they appear in one rendering.

    Pass an empty one to ``rasterize``.

    Attributes:
        radii: (N,) float32, pixels from the centre to where alpha falls below 1/255; 0 for Gaussians not drawn. Set
            by the forward pass.
        means2d_gradient: (N, 2) gradient of the loss with respect to the projected means, in 1 / pixel; 0 for
            Gaussians not drawn. Set by the backward pass, each time anew.
    """

    radii: torch.Tensor | None = None
    means2d_gradient: torch.Tensor | None = None
