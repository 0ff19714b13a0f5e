"""What a lifting method is: per-Gaussian state, trained on cached blend weights, decoded into labels.

A method never sees images, poses or geometry gradients. It sees, for some pixels of a keyframe, which Gaussians make
them up (the blend weights, constants) and which mask they lie in. Each method is one file that reads beside its paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch

from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.render import BlendWeights
from lift_ros.scene.gaussians import heirs, only_appends
from lift_ros.scene.neighbours import Neighbours

T = TypeVar("T")


@dataclass
class Batch:
    """Pixels that a step trains on, and no Gaussians but those that they show.

    Attributes:
        gaussians: (G,) int64, ascending: Gaussian of each column of ``weights``.
        weights: (P, G) blend weights.
        masks, mask_count, inside, pairs: of these pixels, as in ``LiftingView``.
    """

    gaussians: torch.Tensor
    weights: BlendWeights
    masks: torch.Tensor
    mask_count: int
    inside: torch.Tensor
    pairs: torch.Tensor

    def at(self, chosen: torch.Tensor) -> Batch:
        """The pixels where ``chosen`` (P,) is True, and the pairs of two of them."""
        if bool(chosen.all()):
            return self
        rows = chosen.nonzero()[:, 0]
        shown, weights = self.weights.rows(rows).compact()
        place = torch.where(chosen, chosen.cumsum(0) - 1, -1)[self.pairs]
        pairs = place[(place >= 0).all(1)]
        gaussians, masks, inside = (
            tensor.index_select(0, some)
            for tensor, some in ((self.gaussians, shown), (self.masks, rows), (self.inside, rows))
        )
        return Batch(gaussians, weights, masks, self.mask_count, inside, pairs)

    def masked(self) -> Batch:
        """The pixels that lie in a mask."""
        return self.at(self.masks >= 0)


@dataclass
class LiftingView:
    """Sampled pixels of one keyframe, in batches of which each is a sample of the keyframe like all of them together.

    Attributes:
        weights: (P, N) blend weights.
        masks: (P,) int64 mask of each pixel, -1 where there is none or the scene is too transparent to tell. Where
            masks overlap, the smallest.
        mask_count: masks are numbered 0 .. mask_count - 1, in this view only.
        inside: (P, M) bool, all masks of the segmenter that each pixel lies in, overlapping ones too, from the smallest
            mask to the largest; columns are not the numbers in ``masks``.
        pairs: (B, 2) int64, rows of pixels that face each other across the border of two masks; both in one batch.
        ends: the row after the last of each batch, ascending; None: all are one batch.
    """

    weights: BlendWeights
    masks: torch.Tensor
    mask_count: int
    inside: torch.Tensor
    pairs: torch.Tensor
    ends: tuple[int, ...] | None = None
    _prepared: dict[tuple[int, int, Callable], object] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _batches: dict[int, list[slice]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def batches(self, pixels: int = 0) -> list[slice]:
        """Rows of the batches, so many of them together that they are about ``pixels``."""
        if pixels not in self._batches:  # every step asks
            ends = self.ends or (len(self.masks),)
            count = min(max(round(ends[-1] / pixels), 1), len(ends)) if pixels else len(ends)
            last = [int(group[-1]) for group in np.array_split(ends, count)]
            self._batches[pixels] = [slice(start, stop) for start, stop in zip([0, *last], last, strict=False)]
        return self._batches[pixels]

    def batch(self, rows: slice, prepare: Callable[[Batch], T]) -> T:
        """What ``prepare`` makes of one of the ``batches``. It is kept, and must not be changed: steps come back."""
        start, stop = rows.start, rows.stop
        key = start, stop, prepare
        if key not in self._prepared:
            gaussians, weights = self.weights.between(start, stop).compact()
            first = self.pairs[:, 0]
            pairs = self.pairs[(first >= start) & (first < stop)] - start
            self._prepared[key] = prepare(
                Batch(gaussians, weights, self.masks[rows], self.mask_count, self.inside[rows], pairs)
            )
        return self._prepared[key]

    def follow(self, origin: torch.Tensor) -> LiftingView:
        """The view after an edit of the scene (see ``GaussianScene``): the halves of a split share its weight.

        Exact where Gaussians were only added that this view does not see; else close until the weights are computed
        anew.
        """
        old = self.weights
        if only_appends(origin, old.gaussian_count):
            followed = replace(self, weights=BlendWeights(old.crow, old.col, old.val, len(origin)))
            followed._prepared = self._prepared  # batches know only Gaussians that they show
            return followed
        entry, heir = heirs(old.col, origin)
        count = torch.bincount(entry, minlength=len(old.col))
        before = torch.cat([count.new_zeros(1), count.cumsum(0)])
        weights = BlendWeights(before[old.crow], heir, old.val[entry] / count[entry], len(origin))
        nothing = weights.crow[1:] == weights.crow[:-1]  # all that the pixel showed is gone
        return replace(
            self, weights=weights, masks=self.masks.masked_fill(nothing, -1), inside=self.inside & ~nothing[:, None]
        )


def draw(views: Sequence[LiftingView], prepare: Callable[[Batch], T], generator: torch.Generator, pixels: int = 0) -> T:
    """One of the ``views``, of it one batch, or several of about ``pixels``, prepared; see ``LiftingView.batch``."""
    view = views[int(torch.randint(len(views), (), generator=generator))]
    batches = view.batches(pixels)
    return view.batch(batches[int(torch.randint(len(batches), (), generator=generator))], prepare)


class Decoded(NamedTuple):
    """Labels of one moment. Their numbers mean nothing beyond it: the object registry makes them persistent.

    Attributes:
        labels: (N,) int64, equal for Gaussians that the method takes for one object, below 0 for none.
        confidence: (N,) float32 in [0, 1].
        wholes: (N,) int64, coarser labels: equal for Gaussians of one whole; None where the method has no hierarchy.
    """

    labels: torch.Tensor
    confidence: torch.Tensor
    wholes: torch.Tensor | None = None

    @classmethod
    def nothing(cls, gaussians: torch.Tensor) -> Decoded:
        """No Gaussian belongs to anything; ``gaussians`` has a row for each of them."""
        count = len(gaussians)
        return cls(gaussians.new_full((count,), -1, dtype=torch.int64), gaussians.new_zeros(count))


@runtime_checkable
class HasUnitFeatures(Protocol):
    """A method whose embeddings tell by their cosine how much two Gaussians are one thing."""

    @property
    def unit_features(self) -> torch.Tensor:
        """(N, d) of unit length."""
        ...


@runtime_checkable
class Clickable(Protocol):
    """A method that can tell how much each Gaussian is one thing with what somebody clicked on."""

    def similarity(self, clicked: BlendWeights) -> torch.Tensor:
        """The score field (N,) in [-1, 1]: 1 for what is surely one with some of the clicks.

        Args:
            clicked: (C, N), which Gaussians make up what was clicked on, a row for each click.
        """
        ...


class LiftingMethod(Protocol):
    """The default method or one of the published systems, on a scene that grows.

    Attributes:
        name: as in the configuration.
        trained: whether there is anything for ``step`` to do.
    """

    name: str
    trained: bool

    def edit(self, origin: torch.Tensor, means: torch.Tensor) -> None:
        """Follow an edit of the scene (see ``GaussianScene``) whose Gaussians now lie at ``means`` (N, 3)."""
        ...

    def step(self, views: Sequence[LiftingView], neighbours: Neighbours, rate: float = 1.0) -> dict[str, float]:
        """One step of training, on one or several of the ``views``, with ``rate`` times the learning rates; returns the
        values of the losses."""
        ...

    def decode(self, views: Sequence[LiftingView], evidence: Sequence[MaskEvidence], neighbours: Neighbours) -> Decoded:
        """Labels of all Gaussians now, from what was trained and from what the keyframes say.

        Args:
            views: sampled pixels of the keyframes.
            evidence: all their pixels, and before them what a loaded map knows.
        """
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """What a map file must hold to go on from here. Names starting with ``gaussian.`` have N rows."""
        ...

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """The inverse of ``state``.

        Raises:
            MapFileError: the state is that of another configuration. KeyError: of another method.
        """
        ...
