"""Blend weights: the sparse pixel x Gaussian matrix through which anything carried by Gaussians reaches an image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch.autograd.function import FunctionCtx, once_differentiable

from lift_ros.render import cpu
from lift_ros.render.types import MaskWeights, masks_per_pixel


@dataclass
class BlendWeights:
    """w_ui for P pixels u and N Gaussians i, as CSR. Within a row front to back. The weights carry no gradient.

    Attributes:
        crow: (P + 1,) int64, row u is ``[crow[u], crow[u + 1])`` of ``col`` and ``val``.
        col: (nnz,) int64, Gaussian.
        val: (nnz,) float32, blend weight.
        gaussian_count: N.
    """

    crow: torch.Tensor
    col: torch.Tensor
    val: torch.Tensor
    gaussian_count: int
    _transpose: BlendWeights | None = field(default=None, repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(P, N)."""
        return len(self.crow) - 1, self.gaussian_count

    def matmul(self, f: torch.Tensor) -> torch.Tensor:
        """F = W f: (N, d) -> (P, d), what ``rasterize`` would blend at these pixels. Differentiable in ``f``.

        Raises:
            ValueError: ``f`` is not (N, d) float32 on the weights' device.
        """
        if f.ndim != 2 or f.shape[0] != self.gaussian_count or f.dtype != torch.float32 or f.device != self.val.device:
            raise ValueError(
                f"f must be ({self.gaussian_count}, d) float32 on {self.val.device}, "
                f"got {tuple(f.shape)} {f.dtype} on {f.device}"
            )
        return _MatMul.apply(f, self)

    def alpha(self) -> torch.Tensor:
        """(P,) summed weight of each pixel."""
        return self._product(self.val.new_ones(self.gaussian_count, 1))[:, 0]

    def winning_label(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Per pixel the label with the greatest summed weight (the smallest of equals), and that sum.

        Args:
            labels: (N,) integer.

        Returns:
            label (P,) of the type of ``labels``, 0 for pixels without weights; share (P,) float32.
        """
        pixel_count = len(self.crow) - 1
        if len(self.val) == 0:
            return labels.new_zeros(pixel_count), self.val.new_zeros(pixel_count)
        values, index = torch.unique(labels, return_inverse=True)
        pixel = torch.repeat_interleave(self.crow[1:] - self.crow[:-1])
        # One key per (pixel, label); sums over equal keys in a fixed order.
        key, order = torch.sort(pixel * len(values) + index[self.col], stable=True)
        key, count = torch.unique_consecutive(key, return_counts=True)
        weight = torch.segment_reduce(self.val[order], "sum", lengths=count)
        pixel, index = key // len(values), key % len(values)
        share = self.val.new_zeros(pixel_count).scatter_reduce_(0, pixel, weight, "amax")
        wins = weight == share[pixel]
        winner = index.new_full((pixel_count,), len(values)).scatter_reduce_(0, pixel[wins], index[wins], "amin")
        return torch.cat([values, values.new_zeros(1)])[winner], share

    def of_masks(self, labels: NDArray[np.int32], min_weight: float = 0.0) -> MaskWeights:
        """The weights of all pixels of an image, summed over those of each mask.

        Args:
            labels: (k H, k W) mask + 1 of each pixel, 0 for none. With k above 1 masks can share a pixel.
            min_weight: sums up to this are left out.

        Raises:
            ValueError: the labels are no multiple of an image of so many pixels.
        """
        pixels = self.shape[0]
        k = masks_per_pixel(labels, pixels)
        height, width = labels.shape[0] // k, labels.shape[1] // k
        pixel = (np.arange(k * height)[:, None] // k * width + np.arange(k * width) // k).reshape(-1)
        flat = labels.reshape(-1)
        masked = np.flatnonzero(flat > 0)
        member = csr_matrix(
            (np.full(len(masked), 1 / k**2, np.float32), (flat[masked] - 1, pixel[masked])),
            shape=(int(flat.max(initial=0)), pixels),
        )
        blend = csr_matrix((self.val.cpu().numpy(), self.col.cpu().numpy(), self.crow.cpu().numpy()), self.shape)
        found = (member @ blend).tocsr()
        found.sort_indices()
        mask = np.repeat(np.arange(found.shape[0], dtype=np.int32), np.diff(found.indptr))
        strong = found.data > min_weight
        gaussian, weight = found.indices[strong].astype(np.int32), found.data[strong].astype(np.float32)
        return MaskWeights(mask[strong], gaussian, weight)

    def rows(self, index: torch.Tensor) -> BlendWeights:
        """The weights of the pixels at ``index`` (Q,) int64, in that order; a pixel may be taken more than once."""
        first = self.crow.index_select(0, index)  # a third of the time of brackets
        count = self.crow.index_select(0, index + 1) - first
        crow = torch.cat([count.new_zeros(1), count.cumsum(0)])
        # Entry k of the selection lies in its row as far from the row's start as it did before.
        source = torch.arange(int(crow[-1]), device=crow.device)
        source += torch.repeat_interleave(first - crow[:-1], count)
        col, val = self.col.index_select(0, source), self.val.index_select(0, source)
        return BlendWeights(crow, col, val, self.gaussian_count)

    def between(self, start: int, stop: int) -> BlendWeights:
        """The weights of the pixels from ``start`` to before ``stop``, in the same memory."""
        first, last = self.crow[[start, stop]].tolist()
        return BlendWeights(
            self.crow[start : stop + 1] - first, self.col[first:last], self.val[first:last], self.gaussian_count
        )

    def above(self, weight: float) -> BlendWeights:
        """The weights that are greater than ``weight``."""
        kept = self.val > weight
        before = torch.cat([self.crow.new_zeros(1), kept.cumsum(0)])
        return BlendWeights(before[self.crow], self.col[kept], self.val[kept], self.gaussian_count)

    def compact(self) -> tuple[torch.Tensor, BlendWeights]:
        """The Gaussians (G,) int64, ascending, that these pixels show, and the weights (P, G) of only them."""
        if self.col.device.type == "cpu":
            gaussians, number = cpu.csr_compact(self.col, self.gaussian_count)
        else:
            gaussians, number = torch.unique(self.col, return_inverse=True)
        return gaussians, BlendWeights(self.crow, number, self.val, len(gaussians))

    def transpose(self) -> BlendWeights:
        """W^T, (N, P), computed once."""
        if self._transpose is None:
            pixel_count = len(self.crow) - 1
            if self.val.device.type == "cpu":
                arrays = cpu.csr_transpose(self.crow, self.col, self.val, self.gaussian_count)
            else:
                csc = self._sparse().to_sparse_csc()
                arrays = csc.ccol_indices(), csc.row_indices(), csc.values()
            self._transpose = BlendWeights(*arrays, pixel_count)
        return self._transpose

    def _sparse(self) -> torch.Tensor:
        return torch.sparse_csr_tensor(self.crow, self.col, self.val, self.shape, check_invariants=False)

    def _product(self, f: torch.Tensor) -> torch.Tensor:
        if f.device.type == "cpu":
            return cpu.csr_matmul(self.crow, self.col, self.val, f)
        return self._sparse() @ f


class _MatMul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, f: torch.Tensor, weights: BlendWeights) -> torch.Tensor:
        ctx.weights = weights
        return weights._product(f)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return ctx.weights.transpose()._product(gradient), None
