"""How well, and how steadily, published instance labels agree with ground truth over the views of a scene.

All metrics are computed from counts that are gathered view by view, so an hour of video needs no more memory than a
minute of it. Label 0 means "unlabelled" in a prediction and "background" in ground truth; both are label images of
one (H, W) shape whose ids mean the same in every view.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

MATCH_IOU = 0.5  # above one half a segment has at most one match, so matching needs no search
BLOCK = 2**17  # pixels that are counted at once, for little memory: that of the mapper is measured at the same time


class Contingency:
    """How many pixels carry label p in one label image and label g in the other, over all views added so far."""

    def __init__(self) -> None:
        self._keys = np.empty(0, np.uint64)  # predicted id in the upper, true id in the lower 32 bits
        self._counts = np.empty(0, np.int64)

    def add(self, predicted: ArrayLike, truth: ArrayLike) -> None:
        """Count one view: two integer label images of the same shape, ids in [0, 2^32)."""
        p, g = _label_image(predicted, "predicted"), _label_image(truth, "true")
        if p.shape != g.shape:
            raise ValueError(f"predicted labels are {p.shape}, the ground truth {g.shape}")
        p, g = p.ravel(), g.ravel()
        blocks = [_counted(p[i : i + BLOCK], g[i : i + BLOCK]) for i in range(0, p.size, BLOCK)]
        if blocks:
            self._merge(*map(np.concatenate, zip(*blocks, strict=True)))

    def update(self, other: Contingency) -> None:
        """Add the counts of another table, of other views."""
        self._merge(other._keys, other._counts)

    @classmethod
    def of(cls, predicted: Iterable[ArrayLike], truth: Iterable[ArrayLike]) -> Contingency:
        """The counts of two sequences of (H, W) label images of equal length."""
        table = cls()
        for p, g in zip(predicted, truth, strict=True):
            table.add(p, g)
        return table

    def _merge(self, keys: NDArray[np.uint64], counts: NDArray[np.int64]) -> None:
        merged, index = np.unique(np.concatenate([self._keys, keys]), return_inverse=True)
        total = np.zeros(len(merged), np.int64)
        np.add.at(total, index, np.concatenate([self._counts, counts]))
        self._keys, self._counts = merged, total

    @property
    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Predicted ids, true ids and pixel counts, (n,) each, of the pairs that occur."""
        predicted, truth = self._keys >> np.uint64(32), self._keys & np.uint64(0xFFFFFFFF)
        return predicted.astype(np.int64), truth.astype(np.int64), self._counts.copy()


def _counted(predicted: NDArray[np.integer], truth: NDArray[np.integer]) -> tuple[NDArray, NDArray]:
    """Keys of ``Contingency`` and their counts of the (n,) labels of some pixels."""
    return np.unique(predicted.astype(np.uint64) << np.uint64(32) | truth.astype(np.uint64), return_counts=True)


def _label_image(labels: ArrayLike, which: str) -> NDArray[np.integer]:
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{which} labels must be integers, got {labels.dtype}")
    if labels.size and (int(labels.min()) < 0 or int(labels.max()) >= 2**32):
        raise ValueError(f"{which} labels must lie in [0, 2^32), got [{labels.min()}, {labels.max()}]")
    return labels


@dataclass(frozen=True)
class PanopticQuality:
    """PQ = SQ * RQ of one category, and the segments behind it.

    Attributes:
        pq: panoptic quality. sq: mean IoU of the matched segments. rq: F1 of finding them.
        matched, spurious, missed: true positives, false positives, false negatives.
    """

    pq: float
    sq: float
    rq: float
    matched: int
    spurious: int
    missed: int


@dataclass(frozen=True)
class AssignedQuality:
    """Quality after assigning at most one predicted segment to each true one.

    Attributes:
        miou: mean IoU over the true objects, 0 for those without a partner.
        f_score: harmonic mean of precision and recall of the pairs with IoU > 0.5.
    """

    miou: float
    f_score: float


