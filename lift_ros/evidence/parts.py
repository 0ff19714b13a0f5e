"""Parts of the scene that hang together, and what else is known of the Gaussians in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lift_ros.evidence.library import library
from lift_ros.native import call
from lift_ros.scene.neighbours import Neighbours

MAX_COUNTED = 4  # times as large as there are values the largest may be, to count them instead of sorting them


def components(
    touching: NDArray[np.int32],
    agreed: NDArray[np.float32],
    seen: NDArray[np.float32],
    rate: float,
    chosen: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """(N,) connected components, numbered from 0 in the order of their first member, of the graph of those neighbours,
    (N, k) as in ``Neighbours.touching``, that are both ``chosen`` (N,) and agree in at least ``rate`` of what is
    ``seen`` of them: ``agreed`` and ``seen`` (N, k), as ``neighbour_agreement`` counts them.

    Raises:
        ValueError: they are of other shapes.
    """
    shapes = [array.shape for array in (agreed, seen, chosen)]
    if shapes != [touching.shape, touching.shape, touching.shape[:1]]:
        raise ValueError(f"what is known of {touching.shape} neighbours is {shapes}")
    part = np.empty(len(touching), np.int64)
    touching, agreed, seen, chosen = map(np.ascontiguousarray, (touching, agreed, seen, chosen))
    call(library().lift_components, *touching.shape, touching, agreed, seen, rate, chosen, part)
    return part


def connected_parts(neighbours: Neighbours, labels: NDArray[np.integer], min_size: int = 1) -> NDArray[np.int64]:
    """Gaussians of one label that hang together, directly or through others: by the reach of the coarser of two.

    Args:
        labels: (N,), below 0 for none.
        min_size: smaller parts join what surrounds them.

    Returns:
        (N,) part numbers from 0, -1 without a label and for small parts that touch nothing larger.

    Raises:
        ValueError: there are not as many labels as Gaussians.
    """
    pairs = np.ascontiguousarray(neighbours.within_reach)
    if len(labels) != len(pairs):
        raise ValueError(f"{len(labels)} labels for {len(pairs)} Gaussians")
    part = np.empty(len(pairs), np.int64)
    call(library().lift_connected_parts, *pairs.shape, pairs, np.ascontiguousarray(labels, np.int64), min_size, part)
    return part


def present(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The (I,) different ``values`` (N,) >= 0, ascending, and the place that each of these has there (N,)."""
    if values.max(initial=0) > MAX_COUNTED * len(values):  # counting takes memory for all up to the largest
        different, place = np.unique(values, return_inverse=True)
        return different, place
    used = np.bincount(values) > 0
    return np.flatnonzero(used), (used.cumsum() - 1)[values]


def overlap(
    parts: NDArray[np.int64], count: int, values: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(K, I) Gaussians of each of the ``count`` parts (N,), -1 for none, by their value (N,), and the (I,) values, as
    ``present`` has them.
    """
    different, column = present(values)
    member = parts >= 0
    cell = parts[member] * len(different) + column[member]
    return np.bincount(cell, minlength=count * len(different)).reshape(count, len(different)), different


def most(parts: NDArray[np.int64], count: int, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """(K,) the value that most Gaussians of each part have, the least of equals; 0 of parts without any."""
    table, different = overlap(parts, count, values)
    return different[table.argmax(1)] if table.size else np.zeros(count, np.int64)
