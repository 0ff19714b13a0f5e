"""Unified-Lift: contrastive embeddings, and a codebook whose rows are the objects.

Zhu et al., "Rethinking End-to-End 2D to 3D Scene Segmentation in Gaussian Splatting" (CVPR 2025). Each Gaussian carries
an embedding f_i; a pixel shows F_u = sum_i w_ui f_i, drawn to the mean of its mask by InfoNCE (eq. 1). The codebook
F_obj (L x d) is learned along: the masks of a view are matched with its rows one to one (eq. 5), which are drawn to
the embeddings (eq. 8). The label is the row that an embedding is most similar to: embeddings are not clustered, rows
that are alike are made one.

What differs from the paper:
- Rows whose cosine is beyond ``SAME_OBJECT`` are one object: the one that most masks are most similar to stands for all
  (``distinct``). With a limit of 1 the label is the paper's, the argmax over all rows. Masks are matched one to one, so
  that each piece of a mask that was split gets a row of its own, though the object's embeddings stay together; with
  all 256 rows an object is in as many pieces then.
- The matching and eq. 8 see some hundred pixels of a view, not all, and of small masks and along borders more than
  their share (see ``sample_view``), so that the areas of eq. 5 are not those of the image. Eq. 8 moves the codebook
  alone, as in the authors' code; the embeddings follow eq. 1. The codebook moves ten times as fast as the authors'
  (5e-4), since it has a hundredth of their steps.
- Embeddings are kept near the unit sphere by OmniSeg3D's norm loss (its eq. 9), as in the code that the contrastive
  loss was taken from; they start as smooth functions of position.
- Eq. 1 is printed without a temperature; it is the loss of OmniSeg3D (4.1), and has its temperatures here.
- The similarity of eq. 2 is that of eq. 1 with the constant temperature 0.1 and rows scaled to unit length. A bare dot
  product with the rows, whose length eq. 6 sets to that of features divided by their L1 norm, gives 256 objects nearly
  the same probability, and prefers rows with few large entries.
- The similarity of eq. 7 has the temperatures of eq. 1; without them no pixel of a view with ten masks is certain. The
  paper's threshold of 0.8 lets the pieces of a mask that was split in two pass: they are uncertain by a half.
- With more granularities each has its own embeddings and codebook, since what one draws together the other must push
  apart: the smallest mask over a pixel makes the label, the largest the parent, and what lies between them answers
  clicks only. Levels are counted from the largest mask (``granularities``): where a part has no mask of its own, its
  pixels go with the parts beside it at the level above, not with the whole. With one granularity the masks are the
  smallest, as other methods have them; the paper took SAM's largest.
- What a click selects (the paper's multi-scale selection, 5.4) is told by the embeddings of all levels together, as in
  ``lifting.clicks``: what is of one level with the click is the more similar, the finer that level.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import normalize

from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.lifting.base import Batch, Decoded, LiftingView, draw
from lift_ros.lifting.clicks import similarity
from lift_ros.lifting.config import UnifiedLiftConfig
from lift_ros.lifting.contrastive import Clusters, Groups, contrastive_loss, norm_loss
from lift_ros.lifting.training import Trained, TrainedGaussians, descend, rows, waves
from lift_ros.render import BlendWeights
from lift_ros.scene.neighbours import Neighbours

TEMPERATURE = 0.1  # of the association; the least that eq. 1 has
SAME_OBJECT = 0.8  # cosine of two rows of the codebook
TAKEN_EVERY = 4  # pixel of a view that is asked which row it is most similar to
ASSOCIATED_PIXELS = 256  # of a batch: each is compared with the whole codebook


class UnifiedLift:
    """Per-Gaussian embeddings (N, levels * d), and codebooks (levels, L, d)."""

    name = "unified_lift"
    trained = True

    def __init__(self, config: UnifiedLiftConfig, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.config = config
        self._generator = torch.Generator().manual_seed(seed)
        self._shape = (config.levels, config.embedding_dim)
        self._prepare = _masked if config.levels == 1 else partial(_nested, config.levels)
        self.embeddings = TrainedGaussians(
            config.levels * config.embedding_dim, config.learning_rate, 0.99, device=device
        )
        codes = torch.randn(config.levels, config.codebook_size, config.embedding_dim, generator=self._generator)
        self.codebook = Trained(normalize(codes, p=1, dim=-1).to(device), config.codebook_learning_rate, 0.99)

    def edit(self, origin: torch.Tensor, means: torch.Tensor) -> None:
        self.embeddings.edit(origin, means, self._initial)

    def _initial(self, means: torch.Tensor) -> torch.Tensor:
        start = waves(means, self._shape[0] * self._shape[1], self._generator)
        return normalize(start.unflatten(1, self._shape), dim=-1).flatten(1)

    def step(self, views: Sequence[LiftingView], neighbours: Neighbours, rate: float = 1.0) -> dict[str, float]:
        batch, levels = draw(views, self._prepare, self._generator)
        if not len(batch.masks):
            return {}
        embeddings = self.embeddings.seen(batch.gaussians, batch.weights)
        features = embeddings.value.unflatten(1, self._shape)
        losses: Counter[str] = Counter()
        for level, groups in enumerate(levels):
            losses.update(self._losses(features[:, level], groups, level))
        return descend(losses, embeddings, self.codebook, rate=rate)

    def _losses(self, features: torch.Tensor, groups: Groups, level: int) -> dict[str, torch.Tensor]:
        """Of the masked pixels of a batch: eq. 1, the norm loss, and eq. 8 in its two parts."""
        config = self.config
        codes = self.codebook.value[level]
        clusters = Clusters.of(features, groups)
        contrastive, norm = contrastive_loss(features, clusters), norm_loss(features)
        some = torch.randperm(len(features), generator=self._generator)[:ASSOCIATED_PIXELS].to(features.device)
        classes, concentration = codebook_losses(
            rows(features.detach(), some),
            groups.index[some],
            clusters,
            codes,
            config.area_aware,
            config.max_uncertainty,
        )
        return {
            "contrastive": contrastive,
            "norm": config.norm_weight * norm,
            "class": config.class_weight * classes,
            "concentration": config.concentration_weight * concentration,
        }

    @property
    def unit_features(self) -> torch.Tensor:
        """(N, levels * d), of all levels side by side: the cosine of two Gaussians is the mean over the levels."""
        levels = normalize(self.embeddings.value.detach().unflatten(1, self._shape), dim=-1)
        return levels.flatten(1) / self.config.levels**0.5

    def similarity(self, clicked: BlendWeights) -> torch.Tensor:
        return similarity(self.unit_features, clicked)

    @torch.no_grad()
    def decode(self, views: Sequence[LiftingView], evidence: Sequence[MaskEvidence], neighbours: Neighbours) -> Decoded:
        """The row of the codebook that each Gaussian is most similar to; confident by its probability (eq. 2)."""
        finest, coarsest = 0, self.config.levels - 1
        wholes = self._decoded(views, coarsest)[0] if coarsest > finest else None
        return Decoded(*self._decoded(views, finest), wholes)

    def _decoded(self, views: Sequence[LiftingView], level: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Labels (N,) of a granularity, and their probabilities among the distinct rows of its codebook."""
        codes, features = self.codebook.value[level], self.embeddings.value.unflatten(1, self._shape)[:, level]
        levels = self.config.levels
        taken = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
        for view in views:
            some = view.inside.any(1).nonzero()[::TAKEN_EVERY, 0]
            masks = view.masks[some] if levels == 1 else granularities(view.inside[some], levels)[level]
            seen = view.weights.rows(some[masks >= 0]).matmul(features)
            taken += majorities(nearest(seen, codes), masks[masks >= 0], len(codes))
        # then by Gaussians: of some no keyframe is left that shows them
        hidden = torch.bincount(nearest(features, codes), minlength=len(codes))
        kept = distinct(codes, taken * (len(features) + 1) + hidden)
        best = association(features, codes[kept]).max(1)
        return kept[best.indices], best.values.exp()

    def state(self) -> dict[str, torch.Tensor]:
        return {
            "gaussian.unified_lift.embeddings": self.embeddings.value.detach(),
            "unified_lift.codebook": self.codebook.value.detach(),
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.embeddings.load(
            state["gaussian.unified_lift.embeddings"],
            "lifting.unified_lift.embedding_dim or lifting.unified_lift.levels",
        )
        self.codebook.load(state["unified_lift.codebook"], "lifting.unified_lift.codebook_size")


def majorities(labels: torch.Tensor, masks: torch.Tensor, count: int) -> torch.Tensor:
    """(count,) how many masks have most of their pixels at each label; ``labels`` in [0, count) and ``masks`` (P,)
    int64 of the pixels.
    """
    values, number = masks.unique(return_inverse=True)
    votes = torch.bincount(number * count + labels, minlength=len(values) * count).reshape(-1, count)
    return torch.bincount(votes.argmax(1), minlength=count)


def distinct(codes: torch.Tensor, taken: torch.Tensor) -> torch.Tensor:
    """Rows (K,) int64 of ``codes`` (L, d), K > 0, ascending: those ``taken`` (L,) most often, without any that is more
    similar to one of these than ``SAME_OBJECT``, and without those never taken.
    """
    unit = normalize(codes, dim=1)
    near = (unit @ unit.T > SAME_OBJECT).cpu()
    taken = taken.cpu()
    left, kept = taken > 0, []
    for row in taken.argsort(descending=True, stable=True).tolist():
        if left[row] or not kept:
            kept.append(row)
            left &= ~near[row]
    return torch.tensor(sorted(kept), device=codes.device)


def _masked(batch: Batch) -> tuple[Batch, list[Groups]]:
    """The pixels of a batch that lie in masks, and these as clusters."""
    batch = batch.masked()
    return batch, [Groups.of(batch.masks, batch.mask_count)]


def _nested(levels: int, batch: Batch) -> tuple[Batch, list[Groups]]:
    """The same of several granularities."""
    batch = batch.at(batch.inside.any(1))
    return batch, [Groups.of(masks, batch.inside.shape[1]) for masks in granularities(batch.inside, levels)]


def granularities(inside: torch.Tensor, levels: int) -> list[torch.Tensor]:
    """The mask (P,) int64 of each pixel at each of the ``levels``, two at least, from the finest to the coarsest; -1
    where there is none.

    Of those that a pixel is ``inside`` (P, M), from the smallest to the largest, the finest level has the smallest, the
    coarsest the largest, the one below it the second largest, and so on; the smallest again where there are no more.
    """
    count = inside.sum(1)
    place = inside.cumsum(1)  # 1 at the smallest mask over the pixel
    found = []
    for level in range(levels):
        wanted = (count - (levels - 1 - level)).clamp_min(1) if level else torch.ones_like(count)
        here = inside & (place == wanted[:, None])
        number = (here * torch.arange(inside.shape[1], device=inside.device)).sum(1)
        found.append(torch.where(count > 0, number, -1))
    return found


def association(features: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Eq. 2: logarithms of the probabilities (P, L) that ``features`` (P, d) are of the objects ``codes`` (L, d)."""
    return torch.log_softmax(features @ normalize(codes, dim=-1).T / TEMPERATURE, dim=1)


def nearest(features: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """(P,) int64, the row of ``codes`` (L, d) that each of the ``features`` (P, d) is most similar to."""
    return (features @ normalize(codes, dim=-1).T).argmax(1)


def match(log_probability: torch.Tensor, masks: torch.Tensor, count: int, area_aware: bool) -> torch.Tensor:
    """Objects of the masks of a view, one to one by the Hungarian method: the greatest sum over masks of P_u(object).

    Args:
        log_probability: (P, L), from ``association``.
        masks: (P,) int64 in [0, count).
        area_aware: sums over the pixels of a mask (eq. 5), so that large masks decide; else means over them (eq. 3).

    Returns:
        (count,) int64, -1 for masks that are left without an object, or without pixels.
    """
    sums = log_probability.new_zeros(count, log_probability.shape[1]).index_add(0, masks, log_probability.exp())
    sizes = torch.bincount(masks, minlength=count)
    if not area_aware:
        sums /= sizes.clamp_min(1)[:, None]
    mask, label = linear_sum_assignment(sums.nan_to_num().cpu().numpy(), maximize=True)
    matched = torch.full((count,), -1)
    matched[torch.from_numpy(mask)] = torch.from_numpy(label)
    matched = matched.to(masks.device)
    return torch.where(sizes > 0, matched, -1)


@torch.no_grad()
def uncertainty(features: torch.Tensor, masks: torch.Tensor, clusters: Clusters) -> torch.Tensor:
    """Eq. 7: W_u (P,) = 1 - the softmax over masks of sim(F_u, mean), at the pixel's own mask."""
    return 1 - clusters.log_softmax(features).gather(0, masks[None])[0].exp()


def codebook_losses(
    features: torch.Tensor,
    masks: torch.Tensor,
    clusters: Clusters,
    codes: torch.Tensor,
    area_aware: bool,
    max_uncertainty: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq. 8 in its two parts, without their weights: eq. 4 and eq. 6 of the pixels with W_u <= ``max_uncertainty``.

    The other pixels, and those of masks that are left without an object, count in |Omega| only. Both parts are to be
    small, as in eq. 4 and 6; the minus before eq. 8 is right for the first alone.

    Args:
        features: (P, d); masks: (P,) int64 of them; clusters: these pixels by their masks, or more of them.
        codes: (L, d). area_aware: as of ``match``.
    """
    log_probability = association(features, codes)
    matched = match(log_probability.detach(), masks, len(clusters.means), area_aware)[masks]
    certain = (uncertainty(features.detach(), masks, clusters) <= max_uncertainty) & (matched >= 0)
    labels = matched.clamp_min(0)
    share = certain.to(features.dtype) / len(features)
    classes = (share * class_loss(log_probability, labels)).sum()
    return classes, (share * concentration_loss(features, rows(codes, labels))).sum()


def class_loss(log_probability: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Eq. 4 pixel by pixel: (P,) -log P_u(label)."""
    return torch.nn.functional.nll_loss(log_probability, labels, reduction="none")


def concentration_loss(features: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Eq. 6 pixel by pixel: (P,) L1 distance of the object's row ``codes`` (P, d) to the feature over its L1 norm."""
    return (codes - normalize(features, p=1, dim=-1)).abs().sum(1)
