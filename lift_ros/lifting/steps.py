"""What a step of the embedding methods spends its time on, in C++ (csrc/): chains of small operations of torch, forward
and backward, take several times as long.

For tensors on the CPU in single precision (``fits``). Each loss comes with its gradient, and has its twin of torch
operations beside the equations, in the file of its method, for all other tensors.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch.autograd.function import once_differentiable

from lift_ros.adam import BETA1, EPS
from lift_ros.native import call, load_library, pointer
from lift_ros.render import BlendWeights
from lift_ros.render.library import Adam, best_variant

_INTERFACE = 2  # LIFT_STEPS_INTERFACE of csrc/lift_steps.h


class _Sparse(Structure):
    """``LiftSparse`` of csrc/lift_steps.h."""

    _fields_ = [("rows", c_int64), ("crow", c_void_p), ("col", c_void_p), ("val", c_void_p)]

    @classmethod
    def of(cls, weights: BlendWeights) -> _Sparse:
        """Borrows the memory of the weights."""
        return cls(len(weights.crow) - 1, pointer(weights.crow), pointer(weights.col), pointer(weights.val))


class _Normals(Structure):
    """``LiftNormals`` of csrc/lift_steps.h."""

    _fields_ = [("count", c_int64)] + [
        (name, c_void_p) for name in ("mean", "variance", "mean_gradient", "variance_gradient")
    ]


_PROTOTYPES = {
    "lift_blend": [POINTER(_Sparse), c_void_p, c_int64, c_void_p, c_void_p, c_int],
    "lift_move": [POINTER(_Sparse), c_void_p, c_int64, c_void_p, POINTER(Adam)] + [c_void_p] * 3 + [c_int],
    "lift_joined": [c_int64] * 2 + [c_void_p, c_int64] + [c_void_p] * 3,
    "lift_add_rows": [c_int64] * 2 + [c_void_p] * 3,
    "lift_smoothness": [c_int64] * 3 + [c_void_p] * 5,
    "lift_clusters": [c_int64] * 3 + [c_void_p] * 4 + [c_float] * 3 + [c_void_p] * 2,
    "lift_contrast": [c_int64] * 3 + [c_void_p] * 7 + [c_float] + [c_void_p] * 2,
    "lift_probabilistic_contrast": [POINTER(_Normals), c_int64, c_void_p, c_void_p],
    "lift_concentration": [POINTER(_Normals), c_int64, c_void_p, c_int64, c_void_p],
    "lift_cross_view": [POINTER(_Normals)] * 2 + [c_int64, c_float, c_void_p],
}


def fits(tensor: torch.Tensor) -> bool:
    """Whether the functions below take it: on the CPU and of single precision."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