@dataclass(frozen=True)
class _Segments:
    """Sizes and overlaps of the things: pixel counts of P predicted and G true segments."""

    p_ids: NDArray[np.int64]  # (P,)
    g_ids: NDArray[np.int64]  # (G,)
    predicted: NDArray[np.int64]  # (P,) pixels of each predicted segment, void excluded
    mostly_void: NDArray[np.bool_]  # (P,) ground truth is void on more than half of the segment
    truth: NDArray[np.int64]  # (G,)
    p: NDArray[np.int64]  # (n,) index of the predicted, ...
    g: NDArray[np.int64]  # (n,) ... of the true segment, ...
    iou: NDArray[np.float64]  # (n,) ... and IoU of each pair that overlaps


def background_id(table: Contingency, void: int | None = None) -> int:
    """The predicted id that stands for the background: of those with most of their pixels on the true background, the
    one with the most pixels over all views.

    Where there is none, as where floor and walls are true instances, every predicted segment is a thing, and this is 0
    (unlabelled).
    """
    p, g, count = table.pairs
    if void is not None:
        p, g, count = p[g != void], g[g != void], count[g != void]
    ids, index = np.unique(p, return_inverse=True)
    pixels, on_background = np.bincount(index, count), np.bincount(index, count * (g == 0))
    pixels[2 * on_background <= pixels] = 0
    return int(ids[np.argmax(pixels)]) if pixels.any() else 0


def _things(table: Contingency, void: int | None) -> _Segments:
    p, g, count = table.pairs
    is_void = np.zeros(len(g), bool) if void is None else g == void
    thing_p, thing_g = (p != 0) & (p != background_id(table, void)), (g != 0) & ~is_void

    p_ids, g_ids = np.unique(p[thing_p]), np.unique(g[thing_g])

    def area(ids: NDArray, of: NDArray, where: NDArray) -> NDArray[np.int64]:
        return np.bincount(np.searchsorted(ids, of[where]), count[where], len(ids)).astype(np.int64)

    predicted = area(p_ids, p, thing_p & ~is_void)
    truth = area(g_ids, g, thing_g)
    both = thing_p & thing_g
    i, j = np.searchsorted(p_ids, p[both]), np.searchsorted(g_ids, g[both])
    iou = count[both] / (predicted[i] + truth[j] - count[both])
    return _Segments(p_ids, g_ids, predicted, area(p_ids, p, thing_p & is_void) > predicted, truth, i, j, iou)


def panoptic_quality(table: Contingency, void: int | None = None) -> PanopticQuality:
    """PQ_scene, SQ_scene and RQ_scene over things (Siddiqui et al., Panoptic Lifting, sec. 4).

    A subset is all pixels of one id over *all* views, so an object whose id changes between views is matched at most
    once. A predicted and a true subset match at IoU > 0.5. Data sets that label only things leave their background 0:
    the largest predicted segment there, unlabelled pixels counted as one, stands for it and is no thing, see
    ``background_id``. Background pixels are not void: labels on them cost IoU. Unlabelled pixels are no segment, but
    missing all the same.

    Args:
        table: counts over all views.
        void: true id of pixels without ground truth. They take no part in any IoU, and an unmatched predicted segment
            that lies mostly on them is not held against the prediction (Kirillov et al., Panoptic Segmentation).

    Returns:
        The quality; all zero where there is neither a predicted nor a true thing.
    """
    things = _things(table, void)
    match = things.iou > MATCH_IOU
    held_against = ~things.mostly_void
    held_against[things.p[match]] = False
    matched, spurious = int(match.sum()), int(held_against.sum())
    missed = len(things.truth) - matched
    sq = float(things.iou[match].mean()) if matched else 0.0
    rq = matched / (matched + 0.5 * spurious + 0.5 * missed) if matched else 0.0
    return PanopticQuality(sq * rq, sq, rq, matched, spurious, missed)


def matched_objects(table: Contingency, void: int | None = None) -> dict[int, int]:
    """The predicted id of each true object that :func:`panoptic_quality` counts as found: true id -> predicted id."""
    things = _things(table, void)
    match = things.iou > MATCH_IOU
    return dict(zip(things.g_ids[things.g[match]].tolist(), things.p_ids[things.p[match]].tolist(), strict=True))


