"""A slow, dense, differentiable reference of the rasterizer in plain torch, in the precision of its inputs.

Every Gaussian is evaluated at every pixel; projection and compositing as in gsplat's "classic" mode.
"""

from __future__ import annotations

import torch

from lift_ros.camera import PosedCamera
from lift_ros.render import Splats


def rotation_matrices(quats: torch.Tensor) -> torch.Tensor:
    """(N, 4) wxyz -> (N, 3, 3)."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def project(splats: Splats, camera: PosedCamera) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """2D means (N, 2), inverse 2D covariances (N, 2, 2) and depths (N,)."""
    k = camera.intrinsics
    W, t = camera.viewmat[:3, :3], camera.viewmat[:3, 3]
    p = splats.means @ W.T + t
    z = torch.where(p[:, 2] > 0.01, p[:, 2], torch.ones_like(p[:, 2]))
    x, y = p[:, 0] / z, p[:, 1] / z
    margin_x, margin_y = 0.15 * k.width / k.fx, 0.15 * k.height / k.fy
    u = x.clamp(-k.cx / k.fx - margin_x, (k.width - k.cx) / k.fx + margin_x)
    v = y.clamp(-k.cy / k.fy - margin_y, (k.height - k.cy) / k.fy + margin_y)
    zero = torch.zeros_like(z)
    J = torch.stack(
        [torch.stack([k.fx / z, zero, -k.fx * u / z], -1), torch.stack([zero, k.fy / z, -k.fy * v / z], -1)], -2
    )
    A = J @ W @ (rotation_matrices(splats.quats) * splats.scales[:, None, :])
    covariance = A @ A.transpose(-1, -2) + 0.3 * torch.eye(2, dtype=A.dtype)
    return torch.stack([k.fx * x + k.cx, k.fy * y + k.cy], -1), torch.linalg.inv(covariance), p[:, 2]


def weights(
    splats: Splats, camera: PosedCamera, means2d_offset: torch.Tensor | float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend weights (H W, N), pixels row-major, and depths (N,)."""
    means2d, conics, z = project(splats, camera)
    means2d = means2d + means2d_offset
    front_to_back = torch.argsort(z.detach().float(), stable=True)
    rows, columns = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    pixels = torch.stack([columns, rows], -1).reshape(-1, 2).to(means2d.dtype) + 0.5
    d = pixels[:, None] - means2d[front_to_back]
    sigma = 0.5 * torch.einsum("pni,nij,pnj->pn", d, conics[front_to_back], d)
    alpha = (splats.opacities[front_to_back] * torch.exp(-sigma)).clamp(max=0.999)
    drawn = (alpha >= 1 / 255) & (sigma >= 0) & (z[front_to_back] > 0.01)
    alpha = torch.where(drawn, alpha, 0)
    after = torch.cumprod(1 - alpha, 1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], 1)
    blended = torch.where(after > 1e-4, alpha * before, 0)
    return torch.zeros_like(blended).index_copy(1, front_to_back, blended), z


def rasterize(
    splats: Splats, channels: torch.Tensor, camera: PosedCamera, means2d_offset: torch.Tensor | float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Image (H, W, C), alpha (H, W), expected depth (H, W)."""
    w, z = weights(splats, camera, means2d_offset)
    alpha = w.sum(1)
    depth = (w @ z) / alpha.clamp(min=1e-10)
    shape = camera.height, camera.width
    return (w @ channels).reshape(*shape, -1), alpha.reshape(shape), depth.reshape(shape)
