"""What one keyframe's masks say about the Gaussians, kept instead of its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from lift_ros.render import BlendWeights
from lift_ros.scene.gaussians import heirs

MIN_WEIGHT = 1e-2  # pixels; entries below decide nothing, and are half of all


@dataclass
class MaskEvidence:
    """E[m, i] = summed blend weight of Gaussian i over the pixels of mask m: about a pixel's worth of it, in pixels.

    Kept as triplets, sorted by mask. Pixels without a mask are no evidence.

    Attributes:
        mask: (n,) int32.
        gaussian: (n,) int32.
        weight: (n,) float32.
        area: (M,) float32, pixels of each mask.
    """

    mask: NDArray[np.int32]
    gaussian: NDArray[np.int32]
    weight: NDArray[np.float32]
    area: NDArray[np.float32]

    @classmethod
    def of(cls, weights: BlendWeights, labels: NDArray[np.int32]) -> MaskEvidence:
        """What one view's masks say.

        Args:
            weights: (H * W, N) blend weights of all pixels, row by row.
            labels: (k H, k W) mask numbers, 0 none. With k above 1 masks can share a pixel.
        """
        pixels, gaussians = weights.shape
        k = round((labels.size / pixels) ** 0.5)
        height, width = labels.shape[0] // k, labels.shape[1] // k
        if labels.shape != (k * height, k * width) or height * width != pixels:
            raise ValueError(f"labels {labels.shape} are no multiple of an image of {pixels} pixels")
        pixel = (np.arange(k * height)[:, None] // k * width + np.arange(k * width) // k).reshape(-1)
        flat = labels.reshape(-1)
        values, number, area = np.unique(flat, return_inverse=True, return_counts=True)
        masked = np.flatnonzero(flat > 0)
        first = int(values[0] == 0)
        member = csr_matrix(
            (np.full(len(masked), 1 / k**2, np.float32), (number[masked] - first, pixel[masked])),
            shape=(len(values) - first, pixels),
        )
        blend = csr_matrix(
            (weights.val.cpu().numpy(), weights.col.cpu().numpy(), weights.crow.cpu().numpy()),
            shape=(pixels, gaussians),
        )
        found = (member @ blend).tocoo()
        strong = found.data > MIN_WEIGHT
        return cls(
            found.row[strong].astype(np.int32),
            found.col[strong].astype(np.int32),
            found.data[strong].astype(np.float32),
            (area[first:] / k**2).astype(np.float32),
        )

    @classmethod
    def of_objects(cls, ids: NDArray[np.int64]) -> MaskEvidence:
        """The evidence of a finished map: every object is a mask that holds its Gaussians, (N,) ids, 0 none, whole."""
        gaussian = np.flatnonzero(ids)
        _, mask, count = np.unique(ids[gaussian], return_inverse=True, return_counts=True)
        ones = np.ones(len(gaussian), np.float32)
        return cls(mask.astype(np.int32), gaussian.astype(np.int32), ones, count.astype(np.float32))

    def follow(self, origin: torch.Tensor) -> MaskEvidence:
        """The evidence after an edit of the scene (see ``GaussianScene``); both halves of a split inherit all of it."""
        entry, heir = (t.numpy() for t in heirs(torch.from_numpy(self.gaussian).long(), origin.cpu()))
        return MaskEvidence(self.mask[entry], heir.astype(np.int32), self.weight[entry], self.area)

    def shares(self, parts: NDArray[np.integer], part_count: int) -> NDArray[np.float64]:
        """(M, K) pixels of each mask that show each of the parts; ``parts`` (N,) in [0, K), -1 for none."""
        part = parts[self.gaussian]
        member = part >= 0
        cell = self.mask[member].astype(np.int64) * part_count + part[member]
        table = np.bincount(cell, self.weight[member], minlength=len(self.area) * part_count)
        return table.reshape(len(self.area), part_count)

    def strongest_mask(self, count: int) -> NDArray[np.int64]:
        """(N,) the mask that shows most of each of the ``count`` Gaussians, -1 where none does."""
        strongest = np.full(count, -1, np.int64)
        seen, mask = self._strongest
        strongest[seen] = mask
        return strongest

    @cached_property
    def _strongest(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The Gaussians that are seen, and the mask that shows most of each; asked for at every update."""
        count = int(self.gaussian.max(initial=-1)) + 1
        mask = strongest_columns(csr_matrix((self.weight, (self.gaussian, self.mask)), shape=(count, len(self.area))))
        seen = np.flatnonzero(mask >= 0)
        return seen, mask[seen]


def strongest_columns(matrix: csr_matrix) -> NDArray[np.int64]:
    """Column of the greatest entry of every row, the first of equals, -1 for an empty row.

    What scipy's ``argmax`` does with a loop in Python.
    """
    matrix = matrix.tocsr()
    matrix.sum_duplicates()
    count = np.diff(matrix.indptr)
    row = np.repeat(np.arange(matrix.shape[0]), count)
    order = np.lexsort((-matrix.indices, matrix.data, row))
    strongest = np.full(matrix.shape[0], -1, np.int64)
    filled = count > 0
    strongest[filled] = matrix.indices[order[matrix.indptr[1:][filled] - 1]]
    return strongest
