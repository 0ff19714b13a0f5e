"""Random Gaussians in front of a camera, for the rasterizer's tests."""

from __future__ import annotations

import pytest
import torch

from lift_ros.camera import Camera, PosedCamera
from lift_ros.render import Splats

WIDTH, HEIGHT = 50, 37  # no multiple of the tile size


def camera(width: int = WIDTH, height: int = HEIGHT, dtype: torch.dtype = torch.float32) -> PosedCamera:
    """Off-centre principal point, rotated and shifted a little from the origin, looking along z."""
    axis = torch.tensor([0.02, -0.05, 0.1], dtype=torch.float64)
    x, y, z = axis
    skew = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3] = torch.matrix_exp(skew)
    viewmat[:3, 3] = torch.tensor([0.1, -0.05, 0.2])
    intrinsics = Camera(width, height, 0.9 * width, 0.95 * width, 0.52 * width, 0.47 * height)
    return PosedCamera(intrinsics, viewmat.to(dtype))


def gaussians(n: int, channel_count: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    """``n`` Gaussians of 1 to 10 pixels, some outside the image, opacities up to 1 so that pixels saturate."""
    g = torch.Generator().manual_seed(seed)
    z = 1 + 3 * torch.rand(n, generator=g)
    xy = (torch.rand(n, 2, generator=g) - 0.5) * torch.tensor([1.6, 1.2])
    scales = 0.02 + 0.15 * torch.rand(n, 3, generator=g) ** 2
    return {
        "means": torch.cat([xy * z[:, None], z[:, None]], 1),
        "quats": torch.randn(n, 4, generator=g),
        "scales": scales,
        "opacities": 0.02 + 0.98 * torch.rand(n, generator=g),
        "channels": torch.rand(n, channel_count, generator=g),
    }


def splats(scene: dict[str, torch.Tensor], kind: torch.dtype | str | None = None) -> Splats:
    """The scene without its channels, on a device or in a precision if one is given."""
    tensors = [scene[name] for name in Splats._fields]
    return Splats(*(tensors if kind is None else (tensor.to(kind) for tensor in tensors)))


def to(scene: dict[str, torch.Tensor], kind: torch.dtype | str) -> dict[str, torch.Tensor]:
    """The scene on a device or in a precision, as leaves that require gradients."""
    return {name: tensor.to(kind, copy=True).requires_grad_() for name, tensor in scene.items()}


def camera_to(view: PosedCamera, kind: torch.dtype | str) -> PosedCamera:
    """The camera on a device or in a precision, its viewmat a leaf that requires gradients."""
    return PosedCamera(view.intrinsics, view.viewmat.to(kind, copy=True).requires_grad_())


DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")),
]
