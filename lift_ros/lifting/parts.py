"""Parts of the scene that hang together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lift_ros.lifting import counts
from lift_ros.scene.neighbours import Neighbours


def connected_parts(neighbours: Neighbours, labels: NDArray[np.integer], min_size: int = 1) -> NDArray[np.int64]:
    """Gaussians of one label that hang together, directly or through others: by the reach of the coarser of two.

    Args:
        labels: (N,), below 0 for none.
        min_size: smaller parts join what surrounds them.

    Returns:
        (N,) part numbers from 0, -1 without a label and for small parts that touch nothing larger.
    """
    touching = neighbours.within_reach
    parts = counts.components(touching, labels[touching] == labels[:, None])
    fragment = (labels >= 0) & (np.bincount(parts, minlength=1)[parts] < min_size)
    parts[fragment | (labels < 0)] = -1
    _grow(parts, fragment, touching)
    known = parts >= 0
    used = np.bincount(parts[known], minlength=1) > 0
    parts[known] = (used.cumsum() - 1)[parts[known]]
    return parts


def _grow(parts: NDArray[np.int64], fragment: NDArray[np.bool_], touching: NDArray[np.int32]) -> None:
    """Give each Gaussian of a fragment the part that most of its neighbours have, as long as that reaches any."""
    while True:
        open_ = np.flatnonzero(fragment & (parts < 0))
        around = np.where(touching[open_] >= 0, parts[touching[open_]], -1)
        votes = ((around[:, :, None] == around[:, None, :]) & (around >= 0)[:, None, :]).sum(2) * (around >= 0)
        if not votes.size or not votes.any():
            break
        best = votes.argmax(1)
        rows = np.arange(len(open_))
        won = votes[rows, best] > 0
        parts[open_[won]] = around[rows, best][won]