def background_iou(table: Contingency, void: int | None = None) -> float | None:
    """IoU over all views of the true background (0) with what is predicted as none of the things; None without one.

    The published PQ_scene of Messy Rooms is the mean of two categories, things and this background, where the
    background's PQ is its IoU if above 0.5 and else 0 (Bhalgat et al., Contrastive Lift).
    """
    p, g, count = table.pairs
    known = np.ones(len(g), bool) if void is None else g != void
    predicted = ((p == 0) | (p == background_id(table, void))) & known
    truth = (g == 0) & known
    return float(count[predicted & truth].sum() / count[predicted | truth].sum()) if truth.any() else None


def assigned_quality(table: Contingency, void: int | None = None) -> AssignedQuality:
    """mIoU and F-score at IoU 0.5 after the linear assignment that maximises the summed IoU (Unified-Lift, sec. 4.1).

    Things, background and ``void`` as in :func:`panoptic_quality`, subsets over all views. The paper does not say
    whether its IoU is over all views or of each.
    """
    things = _things(table, void)
    n_true = len(things.truth)
    iou = np.zeros((n_true, len(things.predicted)))
    iou[things.g, things.p] = things.iou
    true_index, predicted_index = linear_sum_assignment(iou, maximize=True)
    assigned = iou[true_index, predicted_index]
    counted = ~things.mostly_void
    counted[predicted_index[assigned > MATCH_IOU]] = True
    hits, n_predicted = int((assigned > MATCH_IOU).sum()), int(counted.sum())
    return AssignedQuality(
        miou=float(assigned.sum() / n_true) if n_true else 0.0,
        f_score=2 * hits / (n_predicted + n_true) if hits else 0.0,
    )


@dataclass(frozen=True)
class ViewConsistency:
    """Agreement of the labels published at the time with those the final map gives the same views.

    Attributes:
        published: share, among the pixels that carried an id at the time, of those that carry the same in the end.
        all: the same among the pixels that carry an id then *or* in the end: labels that came late count against it.
    """

    published: float
    all: float


def view_consistency(table: Contingency) -> ViewConsistency:
    """Consistency from counts of (published online, final map) label images; 0 where nothing was labelled."""
    online, final, count = table.pairs
    same = int(count[(online == final) & (online != 0)].sum())
    published = int(count[online != 0].sum())
    either = int(count[(online != 0) | (final != 0)].sum())
    return ViewConsistency(same / published if published else 0.0, same / either if either else 0.0)


class IdSwitches:
    """Counts how often a true object's published id changes over time.

    An object's published id in a frame is the one most of its pixels carry. Frames in which it is not seen, or in
    which most of its pixels are unlabelled, are passed over: what counts is a change between consecutive frames in
    which the object was labelled (IDSW of CLEAR MOT, Bernardin and Stiefelhagen 2008).
    """

    def __init__(self, min_pixels: int = 64) -> None:
        """``min_pixels``: objects that show less of themselves are passed over; a sliver's majority is its border's."""
        self.min_pixels = min_pixels
        self.switches = 0
        self._last: dict[int, tuple[int, float]] = {}  # true id -> published id and time when it was last labelled
        self._seconds = 0.0

    def add(self, published: ArrayLike, truth: ArrayLike, stamp: float) -> None:
        """One frame in order of time: (H, W) published ids, (H, W) true ids, time in seconds."""
        frame = Contingency()
        frame.add(published, truth)
        p, g, count = frame.pairs
        for object_id in np.unique(g[g != 0]).tolist():
            here = g == object_id
            if count[here].sum() < self.min_pixels:
                continue
            label = int(p[here][np.argmax(count[here])])
            if label == 0:
                continue
            before, since = self._last.get(object_id, (label, stamp))
            if stamp < since:
                raise ValueError(f"frames must be added in order of time, got {stamp} s after {since} s")
            self._seconds += stamp - since
            self.switches += int(label != before)
            self._last[object_id] = (label, stamp)

    @property
    def per_object_minute(self) -> float | None:
        """Switches per minute between an object's first and last labelled frame, these minutes summed over the objects;
        None as long as no object was labelled at two times.
        """
        return 60 * self.switches / self._seconds if self._seconds > 0 else None
