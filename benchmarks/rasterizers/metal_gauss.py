"""The torch rasterizer that metal-gauss 0.2.1 tests its Metal kernels with: pip install metal-gauss. 3 channels."""

from __future__ import annotations

import torch
from metal_gauss.torch_ref import render


def rasterize(
    means: torch.Tensor,
    quats: torch.Tensor,
    scales: torch.Tensor,
    opacities: torch.Tensor,
    channels: torch.Tensor,
    viewmat: torch.Tensor,
    K: torch.Tensor,
    width: int,
    height: int,
) -> tuple[torch.Tensor, torch.Tensor, None]:
    image, alpha, _ = render(
        means, quats, scales, opacities, None, K, viewmat, width, height, colors=channels, background=None, tile=16
    )
    return image, alpha, None
