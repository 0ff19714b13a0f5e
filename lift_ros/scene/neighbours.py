"""Which Gaussians lie next to each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class Neighbours:
    """The k nearest Gaussians of each, as far as they touch.

    Attributes:
        index: (N, k) int64; where fewer than k are near enough, the Gaussian itself.
        near: (N, k) bool, False where ``index`` repeats the Gaussian itself.
    """

    index: torch.Tensor
    near: torch.Tensor

    @classmethod
    def of(cls, means: torch.Tensor, k: int = 8, reach: float = 3.0) -> Neighbours:
        """Neighbours of the Gaussians at ``means`` (N, 3).

        Two Gaussians touch if they are no farther apart than ``reach`` times the spacing of the scene around either,
        which is the distance to the third-nearest neighbour. So the density of seeds, which falls with the distance to
        the camera, and the unit of the poses do not matter.
        """
        n = len(means)
        k = min(k, max(n - 1, 0))
        if k == 0:
            return cls(torch.zeros(n, 0, dtype=torch.int64), torch.zeros(n, 0, dtype=torch.bool))
        points = means.detach().cpu().numpy()
        distance, index = cKDTree(points).query(points, k=k + 1, workers=-1)
        distance, index = distance[:, 1:], index[:, 1:]
        spacing = distance[:, min(2, k - 1)]
        near = distance <= reach * np.minimum(spacing[:, None], spacing[index])
        index = np.where(near, index, np.arange(n)[:, None])
        return cls(torch.from_numpy(index).to(means.device), torch.from_numpy(near).to(means.device))

    def connected_parts(self, labels: NDArray[np.integer], min_size: int = 1) -> NDArray[np.int64]:
        """Gaussians of one label that touch, directly or through others.

        Args:
            labels: (N,), below 0 for none.
            min_size: smaller parts join what surrounds them.

        Returns:
            (N,) part numbers from 0, -1 without a label and for small parts that touch nothing larger.
        """
        n = len(labels)
        near = self.near.cpu().numpy()
        rows = np.repeat(np.arange(n), near.sum(1))
        columns = self.index.cpu().numpy()[near]
        same = labels[rows] == labels[columns]
        graph = coo_matrix((np.ones(int(same.sum()), np.int8), (rows[same], columns[same])), shape=(n, n))
        parts = connected_components(graph, directed=False)[1].astype(np.int64)
        fragment = (labels >= 0) & (np.bincount(parts, minlength=1)[parts] < min_size)
        parts[fragment | (labels < 0)] = -1
        self._grow(parts, fragment)
        known = parts >= 0
        if known.any():
            parts[known] = np.unique(parts[known], return_inverse=True)[1]
        return parts

    def _grow(self, parts: NDArray[np.int64], fragment: NDArray[np.bool_]) -> None:
        """Give each Gaussian of a fragment the part that most of its neighbours have, as long as that reaches any."""
        index = self.index.cpu().numpy()
        while True:
            open_ = np.flatnonzero(fragment & (parts < 0))
            around = parts[index[open_]]
            votes = ((around[:, :, None] == around[:, None, :]) & (around >= 0)[:, None, :]).sum(2) * (around >= 0)
            if not votes.size or not votes.any():
                break
            best = votes.argmax(1)
            rows = np.arange(len(open_))
            won = votes[rows, best] > 0
            parts[open_[won]] = around[rows, best][won]