def blend(weights: BlendWeights, gaussians: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """``weights.matmul(state[gaussians])`` without a gradient, and without a copy of these rows."""
    blended = torch.empty(len(weights.crow) - 1, state.shape[1])
    call(_library().lift_blend, _Sparse.of(weights), gaussians, state.shape[1], state, blended, torch.get_num_threads())
    return blended


def move(
    weights: BlendWeights,
    gaussians: torch.Tensor,
    state: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    gradient: torch.Tensor,
    steps: int,
    rate: float,
    beta2: float,
) -> None:
    """Step number ``steps`` (from 1 on) of Adam on the rows ``gaussians`` (G,) of a value and its moments (N, d), in
    place, where ``gradient`` (P, d) is that of the blended rows."""
    first, second = 1 - BETA1**steps, 1 - beta2**steps
    step = Adam(rate / first, BETA1, beta2, second**-0.5, EPS)
    transposed, gradient, threads = weights.transpose(), gradient.contiguous(), torch.get_num_threads()
    call(_library().lift_move, _Sparse.of(transposed), gaussians, gradient.shape[1], gradient, step, *state, threads)


def joined(gaussians: torch.Tensor, others: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``training.joined``.

    Raises:
        IndexError: one of them is not below ``count``.
    """
    for each in (gaussians, others):
        if each.numel() and int(each.max()) >= count:
            raise IndexError(f"Gaussian {int(each.max())} is none of the {count} of the scene")
    known, others = gaussians.contiguous(), others.contiguous()
    everyone, place = torch.empty(len(known) + others.numel(), dtype=torch.int64), torch.empty_like(others)
    total = call(_library().lift_joined, count, len(known), known, others.numel(), others, everyone, place)
    return everyone[:total], place


def rows(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """``training.rows``."""
    return _Rows.apply(values, index)


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, index):
        ctx.index, ctx.shape = index.long().contiguous(), values.shape
        return torch.nn.functional.embedding(index, values)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        sums = torch.zeros(ctx.shape)
        call(_library().lift_add_rows, ctx.index.numel(), ctx.shape[1], ctx.index, gradient.contiguous(), sums)
        return sums, None


def smoothness(features: torch.Tensor, rows: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """``training.smoothness``."""
    value, gradient = torch.empty(()), torch.zeros(features.shape)
    borrowed = features.detach().contiguous(), rows.contiguous(), near.contiguous()
    call(_library().lift_smoothness, *near.shape, features.shape[1], *borrowed, value, gradient)
    return _with_gradient(value, (features, gradient))


def clusters(
    features: torch.Tensor,
    index: torch.Tensor,
    sizes: torch.Tensor,
    weight: torch.Tensor,
    scale: float,
    limits: tuple[float, float],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Means (M, d) of ``features`` (P, d) in clusters, and the clusters' temperatures (M,): ``scale`` times the summed
    distances from the mean over ``weight`` (M,), within ``limits``. Neither carries a gradient."""
    pixels, dim = features.shape
    means, temperatures = torch.empty(len(sizes), dim), torch.empty(len(sizes))
    borrowed = features.detach().contiguous(), index, sizes, weight
    call(_library().lift_clusters, pixels, dim, len(sizes), *borrowed, scale, *limits, means, temperatures)
    return means, temperatures


def contrast(
    features: torch.Tensor,
    index: torch.Tensor,
    sizes: torch.Tensor,
    absent: torch.Tensor,
    means: torch.Tensor,
    temperatures: torch.Tensor,
    depth: torch.Tensor | None = None,
    decay: float = 1.0,
) -> torch.Tensor:
    """``omniseg3d.hierarchical_loss`` with ``depth`` (M, M) int16, else ``contrastive.contrastive_loss``; its gradient
    by ``features`` is also that through the means."""
    value, gradient = torch.empty(()), torch.empty(features.shape)
    levels = depth if depth is None else depth.contiguous()
    borrowed = features.detach().contiguous(), index, sizes, absent, means.detach(), temperatures, levels
    call(_library().lift_contrast, *features.shape, len(sizes), *borrowed, decay, value, gradient)
    return _with_gradient(value, (features, gradient))


def probabilistic_contrast(mean: torch.Tensor, variance: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """``pcf_lift.contrast_loss``."""
    value, normals = torch.empty(()), _Differentiable(mean, variance)
    call(_library().lift_probabilistic_contrast, normals.struct, mean.shape[1], masks, value)
    return _with_gradient(value, *normals.gradients)


def concentration(mean: torch.Tensor, variance: torch.Tensor, masks: torch.Tensor, mask_count: int) -> torch.Tensor:
    """``pcf_lift.concentration_loss``."""
    value, normals = torch.empty(()), _Differentiable(mean, variance)
    call(_library().lift_concentration, normals.struct, mean.shape[1], masks, mask_count, value)
    return _with_gradient(value, *normals.gradients)


def cross_view(
    first: tuple[torch.Tensor, torch.Tensor], second: tuple[torch.Tensor, torch.Tensor], least: float
) -> torch.Tensor:
    """``pcf_lift.cross_view_loss`` of means and variances; ``least`` is a logarithm."""
    value, one, other = torch.empty(()), _Differentiable(*first), _Differentiable(*second)
    call(_library().lift_cross_view, one.struct, other.struct, first[0].shape[1], least, value)
    return _with_gradient(value, *one.gradients, *other.gradients)


class _Differentiable:
    """Distributions as C wants them, with room for gradients."""

    def __init__(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        self._borrowed = mean.detach().contiguous(), variance.detach().contiguous()
        found = torch.empty(mean.shape), torch.empty(mean.shape)
        self.struct = _Normals(len(mean), *map(pointer, (*self._borrowed, *found)))
        self.gradients = (mean, found[0]), (variance, found[1])


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, gradients, *inputs):  # only autograd looks at the inputs
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        return None, None, *(slope * gradient for gradient in ctx.gradients)


def _with_gradient(value: torch.Tensor, *pairs: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """The ``value`` of a loss, () tensor, that has these gradients: pairs of a tensor and the gradient by it."""
    inputs, gradients = zip(*pairs, strict=True)
    return _WithGradient.apply(value, gradients, *inputs)


@cache
def _library() -> ctypes.CDLL:
    """The fastest variant this processor can run.

    Raises:
        ImportError: the library is missing, stale or cannot be loaded; the message says how to build it.
    """
    path = Path(__file__).with_name(f"liblift_steps_{best_variant()}.so")
    prototypes = {name: (c_int64, arguments) for name, arguments in _PROTOTYPES.items()}
    return load_library(path, "lift_steps_interface", _INTERFACE, prototypes)
