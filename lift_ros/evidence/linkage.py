"""Average-linkage clustering of parts of the scene, by how often masks hold two of them together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.evidence.library import library
from lift_ros.native import call

DOUBT = 0.03  # views
CHANCE = 0.01  # parts that share a mask less often are never joined


class Merges(NamedTuple):
    """Parts, joined two clusters at a time: a hierarchy from the parts to all that ever share a mask.

    Attributes:
        pairs: (S, 2) int64, in the order in which they are joined: the part that the cluster goes by from then on, and
            the one that the other went by.
        rates: (S,) float64, how often the two agreed.
        count: K, of the parts.
    """

    pairs: NDArray[np.int64]
    rates: NDArray[np.float64]
    count: int

    def until(self, rate: float) -> Merges:
        """Those before no two agree in at least ``rate``."""
        below = np.flatnonzero(self.rates < rate)
        kept = slice(below[0] if len(below) else None)
        return Merges(self.pairs[kept], self.rates[kept], self.count)

    def clusters(self, rate: float) -> NDArray[np.int64]:
        """(K,) cluster of each part once no two agree in at least ``rate``: the number of one of its parts."""
        pairs = self.until(rate).pairs
        root = np.arange(self.count)
        root[pairs[:, 1]] = pairs[:, 0]
        while (root != root[root]).any():
            root = root[root]
        return root

    def agreement(self, part: int) -> NDArray[np.float64]:
        """(K,) the rate down to which clusters have to be joined until each part is in one with ``part``: 1 for itself,
        0 for those that never are.
        """
        found = np.zeros(self.count)
        found[part] = 1
        cluster, own = np.arange(self.count), part
        for (into, gone), rate in zip(self.pairs.tolist(), np.minimum.accumulate(self.rates), strict=True):
            if own in (into, gone):
                found[cluster == (gone if own == into else into)] = min(rate, 1)
                own = into
            cluster[cluster == gone] = into
        return found


def merge_parts(
    agreed: NDArray[np.float64],
    seen: NDArray[np.float64],
    known: NDArray[np.int64] | None = None,
    hysteresis: float = 0.0,
) -> Merges:
    """Average-linkage clustering of parts: the two that agree most often are joined, until none agree but by chance.

    A cluster agrees with another as its parts do on average, each weighing the square root of what the views show of
    it. If all weighed the same, the many scraps along the borders of a floor would outvote the floor, and join it to
    what stands on it; by all that is seen of them, one large part would decide alone.

    Two parts that some view shows together count as having disagreed for ``DOUBT`` of a view: of partners that agree
    alike, the one seen together more comes first, and a glimpse joins nothing.

    Args:
        agreed: (K, K), symmetric: in how many views two parts share a mask, of those ``seen`` (K, K) that show both;
            the diagonal of ``seen`` says how much the views show of each.
        known: (K,) what each was taken for before, from 1 on, 0 for nothing.
        hysteresis: share of the views in which parts that were one agree besides, and those that were two agree less.

    Raises:
        ValueError: not every part has a number in ``known``.
    """
    if known is not None and len(known) != len(agreed):
        raise ValueError(f"{len(known)} numbers for {len(agreed)} parts")
    pairs, rates = np.empty((len(agreed), 2), np.int64), np.empty(len(agreed))
    given = [np.ascontiguousarray(matrix, np.float64) for matrix in (agreed, seen)]
    given.append(None if known is None else np.ascontiguousarray(known, np.int64))
    threads = torch.get_num_threads()
    steps = call(library().lift_merge_parts, len(agreed), *given, hysteresis, DOUBT, CHANCE, pairs, rates, threads)
    return Merges(pairs[:steps].copy(), rates[:steps].copy(), len(agreed))
