"""How well the masks of single views agree: best dice and area-weighted IoU (DiscoNeRF), IoU at two levels (OmniSeg3D).

Nothing here asks for the same label in two views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lift_ros.evaluation.images import mask_iou
from lift_ros.evaluation.metrics import Contingency


@dataclass(frozen=True)
class Overlaps:
    """Pixels of N predicted and M true masks of one view.

    Attributes:
        both: (N, M) pixels in both. predicted, truth: (N,) and (M,) pixels of each.
    """

    both: NDArray[np.int64]
    predicted: NDArray[np.int64]
    truth: NDArray[np.int64]

    @classmethod
    def of_labels(cls, view: Contingency, background: int = 0) -> Overlaps:
        """Of the label images of one view. Labels 0, and the predicted label ``background``, are no masks."""
        p, g, count = view.pairs
        p = np.where(p == background, 0, p)
        p_ids, i = np.unique(p, return_inverse=True)
        g_ids, j = np.unique(g, return_inverse=True)
        both = np.zeros((len(p_ids), len(g_ids)), np.int64)
        np.add.at(both, (i, j), count)
        kept_p, kept_g = p_ids != 0, g_ids != 0
        return cls(both[kept_p][:, kept_g], both.sum(1)[kept_p], both.sum(0)[kept_g])


@dataclass(frozen=True)
class MaskSetQuality:
    """DiscoNeRF's figures.

    Attributes:
        iou: mean over the true masks, weighted by area, of the IoU with the predicted mask that fits best.
        best_dice: BD(P, G) of eq. 8. symmetric_best_dice: the lesser of BD(P, G) and BD(G, P).
    """

    iou: float
    best_dice: float
    symmetric_best_dice: float


def mask_set_quality(overlaps: Overlaps) -> MaskSetQuality:
    """Agreement of the masks of one view (DiscoNeRF, sec. 4.1, eq. 8); 0 where there is no mask on either side."""
    both, p, g = overlaps.both, overlaps.predicted, overlaps.truth
    if not both.size:
        return MaskSetQuality(0.0, 0.0, 0.0)
    iou = both / (p[:, None] + g - both)
    dice = 2 * both / (p[:, None] + g)
    best_dice, reverse = float(dice.max(1).mean()), float(dice.max(0).mean())
    return MaskSetQuality(float(np.average(iou.max(0), weights=g)), best_dice, min(best_dice, reverse))


def mean_mask_set_quality(views: Sequence[Contingency], background: int = 0) -> MaskSetQuality:
    """Mean over the views that have true masks; ``background`` as in ``Overlaps.of_labels``. 0 without any."""
    overlaps = [Overlaps.of_labels(view, background) for view in views]
    qualities = [mask_set_quality(o) for o in overlaps if len(o.truth)]
    if not qualities:
        return MaskSetQuality(0.0, 0.0, 0.0)
    return MaskSetQuality(
        *(float(np.mean([getattr(q, name) for q in qualities])) for name in MaskSetQuality.__dataclass_fields__)
    )


@dataclass(frozen=True)
class HierarchicalIou:
    """OmniSeg3D's figures for one click: ``part`` (level 1), ``whole`` (level 2) and their ``mean``."""

    part: float
    whole: float

    @property
    def mean(self) -> float:
        """IoU_Avg, below eq. 12."""
        return (self.part + self.whole) / 2


def hierarchical_iou(scores: ArrayLike, part: ArrayLike, whole: ArrayLike) -> HierarchicalIou:
    """IoU at two levels from one click (OmniSeg3D, sec. 4.1, eq. 12).

    Args:
        scores: (H, W) how much each pixel belongs to the one that was clicked, each level at the threshold that fits it
            best. Booleans are what was selected, which no threshold widens: the IoU of nothing is 0.
        part, whole: (H, W) boolean true masks, the first within the second.

    Raises:
        ValueError: shapes differ, a mask is empty, or ``part`` is not within ``whole``.
    """
    scores = np.asarray(scores)
    part, whole = np.asarray(part, bool), np.asarray(whole, bool)
    if not scores.shape == part.shape == whole.shape:
        raise ValueError(f"scores are {scores.shape}, the masks {part.shape} and {whole.shape}")
    if not part.any() or (part & ~whole).any():
        raise ValueError("the part must not be empty and must lie within the whole")
    return HierarchicalIou(_best_threshold_iou(scores, part), _best_threshold_iou(scores, whole))


def _best_threshold_iou(scores: NDArray, mask: NDArray[np.bool_]) -> float:
    """max over t of IoU({score > t}, mask), by adding pixels in descending order of their score."""
    if scores.dtype == bool:
        return mask_iou(scores, mask)
    order = np.argsort(-scores.astype(np.float64), axis=None, kind="stable")
    ranked, inside = scores.ravel()[order], mask.ravel()[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # a threshold takes all pixels of one score or none
    hits, taken = inside.cumsum(), np.arange(1, inside.size + 1)
    return float((hits / (taken + inside.sum() - hits))[last].max())
