"""Evidence written down by hand, and Gaussians on a line."""

from __future__ import annotations

import numpy as np
import torch

from lift_ros.lifting.evidence import MaskEvidence
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
