"""What the masks of all views say together, counted in C++ (csrc/): some million entries, gone through several times.

Each function counts over all views, to the same result with any number of threads. A view says something of a part only
if it shows more than ``MIN_VISIBLE`` pixels of it, and the more, up to ``FULL_SAY``, the more of it that is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.evidence.library import Clear, Masks, Parts, Views, library, pointers
from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.native import call
from lift_ros.scene.neighbours import Neighbours

MIN_VISIBLE = 4.0  # pixels of a part that a view must show to have a say about it
FULL_SAY = 1000.0  # pixels from which a view's say no longer grows


def neighbour_agreement(
    neighbours: Neighbours, views: Sequence[MaskEvidence]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How often a Gaussian and each of its neighbours lie in one mask.

    Returns:
        agreed (N, k), of neighbours that are near: the views in which the mask that shows most of the one is that of
        the other, too, each counting by how clearly it shows both (``MaskEvidence.clear``), up to 1; seen (N, k), the
        same of all views that show both.

    Raises:
        ValueError: the views know other Gaussians.
        MemoryError.
    """
    touching = np.ascontiguousarray(neighbours.touching)
    structs, borrowed = (Clear * len(views))(), []
    for struct, view in zip(structs, views, strict=True):
        _check(view, len(touching))
        struct.count = len(view.clear.gaussian)
        borrowed += pointers(struct, **view.clear._asdict())
    found = np.zeros(touching.shape, np.float32), np.zeros(touching.shape, np.float32)
    call(library().lift_neighbour_agreement, len(views), structs, *touching.shape, touching, *found, _threads())
    return found


def part_agreement(
    parts: NDArray[np.integer], part_count: int, views: Sequence[MaskEvidence]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often two parts share a mask.

    Args:
        parts: (N,) in [0, K), below 0 for none; K is ``part_count``.

    Returns:
        agreed (K, K), the summed probability that both parts lie in one mask, over the views that show both; seen
        (K, K), the number of these views. Each view counts by how much it shows of the part it shows less of, up to 1.
        In one view, a part lies in each mask with a probability that grows with the square of its pixels there: the
        few that every view sees across a border would else add up to what a wall has that each view cuts elsewhere.
        The diagonals say how often a part shares a mask with itself.
    """
    agreed, seen = np.zeros((part_count, part_count)), np.zeros((part_count, part_count))
    numbers = _parts(parts, part_count)
    _call("lift_part_agreement", views, len(parts), numbers, MIN_VISIBLE, FULL_SAY, agreed, seen, _threads())
    return agreed, seen


def held(
    parts: NDArray[np.integer], part_count: int, views: Sequence[MaskEvidence]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) pixels of each Gaussian in masks, each times the share of the Gaussian's part that the mask holds; and (N,)
    the pixels themselves. ``parts`` as above.
    """
    shared, total = np.zeros(len(parts)), np.zeros(len(parts))
    _call("lift_held", views, len(parts), _parts(parts, part_count), shared, total, _threads())
    return shared, total


def purity(
    parts: NDArray[np.integer], part_count: int, views: Sequence[MaskEvidence]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """How much masks divide the parts (``parts`` as above).

    Returns:
        pure (K,), the summed probability that two pixels of a part lie in one mask, over the views; say (K,), the
        number of these views, each counting by how much it shows; divided_by (K,), the view that shows and divides most
        of the part, -1 where none does.
    """
    pure, say, most = (np.zeros(part_count) for _ in range(3))
    divided_by = np.full(part_count, -1)
    numbers, found = _parts(parts, part_count), (pure, say, most, divided_by)
    _call("lift_purity", views, len(parts), numbers, MIN_VISIBLE, FULL_SAY, *found, _threads())
    return pure, say, divided_by


def strongest_masks(
    parts: NDArray[np.integer], part_count: int, views: Sequence[MaskEvidence], view_of: NDArray[np.int64]
) -> NDArray[np.int32]:
    """(N,) the mask that shows most of each Gaussian, the first of equals, in the view that ``view_of`` (K,) names for
    its part; -1 where there is none, and where ``view_of`` is below 0. ``parts`` as above.
    """
    strongest = np.full(len(parts), -1, np.int32)
    view_of = np.ascontiguousarray(view_of, np.int64)
    _call("lift_strongest_masks", views, len(parts), _parts(parts, part_count), view_of, strongest, _threads())
    return strongest


def masked(gaussian_count: int, views: Sequence[MaskEvidence]) -> NDArray[np.float32]:
    """(N,) pixels of each Gaussian in masks; N is ``gaussian_count``."""
    found = np.zeros(gaussian_count, np.float32)
    _call("lift_masked", views, gaussian_count, found, _threads())
    return found


def votes(
    labels: NDArray[np.integer], label_count: int, views: Sequence[MaskEvidence], share: float
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Every mask of which more than ``share`` shows one label votes for it with each Gaussian that it holds.

    Args:
        labels: (N,) in [0, L), below 0 for none; L is ``label_count``.

    Returns:
        winner (N,) label with most votes, the smallest of equals, -1 where there are none; its votes (N,), all votes
        (N,) and what masks show of each Gaussian (N,), in pixels.
    """
    winner = np.full(len(labels), -1)
    most, total, shown = (np.zeros(len(labels), np.float32) for _ in range(3))
    numbers = _parts(labels, label_count)
    _call("lift_votes", views, len(labels), numbers, share, winner, most, total, shown, _threads())
    return winner, most, total, shown


def visibility(
    parts: NDArray[np.integer], part_count: int, views: Sequence[MaskEvidence]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """How the views see the parts (``parts`` as above).

    Returns:
        seen (V, K), whether a view shows a part; agreed (K,), how well the masks agree on it: mean IoU with the best
        mask of a view, weighted by how much of the part the view shows.
    """
    seen = np.zeros((len(views), part_count), bool)
    agreed, visible = np.zeros(part_count), np.zeros(part_count)
    numbers = _parts(parts, part_count)
    _call("lift_visibility", views, len(parts), numbers, MIN_VISIBLE, seen, agreed, visible, _threads())
    return seen, np.minimum(agreed / np.maximum(visible, 1e-6), 1.0)


def _threads() -> int:
    return torch.get_num_threads()


def _parts(number: NDArray[np.integer], count: int) -> Parts:
    """Raises ValueError: a number is not below ``count``."""
    if number.max(initial=-1) >= count:
        raise ValueError(f"there are {count} parts, and none of number {number.max()}")
    parts = Parts(count)
    parts.borrowed = pointers(parts, number=number.astype(np.int32, copy=False))
    return parts


def _check(view: MaskEvidence, gaussian_count: int) -> None:
    """Raises ValueError: the view knows other Gaussians."""
    if view.last >= gaussian_count:
        raise ValueError(f"a view shows Gaussian {view.last} of a scene of {gaussian_count}")


def _call(name: str, views: Sequence[MaskEvidence], gaussian_count: int, *arguments: object) -> None:
    """Raises ValueError: the views know other Gaussians. MemoryError."""
    for view in views:
        _check(view, gaussian_count)
    structs = (Masks * len(views))(*(view.lent for view in views))
    call(getattr(library(), name), Views(len(views), structs, gaussian_count), *arguments)
