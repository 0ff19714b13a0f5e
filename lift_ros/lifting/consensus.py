"""View consensus: which Gaussians are one object, by how often one mask holds both.

Masks of single views split, merge and drop objects, but rarely the same way twice. So pieces that lie in one mask in
most of the views that see both are one object (the criterion of MaskClustering, Yan et al., CVPR 2024, applied to parts
of the scene instead of to masks), and a piece that masks keep cutting in two is two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from lift_ros.lifting.evidence import MaskEvidence, strongest_columns
from lift_ros.scene.neighbours import Neighbours

MIN_VISIBLE = 4.0  # pixels of a part that a view must show to have a say about it
FULL_SAY = 1000.0  # pixels from which a view's say no longer grows
MIN_PIXELS = 0.3  # of a Gaussian that a view must show to say in which mask it lies
CLEAR_PIXELS = 2.0  # from which more of it says no more
DOUBT = 0.03  # views
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
    count = len(neighbours.index)
    masked = np.zeros(count)
    near = neighbours.near.cpu().numpy()
    index = neighbours.index.cpu().numpy()
    agreed, seen = np.zeros(near.shape), np.zeros(near.shape)
    for view in views:
        total = np.bincount(view.gaussian, view.weight, minlength=count)
        masked += total
        say = np.where(total > MIN_PIXELS, np.minimum(total, CLEAR_PIXELS), 0)
        shown = np.flatnonzero(say)
        around = index[shown]
        both = np.minimum(say[shown, None], say[around])
        lies_in = view.strongest_mask(count)
        agreed[shown] += both * (lies_in[shown, None] == lies_in[around])
        seen[shown] += both
    rows, columns = np.repeat(np.arange(count), near.sum(1)), index[near]
    agreed, seen = agreed[near], seen[near]
    around, sees = (np.bincount(rows, values, minlength=count) for values in (agreed, seen))
    pieces = np.full(count, -1)
    for rate in rates:
        inner = (sees > 0) & (around >= rate * sees) & (pieces < 0)
        same = (seen > 0) & (agreed >= rate * seen) & inner[rows] & inner[columns]
        graph = csr_matrix((np.ones(int(same.sum()), np.int8), (rows[same], columns[same])), shape=(count, count))
        part = connected_components(graph, directed=False)[1]
        found = (pieces < 0) & (np.bincount(part, minlength=1)[part] >= min_size)
        pieces[found] = pieces.max(initial=-1) + 1 + part[found]
    single = (pieces < 0) & (masked > MIN_PIXELS)
    pieces[single] = pieces.max(initial=-1) + 1 + np.arange(int(single.sum()))
    return pieces.astype(np.int64)


def agreement(
    parts: NDArray[np.integer], part_count: int, views: Sequence[MaskEvidence]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often two parts share a mask.

    Returns:
        agreed (K, K), the summed probability that both parts lie in one mask, over the views that show both; seen
        (K, K), the number of these views. Each view counts by how much it shows of the part it shows less of, up to 1.
        In one view, a part lies in each mask with a probability that grows with the square of its pixels there: the
        few that every view sees across a border would else add up to what a wall has that each view cuts elsewhere.
        The diagonals say how often a part shares a mask with itself.
    """
    agreed = np.zeros((part_count, part_count))
    seen = np.zeros((part_count, part_count))
    for view in views:
        table = view.shares(parts, part_count)
        visible = table.sum(0)
        shown = np.flatnonzero(visible > MIN_VISIBLE)
        share = table[:, shown] ** 2
        share = share / share.sum(0)
        say = np.minimum(visible[shown], FULL_SAY) / FULL_SAY
        say = np.minimum(say[:, None], say[None, :])
        agreed[np.ix_(shown, shown)] += say * (share.T @ share)
        seen[np.ix_(shown, shown)] += say
    return agreed, seen


def merge_parts(agreed: NDArray[np.float64], seen: NDArray[np.float64], rate: float) -> NDArray[np.int64]:
    """Average-linkage clustering of parts: the two that agree most often are joined, until none reach ``rate``.

    Each pair counts as having disagreed for ``DOUBT`` of a view: of partners that agree alike, the one seen together
    more comes first, and a glimpse joins nothing.

    Returns:
        (K,) cluster of each part: the number of one of its parts.
    """
    agreed, seen = agreed.copy(), seen.copy()
    np.fill_diagonal(agreed, 0)
    np.fill_diagonal(seen, 0)
    count = len(agreed)
    cluster = np.arange(count)
    if count < 2:
        return cluster

    def rates(row: slice | int) -> NDArray[np.float64]:
        return np.where(seen[row] > 0, agreed[row] / (seen[row] + DOUBT), -1.0)

    table = rates(slice(None))
    partner = table.argmax(1)
    best = table[np.arange(count), partner]
    while True:
        a, b = int(best.argmax()), int(partner[best.argmax()])
        if best[a] < rate or best[a] < 0:
            return cluster
        for matrix in (agreed, seen):
            matrix[a] += matrix[b]
            matrix[:, a] += matrix[:, b]
            matrix[b] = matrix[:, b] = 0
            matrix[a, a] = 0
        table[b] = table[:, b] = -1
        table[a] = table[:, a] = rates(a)
        cluster[cluster == b] = a
        # only rows that lost their partner have to be searched again
        closer = (table[a] > best) | ((table[a] == best) & (a < partner))
        partner[closer] = a
        lost = np.flatnonzero(((partner == a) & ~closer) | (partner == b))
        lost = np.union1d(lost, [a, b])
        partner[lost] = table[lost].argmax(1)
        best = table[np.arange(count), partner]


