"""Mitsuba 3.9.1, which traces rays through Gaussians on the CPU: pip install mitsuba, and LLVM 16 or newer.

Where its libLLVM.so is not found, DRJIT_LIBLLVM_PATH names it. One ray a pixel, at random within it, and each Gaussian
counts with its peak along the ray: close to splats, but not the same. Three channels; no alpha, no depth.
"""

from __future__ import annotations

import math

import mitsuba as mi
import torch

mi.set_variant("llvm_ad_rgb")
import drjit as dr  # noqa: E402 (drjit's LLVM backend starts with the variant)

SH_0 = 0.28209479177387814  # the constant spherical harmonic, which a colour less 0.5 is divided by
ARRAYS = ["data", "opacities", "sh_coeffs"]  # data: centres, scales and quaternions xyzw


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, data, opacities, sh_coeffs, viewmat, K, width, height):
        dr.set_thread_count(torch.get_num_threads())
        centers, scales, quats = (mi.TensorXf(t.contiguous().numpy()) for t in data.detach().split([3, 3, 4], 1))
        to_world = torch.linalg.inv(viewmat) @ torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0]))
        ctx.scene = mi.load_dict(
            {
                "type": "scene",
                "integrator": {"type": "volprim_rf_basic", "srgb_primitives": False},
                "gaussians": {
                    "type": "ellipsoids",
                    "centers": centers,
                    "scales": scales,
                    "quaternions": quats,
                    "opacities": mi.TensorXf(opacities.detach().numpy()),
                    "sh_coeffs": mi.TensorXf(sh_coeffs.detach().numpy()),
                },
                "sensor": {
                    "type": "perspective",
                    "fov": math.degrees(2 * math.atan(width / 2 / float(K[0, 0]))),
                    "fov_axis": "x",
                    "to_world": mi.ScalarTransform4f(to_world.numpy()),
                    "film": {"type": "hdrfilm", "width": width, "height": height, "rfilter": {"type": "box"}},
                },
            }
        )
        ctx.shapes = [t.shape for t in (data, opacities, sh_coeffs)]
        return torch.from_numpy(mi.render(ctx.scene, spp=1).numpy()[..., :3].copy())

    @staticmethod
    def backward(ctx, gradient):
        parameters = mi.traverse(ctx.scene)
        arrays = [parameters[f"gaussians.{name}"] for name in ARRAYS]
        for array in arrays:
            dr.enable_grad(array)
        parameters.update()
        image = mi.render(ctx.scene, parameters, spp=1)
        dr.backward(dr.sum(image * mi.TensorXf(gradient.numpy()), axis=None))
        gradients = [torch.from_numpy(dr.grad(array).numpy()) for array in arrays]
        return *(g.reshape(shape) for g, shape in zip(gradients, ctx.shapes, strict=True)), None, None, None, None


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
) -> tuple[torch.Tensor, None, None]:
    quats = torch.nn.functional.normalize(quats, dim=1)
    data = torch.cat([means, scales, quats[:, 1:], quats[:, :1]], 1)
    sh_coeffs = (channels - 0.5) / SH_0
    return _Rasterize.apply(data, opacities[:, None], sh_coeffs, viewmat, K, width, height), None, None
