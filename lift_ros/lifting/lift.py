"""The default method: view consensus, kept up to date keyframe by keyframe.

pieces     touching Gaussians that masks hardly ever part (``local_parts``)
parts      pieces without what does not belong to them, cut where masks keep dividing them, and between known objects
objects    parts that share masks in most of the views that see both are joined (``merge_parts``)
votes      the masks decide each Gaussian near a border, and how sure that is
wholes     objects that share the largest masks in most of the views; where masks do not overlap, there are none
clicks     the parts that are joined with the one clicked on, down to the rate that is asked for

Nothing is trained: masks that split, merge or drop objects in a fifth of the views leave embeddings with codes of
their own for every mistake, and a majority of views does not notice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.evidence.counts import part_agreement
from lift_ros.evidence.linkage import Merges, merge_parts
from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.evidence.parts import connected_parts, most
from lift_ros.lifting.base import Decoded, LiftingView
from lift_ros.lifting.config import LiftConfig
from lift_ros.lifting.consensus import cut_impure, cut_known, expel_strangers, local_parts, vote
from lift_ros.render import BlendWeights
from lift_ros.scene.gaussians import follow
from lift_ros.scene.neighbours import Neighbours

PIECE_RATES = (0.9, 0.7)  # of the views in which touching Gaussians of one piece lie in one mask
PURE = 0.7  # a part is cut where masks divide it, if two of its points share a mask less often than this
PURE_STRANGERS = 0.9  # the same of what had to be taken out of other parts: several things, as likely as one
VOTE_PURITY = 0.6  # of a mask that votes for an object, else it covers several
MIN_PART = 6  # Gaussians; smaller parts join what surrounds them
MAX_PARTS = 3000  # that may be joined, the largest, since every pair takes memory; more are noise
MIN_KNOWN = 20  # Gaussians; fewer of a known object in the part of another are its border


class Lift:
    """Remembers which Gaussians it took for one object, so that it does not waver between two answers, and how it put
    them together, to answer clicks.
    """

    name = "lift"
    trained = False

    def __init__(self, config: LiftConfig, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.config = config  # nothing here is random: the seed is for methods that are trained
        # of each Gaussian, from 1 on; 0: not known yet, or none
        self._part = self._object = self._whole = torch.zeros(0, dtype=torch.int64, device=device)
        self._merges = Merges(np.zeros((0, 2), np.int64), np.zeros(0), 0)  # of the parts

    def edit(self, origin: torch.Tensor, means: torch.Tensor) -> None:
        self._part, self._object, self._whole = (
            follow(each, origin) for each in (self._part, self._object, self._whole)
        )

    def step(self, views: Sequence[LiftingView], neighbours: Neighbours, rate: float = 1.0) -> dict[str, float]:
        return {}

    def decode(self, views: Sequence[LiftingView], evidence: Sequence[MaskEvidence], neighbours: Neighbours) -> Decoded:
        if not len(self._object) or not evidence:
            return Decoded.nothing(self._object)
        config = self.config
        pieces = local_parts(neighbours, evidence, PIECE_RATES, MIN_PART)
        parts, count = _numbered(pieces, neighbours)
        expelled = expel_strangers(parts, count, evidence, config.same_object_rate)
        strange = expelled >= count
        parts, count = _numbered(expelled, neighbours)
        pure_rate = np.where(_mostly(strange, parts, count), PURE_STRANGERS, PURE)
        parts = cut_impure(parts, count, evidence, pure_rate, MIN_PART)
        parts = cut_known(parts, int(parts.max(initial=-1)) + 1, self._object.cpu().numpy(), MIN_KNOWN)
        parts, count = _numbered(parts, neighbours)
        merges = self._merged(parts, count, evidence, self._object)
        joined = _of_parts(merges.clusters(config.same_object_rate), parts)
        labels, confidence = vote(joined, count, evidence, VOTE_PURITY)
        self._object = self._kept(labels)
        whole = None
        if any(view.wholes for view in evidence):
            largest = [view.wholes or view for view in evidence]
            of_wholes = self._merged(labels, count, largest, self._whole)
            self._whole = self._kept(_of_parts(of_wholes.clusters(config.same_object_rate), labels))
            whole = self._whole - 1
            merges = self._continued(merges.until(config.same_object_rate), of_wholes)
        # an object goes by one of its parts, and that is the part of what votes gave to it
        self._remember(np.where(labels == joined, parts, labels), merges)
        return Decoded(self._object - 1, torch.from_numpy(confidence).to(self._object.device), whole)

    def _continued(self, of_objects: Merges, of_wholes: Merges) -> Merges:
        """Parts are joined to objects, and later, at lower rates, these, which go by one of their parts, to wholes."""
        rates = self.config.same_object_rate * of_wholes.rates.clip(max=1)
        pairs = np.concatenate([of_objects.pairs, of_wholes.pairs])
        return Merges(pairs, np.concatenate([of_objects.rates, rates]), of_objects.count)

    def _remember(self, part: NDArray[np.int64], merges: Merges) -> None:
        """Keep the ``part`` (N,) of each Gaussian, -1 for none, and how they are joined. What no mask shows any more
        gets the part that most of its object is in, or one of its own.
        """
        before = self._part.cpu().numpy() - 1
        unseen = np.flatnonzero((part < 0) & (before >= 0))
        if len(unseen):
            objects = _of_parts(self._merges.clusters(self.config.same_object_rate), before)
            lost, which = np.unique(objects[unseen], return_inverse=True)
            number = np.full(self._merges.count + 1, -1)
            number[lost] = np.arange(len(lost))
            there = np.flatnonzero((part >= 0) & (number[objects] >= 0))
            now_in = number[objects[there]]
            found = np.bincount(now_in, minlength=len(lost)) > 0
            own = merges.count + (~found).cumsum() - 1
            now = np.where(found, most(now_in, len(lost), part[there]), own)
            part = part.copy()
            part[unseen] = now[which]
        self._part, self._merges = self._kept(part), merges._replace(count=max(merges.count, part.max(initial=-1) + 1))

    def similarity(self, clicked: BlendWeights) -> torch.Tensor:
        """(N,) the share of the views in which masks hold the part of each Gaussian together with the one clicked on,
        directly or joined with others on the way (see ``Merges.agreement``): 1 within a part, -1 where no mask ever
        showed the Gaussian. Of several clicks (C, N), the most similar counts.

        Parts that were one object before count ``hysteresis`` more of the views, those of two less. Down to
        ``same_object_rate`` it is the object. Where masks overlap, below that it is this rate times the share
        of the views in which the largest masks hold both objects.
        """
        part = self._part.cpu().numpy() - 1
        scores = np.full(self._merges.count + 1, -1.0)  # the last is that of no part
        for row in range(clicked.shape[0]):
            here = slice(int(clicked.crow[row]), int(clicked.crow[row + 1]))
            weight, shown = clicked.val[here].cpu().numpy(), part[clicked.col[here].cpu().numpy()]
            if (shown >= 0).any():
                most = np.bincount(shown[shown >= 0], weight[shown >= 0]).argmax()
                scores[:-1] = np.maximum(scores[:-1], self._merges.agreement(int(most)))
        return torch.from_numpy(scores[part].astype(np.float32)).to(self._part.device)

    def _merged(
        self, parts: NDArray[np.int64], count: int, views: Sequence[MaskEvidence], known: torch.Tensor
    ) -> Merges:
        """The ``count`` parts (N,), joined by how often two share a mask in the views that show both; those that were
        taken for one the last time, ``known`` (N,) from 1 on, somewhat sooner, and those for two later.
        """
        size = np.bincount(parts[parts >= 0], minlength=count)
        asked = np.sort(np.argsort(-size, kind="stable")[:MAX_PARTS])
        number = np.full(count + 1, -1)
        number[asked] = np.arange(len(asked))
        agreed, seen = part_agreement(number[parts], len(asked), views)
        was = most(number[parts], len(asked), known.cpu().numpy())
        merges = merge_parts(agreed, seen, was, self.config.hysteresis)
        return Merges(asked[merges.pairs], merges.rates, count)

    def _kept(self, numbers: NDArray[np.int64]) -> torch.Tensor:
        """(N,) as they are remembered."""
        return torch.from_numpy(numbers + 1).to(self._object.device)

    def state(self) -> dict[str, torch.Tensor]:
        return {
            "gaussian.lift.part": self._part,
            "gaussian.lift.object": self._object,
            "gaussian.lift.whole": self._whole,
            "lift.merged_parts": torch.from_numpy(self._merges.pairs),
            "lift.merged_at": torch.from_numpy(self._merges.rates),
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        rows = (state[f"gaussian.lift.{name}"] for name in ("part", "object", "whole"))
        self._part, self._object, self._whole = (row.to(self._object.device, copy=True) for row in rows)
        pairs, rates = state["lift.merged_parts"].cpu().numpy(), state["lift.merged_at"].cpu().numpy()
        count = max(pairs.max(initial=-1) + 1, self._part.cpu().numpy().max(initial=0))
        self._merges = Merges(pairs, rates, int(count))


def _numbered(labels: NDArray[np.int64], neighbours: Neighbours) -> tuple[NDArray[np.int64], int]:
    """Connected parts of the labels, from 0 on, -1 for none, and their number."""
    parts = connected_parts(neighbours, labels, MIN_PART)
    return parts, int(parts.max(initial=-1)) + 1


def _of_parts(values: NDArray[np.int64], parts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) the value of each Gaussian's part, of ``values`` (K,); -1 for none."""
    return np.append(values, -1)[parts]


def _mostly(chosen: NDArray[np.bool_], parts: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """(K,) whether most Gaussians of each part are ``chosen`` (N,)."""
    known = parts >= 0
    return 2 * np.bincount(parts[known & chosen], minlength=count) > np.bincount(parts[known], minlength=count)
