"""View consensus: which Gaussians are one object, by how often one mask holds both.

Masks of single views split, merge and drop objects, but rarely the same way twice. So pieces that lie in one mask in
most of the views that see both are one object (the criterion of MaskClustering, Yan et al., CVPR 2024, applied to parts
of the scene instead of to masks), and a piece that masks keep cutting in two is two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lift_ros.evidence import counts
from lift_ros.evidence.mask_evidence import MIN_PIXELS, MaskEvidence
from lift_ros.evidence.parts import components, present
from lift_ros.scene.neighbours import Neighbours

QUORUM = 0.3  # share of what the masks show of a Gaussian that must vote for a label


def local_parts(
    neighbours: Neighbours, views: Sequence[MaskEvidence], rates: Sequence[float], min_size: int
) -> NDArray[np.int64]:
    """Small sure pieces to start from: touching Gaussians that lie in one mask in most of the views that see both.

    A Gaussian on the border of two objects is in one mask now with the one, now with the other. It would link them, so
    only those that agree with what surrounds them on the whole make pieces (as the core points of DBSCAN do). What is
    left over at one rate is tried among itself at the next, so that the sure pieces stay apart.

    Args:
        rates: falling shares of the views, each counting by the pixels it shows of both.
        min_size: Gaussians that make a piece.

    Returns:
        (N,) pieces; Gaussians that lie in masks, but in no piece, each have a number of their own. -1 for Gaussians
        that lie in no mask.
    """
    touching = neighbours.touching
    agreed, seen = counts.neighbour_agreement(neighbours, views)
    around, sees = np.einsum("nk->n", agreed), np.einsum("nk->n", seen)
    pieces = np.full(len(touching), -1)
    for rate in rates:
        inner = (sees > 0) & (around >= rate * sees) & (pieces < 0)
        part = components(touching, agreed, seen, rate, inner)
        found = (pieces < 0) & (np.bincount(part, minlength=1)[part] >= min_size)
        pieces[found] = pieces.max(initial=-1) + 1 + part[found]
    single = (pieces < 0) & (counts.masked(len(touching), views) > MIN_PIXELS)
    pieces[single] = pieces.max(initial=-1) + 1 + np.arange(int(single.sum()))
    return pieces.astype(np.int64)


def expel_strangers(
    parts: NDArray[np.integer], part_count: int, views: Sequence[MaskEvidence], rate: float
) -> NDArray[np.int64]:
    """Take out of each part the Gaussians that rarely share a mask with the rest of it.

    A vase whose embeddings collide with those of the floor it stands on is a stranger there: in every view its mask
    holds next to nothing of the floor. It is too small to make the floor impure.

    Returns:
        (N,) parts; the strangers of part k are ``part_count + k``.
    """
    agreed, total = counts.held(parts, part_count, views)
    strange = (parts >= 0) & (agreed < rate * total)
    return np.where(strange, parts + part_count, parts).astype(np.int64)


def cut_impure(
    parts: NDArray[np.integer],
    part_count: int,
    views: Sequence[MaskEvidence],
    pure_rate: float | NDArray[np.float64],
    min_size: int,
) -> NDArray[np.int64]:
    """Cut the parts that masks divide: along the masks of that view which shows and divides most of the part.

    Parts cut where they should not have been are joined again by ``merge_parts``; parts that hold two objects can only
    be mended here.

    Args:
        pure_rate: how often two points of a part must share a mask for it to stay whole, one number or (K,).

    Returns:
        (N,) parts; new ones are numbered from ``part_count`` on.
    """
    purity, say, divided_by = counts.purity(parts, part_count, views)
    impure = (say > 0) & (purity < pure_rate * say)
    mask = counts.strongest_masks(parts, part_count, views, np.where(impure, divided_by, -1))
    return _cut(parts, part_count, mask, min_size)


def cut_known(
    parts: NDArray[np.integer], part_count: int, known: NDArray[np.integer], min_size: int
) -> NDArray[np.int64]:
    """Cut the parts that hold what was taken for several objects the last time, along these.

    Now and then a few Gaussians astride a border link two objects, and the view along which they are cut apart shows
    one of them in part only: the rest would go over to the other. As a part of its own the masks decide about it.

    Args:
        known: (N,) what each Gaussian was taken for, 0 for none yet.

    Returns:
        (N,) parts; new ones are numbered from ``part_count`` on.
    """
    return _cut(parts, part_count, np.where(parts >= 0, known, 0) - 1, min_size)


def _cut(parts: NDArray[np.integer], part_count: int, side: NDArray[np.integer], min_size: int) -> NDArray[np.int64]:
    """Make pieces of at least ``min_size`` Gaussians that lie on one ``side`` (N,) parts of their own; but the largest
    of each part keeps its number, together with small pieces and what lies on no side, -1.
    """
    some = np.flatnonzero(side >= 0)
    sides, of_side = present(side[some])
    pieces, piece = present(parts[some].astype(np.int64) * len(sides) + of_side)
    size = np.bincount(piece, minlength=len(pieces))
    of_part = pieces // len(sides)
    order = np.lexsort((-size, of_part))
    largest = np.append(True, np.diff(of_part[order]) > 0)[: len(order)]
    new = order[(size[order] >= min_size) & ~largest]
    number = of_part.copy()
    number[new] = part_count + np.arange(len(new))
    parts = parts.astype(np.int64)
    parts[some] = number[piece]
    return parts


def vote(
    labels: NDArray[np.integer], label_count: int, views: Sequence[MaskEvidence], purity: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Let the masks decide each Gaussian: a mask that shows mostly one object votes for it with all Gaussians it holds.

    Averaged over the views, frayed and shifted borders come out straight. Where most masks over a Gaussian are too
    mixed to vote, those that spill over from next door are no majority: it keeps its label.

    Returns:
        (N,) labels and (N,) the share of its votes that each Gaussian's label got, 0 where it was kept.
    """
    winner, most, total, shown = counts.votes(labels, label_count, views, purity)
    elected = (winner >= 0) & (most >= QUORUM * shown)
    share = np.where(elected, most / np.maximum(total, 1e-12), 0)
    return np.where(elected, winner, labels).astype(np.int64), share.astype(np.float32)
