"""Evidence, views and features written down by hand, and Gaussians on a line."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.lifting.base import LiftingView
from lift_ros.render import BlendWeights
from lift_ros.scene.neighbours import Neighbours


def evidence(table: list[list[float]] | np.ndarray) -> MaskEvidence:
    """From the matrix (M, N): pixels of each mask that show each Gaussian."""
    table = np.asarray(table, np.float32)
    mask, gaussian = np.nonzero(table)
    weight = table[mask, gaussian]
    return MaskEvidence(mask.astype(np.int32), gaussian.astype(np.int32), weight, table.sum(1))


def grouped(groups: list[list[int]], per_group: int, pixels: float = 5.0) -> MaskEvidence:
    """Every mask holds some groups of ``per_group`` Gaussians each; a Gaussian shows ``pixels`` pixels."""
    count = per_group * (1 + max((group for mask in groups for group in mask), default=-1))
    table = np.zeros((len(groups), count))
    for number, mask in enumerate(groups):
        for group in mask:
            table[number, group * per_group : (group + 1) * per_group] = pixels
    return evidence(table)


def line(count: int) -> Neighbours:
    """Gaussians in a row, each touching the next."""
    return Neighbours.of(torch.arange(count)[:, None] * torch.tensor([[1.0, 0, 0]]), k=2)


# -- numbers -----------------------------------------------------------------------------------------------------------


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    """Of double precision, in [0, 1)."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near_axes(index: torch.Tensor, dim: int, spread: float = 0.1, seed: int = 0) -> torch.Tensor:
    """Features (P, dim) around the axes ``index`` (P,). With ``spread`` 0.1 temperatures are between their bounds."""
    return torch.eye(dim, dtype=torch.float64)[index] + spread * normal(len(index), dim, seed=seed)


def literal_phi(features: torch.Tensor, index: torch.Tensor) -> list[float]:
    """Temperatures of the clusters that there are, ascending: OmniSeg3D, 3.2, with the factor 10 and the bounds 0.1 and
    1 of the code.
    """
    found = []
    for j in index.unique().tolist():
        members = features[j == index].tolist()
        mean = [sum(column) / len(members) for column in zip(*members, strict=True)]
        spread = sum(math.dist(member, mean) for member in members)
        found.append(min(max(10 * spread / (len(members) * math.log(len(members) + 10)), 0.1), 1.0))
    return found


# -- what pixels show --------------------------------------------------------------------------------------------------


def sparse(table: torch.Tensor) -> BlendWeights:
    """What is not 0 in a ``table`` (P, N) of blend weights."""
    shown = table > 0
    crow = torch.cat([torch.zeros(1, dtype=torch.int64), shown.sum(1).cumsum(0)])
    return BlendWeights(crow, shown.nonzero()[:, 1].contiguous(), table[shown].float(), table.shape[1])


def blending(pixels: int, gaussians: int, seed: int = 1) -> torch.Tensor:
    """A table (P, N) of blend weights: every pixel shows several Gaussians, and their weights add up to 0.5 to 1."""
    table = uniform(pixels, gaussians, seed=seed)
    table[(table < 0.6) & (table < table.sort(dim=1).values[:, -2:-1])] = 0
    alpha = 0.5 + 0.5 * uniform(pixels, 1, seed=seed + 1)
    return (alpha * table / table.sum(1, keepdim=True)).float().double()  # weights have single precision


def shown_as(features: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Embeddings (N, d) that pixels show as ``features`` (P, d) by a ``table`` (P, N), N > P, of blend weights."""
    return torch.linalg.pinv(table) @ features


def view_of(
    table: torch.Tensor, masks: torch.Tensor, inside: torch.Tensor | None = None, pairs: Sequence[Sequence[int]] = ()
) -> LiftingView:
    """Pixels that show Gaussians by a ``table`` (P, N) of blend weights and lie in ``masks`` (P,), -1 for none.

    Args:
        inside, pairs: as of ``LiftingView``; by default masks do not overlap, and none face each other.
    """
    count = int(masks.max()) + 1
    if inside is None:
        inside = masks[:, None] == torch.arange(count)
    return LiftingView(sparse(table), masks, count, inside, torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2))


def one_gaussian_a_pixel(masks: torch.Tensor, weight: float = 1.0, pairs: Sequence[Sequence[int]] = ()) -> LiftingView:
    """Each pixel shows a Gaussian of its own."""
    return view_of(torch.eye(len(masks)) * weight, masks, pairs=pairs)


def partition(labels: np.ndarray) -> set[frozenset[int]]:
    """Which indices share a value."""
    return {frozenset(np.flatnonzero(labels == value).tolist()) for value in np.unique(labels)}
