"""Structural similarity as a loss, with its gradient written out: less filtering than autograd would do.

Of images on the CPU it is part of ``render.cpu.view_losses``.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F

_RADIUS = 5
WINDOW = 2 * _RADIUS + 1  # pixels; both sides of an image must have as many
_C1, _C2 = 0.01**2, 0.03**2
_TAPS = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / 1.5) ** 2)
_TAPS /= _TAPS.sum()


def ssim(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Mean SSIM (Wang et al. 2004) of (H, W, C) images in [0, 1], differentiable in ``image``.

    Gaussian window of ``WINDOW`` taps, sigma 1.5; only pixels whose window lies inside the image count, so both sides
    must be at least ``WINDOW`` pixels.
    """
    if image.shape != reference.shape or min(image.shape[:2]) < WINDOW:
        raise ValueError(
            f"ssim needs two (H, W, C) images of one size, at least {WINDOW}x{WINDOW} pixels, "
            f"got {tuple(image.shape)} and {tuple(reference.shape)}"
        )
    return _Ssim.apply(image, reference.detach())


class _Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        x, y = image, reference
        mu_x, mu_y, squares, xy = _blur(torch.cat([x, y, x * x + y * y, x * y], dim=-1)).chunk(4, dim=-1)
        mu_xy, mu_squares = mu_x * mu_y, mu_x * mu_x + mu_y * mu_y
        a1, b1 = 2 * mu_xy + _C1, mu_squares + _C1
        a2, b2 = 2 * (xy - mu_xy) + _C2, squares - mu_squares + _C2
        score = a1 * a2 / (b1 * b2)
        if ctx.needs_input_grad[0]:
            # partial derivatives by E[x], E[x^2], E[xy], which are linear in the image
            by_mu = 2 * (mu_y * (a2 - a1) / (b1 * b2) + score * mu_x * (1 / b2 - 1 / b1))
            ctx.save_for_backward(x, y, torch.cat([by_mu, -score / b2, 2 * a1 / (b1 * b2)], dim=-1))
            ctx.count = score.numel()
        return score.mean()

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        x, y, partials = ctx.saved_tensors
        border = (0, 0) + (2 * _RADIUS,) * 4  # the transpose of filtering without padding is filtering with all of it
        by_mu, by_xx, by_xy = _blur(F.pad(partials, border)).chunk(3, dim=-1)
        return (by_mu + 2 * x * by_xx + y * by_xy) * (grad / ctx.count), None


def _blur(x: torch.Tensor) -> torch.Tensor:
    """(H, W, C) -> (H - 10, W - 10, C)."""
    taps = _taps(x.dtype, x.device)
    planes = x.permute(2, 0, 1)[:, None]
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # ten bits are too few for a difference of squares
        planes = F.conv2d(F.conv2d(planes, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    return planes[:, 0].permute(1, 2, 0)


@functools.cache
def _taps(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The window on ``device``: made once, since nothing may be copied there while a CUDA graph is captured."""
    return torch.tensor(_TAPS, dtype=dtype, device=device)
