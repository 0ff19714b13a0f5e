"""The default method: view consensus, kept up to date keyframe by keyframe.

pieces     touching Gaussians that masks hardly ever part (``local_parts``)
parts      pieces without what does not belong to them, cut where masks keep dividing them, and between known objects
objects    parts that share masks in most of the views that see both are joined (``merge_parts``)
votes      the masks decide each Gaussian near a border, and how sure that is

Nothing is trained: masks that split, merge or drop objects in a fifth of the views leave embeddings with codes of
their own for every mistake, and a majority of views does not notice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.lifting.base import Decoded, LiftingView
from lift_ros.lifting.config import LiftConfig
from lift_ros.lifting.consensus import cut_impure, cut_known, expel_strangers, local_parts, merge_parts, vote
from lift_ros.lifting.counts import part_agreement
from lift_ros.lifting.evidence import MaskEvidence
from lift_ros.lifting.parts import connected_parts
from lift_ros.scene.gaussians import follow
from lift_ros.scene.neighbours import Neighbours

PIECE_RATES = (0.9, 0.7)  # of the views in which touching Gaussians of one piece lie in one mask
PURE_STRANGERS = 0.9  # pure_part_rate of what had to be taken out of other parts: several things, as likely as one
MIN_PART = 6  # Gaussians; smaller parts join what surrounds them
MIN_KNOWN = 20  # Gaussians; fewer of a known object in the part of another are its border


class Lift:
    """Remembers only which Gaussians it took for one object, so that it does not waver between two answers."""

    name = "lift"
    trained = False

    def __init__(self, config: LiftConfig, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.config = config  # nothing here is random: the seed is for methods that are trained
        self._object = torch.zeros(0, dtype=torch.int64, device=device)  # from 1 on, 0: not known yet

    def edit(self, origin: torch.Tensor, means: torch.Tensor) -> None:
        self._object = follow(self._object, origin)

    def step(self, views: Sequence[LiftingView], neighbours: Neighbours, rate: float = 1.0) -> dict[str, float]:
        return {}

    def decode(self, views: Sequence[LiftingView], evidence: Sequence[MaskEvidence], neighbours: Neighbours) -> Decoded:
        if not len(self._object) or not evidence:
            return Decoded(torch.full_like(self._object, -1), torch.zeros_like(self._object, dtype=torch.float32))
        config = self.config
        pieces = local_parts(neighbours, evidence, PIECE_RATES, MIN_PART)
        parts, count = _numbered(pieces, neighbours)
        expelled = expel_strangers(parts, count, evidence, config.same_object_rate)
        strange = expelled >= count
        parts, count = _numbered(expelled, neighbours)
        pure_rate = np.where(_mostly(strange, parts, count), PURE_STRANGERS, config.pure_part_rate)
        parts = cut_impure(parts, count, evidence, pure_rate, MIN_PART)
        parts = cut_known(parts, int(parts.max(initial=-1)) + 1, self._object.cpu().numpy(), MIN_KNOWN)
        parts, count = _numbered(parts, neighbours)
        agreed, seen = part_agreement(parts, count, evidence)
        known = self._known(parts, count)
        same = (known[:, None] == known[None, :]) & (known > 0)[None, :]
        other = (known[:, None] != known[None, :]) & (known > 0)[:, None] & (known > 0)[None, :]
        agreed += config.hysteresis * seen * (same.astype(float) - other)
        joined = merge_parts(agreed, seen, config.same_object_rate)
        labels = np.where(parts >= 0, joined[parts], -1) if count else parts
        labels, confidence = vote(labels, count, evidence, config.vote_purity)
        self._object = torch.from_numpy(labels + 1).to(self._object.device)
        return Decoded(self._object - 1, torch.from_numpy(confidence).to(self._object.device))

    def _known(self, parts: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """(K,) what most Gaussians of each part were taken for the last time, 0 where most were not known."""
        values, column = np.unique(self._object.cpu().numpy(), return_inverse=True)
        member = parts >= 0
        cell = parts[member] * len(values) + column[member]
        table = np.bincount(cell, minlength=count * len(values)).reshape(count, len(values))
        return values[table.argmax(1)] if count else np.zeros(0, np.int64)

    def state(self) -> dict[str, torch.Tensor]:
        return {"gaussian.lift.object": self._object}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self._object = state["gaussian.lift.object"].to(self._object.device, copy=True)


def _numbered(labels: NDArray[np.int64], neighbours: Neighbours) -> tuple[NDArray[np.int64], int]:
    """Connected parts of the labels, from 0 on, -1 for none, and their number."""
    parts = connected_parts(neighbours, labels, MIN_PART)
    return parts, int(parts.max(initial=-1)) + 1


def _mostly(chosen: NDArray[np.bool_], parts: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """(K,) whether most Gaussians of each part are ``chosen`` (N,)."""
    known = parts >= 0
    return 2 * np.bincount(parts[known & chosen], minlength=count) > np.bincount(parts[known], minlength=count)
