"""What the rasterizers take and return, on either device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray


class Splats(NamedTuple):
    """N Gaussians as the rasterizers draw them. As of every tuple, its ``len`` is that of its fields, not N.

    Attributes:
        means: (N, 3) centres, world frame.
        quats: (N, 4) rotations wxyz, of any norm but zero.
        scales: (N, 3) standard deviations along the rotated axes, positive, in the unit of the means.
        opacities: (N,) in [0, 1].
    """

    means: torch.Tensor
    quats: torch.Tensor
    scales: torch.Tensor
    opacities: torch.Tensor


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


class Target(NamedTuple):
    """The view that a rendering should show.

    Attributes:
        image: (H, W, 3) RGB in [0, 1].
        depth: (H, W) z-depth, 0 or NaN where unknown; or None.
        gain, bias: (3,) exposure: ``gain`` times the colours of the scene plus ``bias`` are those of ``image``.
    """

    image: torch.Tensor
    depth: torch.Tensor | None
    gain: torch.Tensor
    bias: torch.Tensor


@dataclass
class ScreenStatistics:
    """What densification wants to know of the Gaussians as they appear in one rendering.

    Pass an empty one to ``rasterize``.

    Attributes:
        radii: (N,) float32, pixels from the centre to where alpha falls below 1/255, along the image's rows or columns,
            the larger of the two; 0 for Gaussians not drawn. Set by the forward pass.
        means2d_gradient: (N, 2) gradient of the loss with respect to the projected means, in 1 / pixel; 0 for
            Gaussians not drawn. Set by the backward pass, each time anew.
    """

    radii: torch.Tensor | None = None
    means2d_gradient: torch.Tensor | None = None


class MaskWeights(NamedTuple):
    """What masks of an image show of the Gaussians: triplets, by mask and then by Gaussian.

    Attributes:
        mask: (n,) int32.
        gaussian: (n,) int32.
        weight: (n,) float32, summed blend weight: about a pixel's worth of the Gaussian, in pixels of the camera.
    """

    mask: NDArray[np.int32]
    gaussian: NDArray[np.int32]
    weight: NDArray[np.float32]


def masks_per_pixel(labels: NDArray[np.int32], pixels: int) -> int:
    """k, where ``labels`` (k H, k W) are those of an image of ``pixels`` = H W. Raises ValueError: there is none."""
    k = round((labels.size / max(pixels, 1)) ** 0.5)
    if k < 1 or any(size % k for size in labels.shape) or labels.size != k * k * pixels:
        raise ValueError(f"labels {labels.shape} are no multiple of an image of {pixels} pixels")
    return k