def expel_strangers(
    parts: NDArray[np.integer], part_count: int, views: Sequence[MaskEvidence], rate: float
) -> NDArray[np.int64]:
    """Take out of each part the Gaussians that rarely share a mask with the rest of it.

    A vase whose embeddings collide with those of the floor it stands on is a stranger there: in every view its mask
    holds next to nothing of the floor. It is too small to make the floor impure.

    Returns:
        (N,) parts; the strangers of part k are ``part_count + k``.
    """
    agreed = np.zeros(len(parts))
    total = np.zeros(len(parts))
    for view in views:
        table = view.shares(parts, part_count)
        share = table / np.maximum(table.sum(0), 1e-12)
        part = parts[view.gaussian]
        held = np.where(part >= 0, share[view.mask, part], 0) if part_count else np.zeros(len(part))
        agreed += np.bincount(view.gaussian, view.weight * held, minlength=len(parts))
        total += np.bincount(view.gaussian, view.weight, minlength=len(parts))
    strange = (parts >= 0) & (agreed < rate * total)
    return np.where(strange, parts + part_count, parts).astype(np.int64)


def cut_impure(
    parts: NDArray[np.integer], part_count: int, views: Sequence[MaskEvidence], pure_rate: float, min_size: int
) -> NDArray[np.int64]:
    """Cut the parts that masks divide: along the masks of that view which shows and divides most of the part.

    Parts cut where they should not have been are joined again by ``merge_parts``; parts that hold two objects can only
    be mended here.

    Returns:
        (N,) parts; new ones are numbered from ``part_count`` on.
    """
    parts = parts.copy()
    purity = np.zeros(part_count)
    shown = np.zeros(part_count)
    best_value = np.zeros(part_count)
    best_view = np.full(part_count, -1)
    for number, view in enumerate(views):
        table = view.shares(parts, part_count)
        visible = table.sum(0)
        see = visible > MIN_VISIBLE
        pure = np.zeros(part_count)
        pure[see] = ((table[:, see] / visible[see]) ** 2).sum(0)
        say = np.minimum(visible, FULL_SAY) / FULL_SAY * see
        purity += say * pure
        shown += say
        value = visible * (1 - pure) * see
        better = value > best_value
        best_value[better], best_view[better] = value[better], number
    impure = np.flatnonzero((shown > 0) & (purity < pure_rate * shown))
    next_part = part_count
    for number in np.unique(best_view[impure]):
        view = views[number]
        member = np.isin(parts[view.gaussian], impure[best_view[impure] == number])
        entries = csr_matrix(
            (view.weight[member], (view.gaussian[member], view.mask[member])), shape=(len(parts), len(view.area))
        )
        some = np.unique(view.gaussian[member])
        mask = strongest_columns(entries)[some]
        pieces, piece, size = np.unique(
            np.stack([parts[some], mask], axis=1), axis=0, return_inverse=True, return_counts=True
        )
        piece = piece.reshape(-1)
        for part in np.unique(pieces[:, 0]):
            own = np.flatnonzero((pieces[:, 0] == part) & (size >= min_size))
            # the largest piece keeps the part's number, together with what this view does not show
            for k in own[np.argsort(-size[own])][1:]:
                parts[some[piece == k]] = next_part
                next_part += 1
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
    if not len(views) or not label_count:
        return labels.astype(np.int64), np.zeros(len(labels), np.float32)
    rows, columns, weights = [], [], []
    shown = np.zeros(len(labels))
    for view in views:
        shown += np.bincount(view.gaussian, view.weight, minlength=len(labels))
        table = view.shares(labels, label_count)
        best = table.argmax(1)
        total = table.sum(1)
        speaks = (total > 0) & (table[np.arange(len(table)), best] > purity * total)
        entry = speaks[view.mask]
        rows.append(view.gaussian[entry])
        columns.append(best[view.mask[entry]])
        weights.append(view.weight[entry])
    votes = csr_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(len(labels), label_count)
    )
    winner = strongest_columns(votes)
    most = np.asarray(votes.max(1).todense()).reshape(-1)
    elected = (winner >= 0) & (most >= QUORUM * shown)
    share = most / np.maximum(np.asarray(votes.sum(1)).reshape(-1), 1e-12)
    return np.where(elected, winner, labels).astype(np.int64), np.where(elected, share, 0).astype(np.float32)
