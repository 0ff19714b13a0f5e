"""PCF-Lift: embeddings that are distributions, fused by probabilistic contrastive learning.

Zhu et al., "PCF-Lift: Panoptic Lifting by Probabilistic Contrastive Fusion", ECCV 2024. A Gaussian of the scene carries
a normal distribution F = N(mu, diag(sigma^2)) of N dimensions, and a pixel shows the blended mu and sigma^2. Where
masks contradict each other the variance grows: it is the paper's uncertainty (3.1).

What differs from the paper:
- The features belong to Gaussians instead of coming from a network of the position, so there is no slow copy of a
  network, as in the architecture the paper builds on; equations (2) and (3) do not use it.
- Blended features are divided by alpha, since pixels and Gaussians are compared with each other.
- A step compares some hundred pixels of a view, and of small masks and along borders more than their share (half of
  them lie anywhere, a quarter is spread evenly over the masks, a quarter faces another mask; see ``sample_view``), so
  that small masks and borders count for more in the means of equations (2), (3) and (5) than in the image.
- The scene grows and training has no last epoch: the cross-view constraint starts after a number of steps. From then
  on L_contra is still of one view only, and the second enters L_cross alone, as in the authors' code.
- Equation (1) has ratios of variances, as it is printed; in the authors' code they are of standard deviations, and
  distributions of different width are less dissimilar (see ``log_kernel``).
- In algorithm 1, the paper bases the threshold on "the average similarity computed across grouped feature pairs
  identified within each view"; here as in the authors' code, it is the similarity halfway to the most similar other
  mask of a view, averaged over masks, then over views. That code counts a view with a single mask as 0 in this average;
  here such views are left out of it.
- The uncertainty that is published is not the variance, which has no upper bound and differs from object to object, but
  what a feature's mean and variance say against its label (see ``sureness``).
- There is no semantic field, by which the paper gives instances to pixels of the foreground only (3.3): masks of the
  background are grouped and matched like those of things, and every Gaussian gets a label.
- Masks of which a view has fewer than ``MIN_SAMPLES`` sampled pixels are no candidates of algorithm 1, which the paper
  does not say; the authors' code leaves out those of fewer than 10 pixels of the image. A single sample is its own
  mean, and would be the most concentrated of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.lifting import steps
from lift_ros.lifting.base import Batch, Decoded, LiftingView, draw
from lift_ros.lifting.config import PcfLiftConfig
from lift_ros.lifting.training import TrainedGaussians, descend, joined, rows, waves
from lift_ros.render import BlendWeights
from lift_ros.scene.neighbours import Neighbours

FIRST_VARIANCE = 0.1  # of features in [-1, 1]: all similarities are felt, none is near 1
MIN_VARIANCE = 0.01  # as in the authors' code: the regulariser would shrink variances for ever
AT_ONCE = 3  # dimensions, so that products of squared variances stay within what single precision holds
COMPARED_OF_A_MASK = 8  # pixels on average, at least: with one or two a mask has nothing that it could draw together
MOST_COMPARED = 512  # time and memory grow with the square
MIN_SAMPLES = 8  # of a mask in a view: fewer say nothing of its mean, nor of how concentrated it is
CHUNK = 2**22  # similarities held at a time while decoding


@dataclass(frozen=True)
class Normals:
    """Normal distributions with diagonal covariance: mean (..., N), variance (..., N)."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __getitem__(self, index: object) -> Normals:
        return Normals(self.mean[index], self.variance[index])


class PcfLift:
    """Per-Gaussian means and logarithms of variances, (N, 2 d)."""

    name = "pcf_lift"
    trained = True

    def __init__(self, config: PcfLiftConfig, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.features = TrainedGaussians(2 * config.embedding_dim, config.learning_rate, device=device)
        self._generator = torch.Generator().manual_seed(seed)

    def edit(self, origin: torch.Tensor, means: torch.Tensor) -> None:
        self.features.edit(origin, means, self._initial)

    def _initial(self, means: torch.Tensor) -> torch.Tensor:
        mean = waves(means, self.config.embedding_dim, self._generator)
        return torch.cat([mean, torch.full_like(mean, math.log(FIRST_VARIANCE))], dim=1)

    def step(self, views: Sequence[LiftingView], neighbours: Neighbours, rate: float = 1.0) -> dict[str, float]:
        """Down equation (6): contrast and concentration are L_contra, variance L_reg, and cross_view L_cross."""
        config = self.config
        late = self.features.all_steps >= config.cross_view_after and len(views) > 1
        order = torch.randperm(len(views), generator=self._generator)[: 2 if late else 1].tolist()
        first, *second = (draw([views[k]], Batch.masked, self._generator) for k in order)
        if not len(first.masks):
            return {}
        gaussians, places = first.gaussians, []
        for batch in second:
            gaussians, place = joined(gaussians, batch.gaussians, len(self.features.value))
            places.append(place)
        trained = self.features.of(gaussians)  # all that the batches show: what rarely moves would move too far
        some = self._some(first)
        own = _own(trained.value[: len(first.gaussians)])
        features, masks = blended(own, first.weights.rows(some)), first.masks[some]
        losses = {
            "contrast": contrast_loss(features, masks),
            "concentration": concentration_loss(features, masks, first.mask_count),
            "variance": config.variance_weight * variance_loss(features),
        }
        for batch, place in zip(second, places, strict=True):
            other = blended(_own(rows(trained.value, place)), batch.weights.rows(self._some(batch)))
            losses["cross_view"] = config.cross_view_weight * cross_view_loss(
                features, other, config.cross_view_similarity
            )
        return descend(losses, trained, rate=rate)

    def _some(self, batch: Batch) -> torch.Tensor:
        """(P,) int64, some pixels of a batch whose pixels all lie in masks: Omega of equation (2)."""
        count = max(self.config.pixels, min(COMPARED_OF_A_MASK * batch.mask_count, MOST_COMPARED))
        return torch.randperm(len(batch.masks), generator=self._generator)[:count].to(batch.masks.device)

    @torch.no_grad()
    def decode(self, views: Sequence[LiftingView], evidence: Sequence[MaskEvidence], neighbours: Neighbours) -> Decoded:
        """Each Gaussian takes the prototype most similar to it, and is as sure of it as ``sureness`` says."""
        own = _own(self.features.value)
        prototypes = self.prototypes(views)
        if not len(prototypes.mean) or not len(own.mean):
            return Decoded.nothing(own.mean)
        chunk = max(CHUNK // len(prototypes.mean), 1)
        labels, confidence = [], []
        for k in range(0, len(own.mean), chunk):
            some = own[k : k + chunk]
            labels.append(log_kernel(some[:, None], prototypes[None]).argmax(1))
            confidence.append(sureness(some, prototypes, labels[-1]))
        return Decoded(torch.cat(labels), torch.cat(confidence))

    @torch.no_grad()
    def prototypes(self, views: Sequence[LiftingView]) -> Normals:
        """One feature for each object: instance grouping and multi-view matching, algorithm 1."""
        grouped, scores = [], []
        own = _own(self.features.value)
        for view in views:
            masked = (view.masks >= 0).nonzero()[:, 0]
            _, masks, size = view.masks[masked].unique(return_inverse=True, return_counts=True)
            some = masked[size[masks] >= MIN_SAMPLES]
            if not len(some):
                continue
            masks = view.masks[some].unique(return_inverse=True)[1]
            features = blended(own, view.weights)[some]
            groups = averages(features, masks)
            grouped.append(groups)
            similarity = log_kernel(features, groups[masks]).exp()
            scores.append(_mean_of_each(masks, similarity[:, None])[:, 0])
        if not grouped:
            return own[:0]
        candidates = Normals(torch.cat([g.mean for g in grouped]), torch.cat([g.variance for g in grouped]))
        return candidates[suppress(candidates, torch.cat(scores), tuned_threshold(grouped))]

    def state(self) -> dict[str, torch.Tensor]:
        return {
            "gaussian.pcf_lift.features": self.features.value.detach(),
            "pcf_lift.steps": torch.tensor(self.features.all_steps),
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        steps = int(state.get("pcf_lift.steps", 0))
        self.features.load(state["gaussian.pcf_lift.features"], "lifting.pcf_lift.embedding_dim", steps)


def _own(state: torch.Tensor) -> Normals:
    """Features of Gaussians from their ``state`` (N, 2 d)."""
    mean, log_variance = state.chunk(2, dim=1)
    return Normals(mean, MIN_VARIANCE + log_variance.contiguous().exp())  # fast only where numbers lie side by side


def blended(own: Normals, weights: BlendWeights) -> Normals:
    """Features of pixels, (P, d), which show Gaussians with the features ``own``, (N, d), by ``weights`` (P, N)."""
    columns = torch.cat([own.mean, own.variance, torch.ones_like(own.mean[:, :1])], dim=1)
    sums = weights.matmul(columns)
    alpha = sums[:, -1:].clamp_min(1e-6)
    mean, variance = (sums[:, :-1] / alpha).chunk(2, dim=1)
    return Normals(mean, variance.clamp_min(MIN_VARIANCE))


def log_kernel(a: Normals, b: Normals) -> torch.Tensor:
    """Logarithm of the probability product kernel, equation (1), of distributions whose shapes broadcast.

    The ratios in its first factor are of variances, as the paper prints them. In the integral of sqrt(p q), the kernel
    with rho = 1/2, they are of standard deviations s, and so they are in the authors' code (Runsong123/PCF-Lift:
    ``stand_covarance = sqrt(covariance)``, beta = (s_2 / s_1 + s_1 / s_2) / 2). As printed, distributions of different
    width are less similar: in three dimensions, with equal means, where variances differ by a factor of 10 the kernel
    is 0.088, and by the integral 0.436; by a factor of 2, 0.716 and 0.915.
    """
    # r + 1 / r of a ratio r of variances is the sum of their squares over their product, whose logarithm is a sum of
    # one of each; so for a pair only the logarithm of that sum is left, and one of the product of a few of them
    twice_a, twice_b = 2 * a.variance, 2 * b.variance
    squared_a, squared_b = a.variance.square(), b.variance.square()
    alone = 0.5 * (twice_a.log().sum(-1) + b.variance.log().sum(-1))
    distance, logarithms, product, last = 0.0, 0.0, 1.0, a.mean.shape[-1] - 1
    for d in range(last + 1):  # one after another: sums over a last axis this short are slow
        distance = distance + (a.mean[..., d] - b.mean[..., d]).square() / (twice_a[..., d] + twice_b[..., d])
        product = product * (squared_a[..., d] + squared_b[..., d])
        if d % AT_ONCE == AT_ONCE - 1 or d == last:
            logarithms, product = logarithms + product.log(), 1.0
    return alone - 0.5 * (distance + logarithms)


def contrast_loss(features: Normals, masks: torch.Tensor) -> torch.Tensor:
    """Equation (2), of the pixels Omega of one view and their masks (P,) int64."""
    if steps.fits(features.mean):
        return steps.probabilistic_contrast(features.mean, features.variance, masks)
    kernel = log_kernel(features[:, None], features[None]).exp()  # in (0, 1]
    similarity = kernel.exp()
    same = (masks[:, None] == masks[None]).to(kernel.dtype)
    return (similarity.sum(1).log() - (similarity * same).sum(1).log()).mean()


def concentration_loss(features: Normals, masks: torch.Tensor, mask_count: int) -> torch.Tensor:
    """Equation (3), of the pixels of one view and their masks (P,) int64 below ``mask_count``; with (2) it is (4)."""
    if steps.fits(features.mean):
        return steps.concentration(features.mean, features.variance, masks, mask_count)
    _, index = masks.unique(return_inverse=True)
    groups = averages(features, index)
    centers = Normals(rows(groups.mean, index), rows(groups.variance, index))
    return -log_kernel(features, centers).mean()


def variance_loss(features: Normals) -> torch.Tensor:
    """L_reg of 3.2, log prod_d sigma_d^2: mean over the pixels (P, N). Below 0 where features are certain."""
    return features.variance.log().sum(1).mean()


def cross_view_loss(first: Normals, second: Normals, similarity: float) -> torch.Tensor:
    """L_cross, equation (5): pixels of two views, (P, N) and (Q, N), that are more similar than tau, ``similarity``,
    already become more so.
    """
    if steps.fits(first.mean):
        least = math.log(similarity) if similarity > 0 else -math.inf
        return steps.cross_view((first.mean, first.variance), (second.mean, second.variance), least)
    log_similarity = log_kernel(first[:, None], second[None])
    pairs = log_similarity.exp() > similarity
    return -torch.where(pairs, log_similarity, 0).sum() / pairs.sum().clamp_min(1)


def averages(features: Normals, group: torch.Tensor) -> Normals:
    """Mean features (M, N) of the groups 0 .. M - 1, none of them empty; ``group`` (P,)."""
    return Normals(_mean_of_each(group, features.mean), _mean_of_each(group, features.variance))


def _mean_of_each(group: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    count = torch.bincount(group)
    return values.new_zeros(len(count), values.shape[1]).index_add(0, group, values) / count[:, None]


def tuned_threshold(grouped: Sequence[Normals]) -> float:
    """T of algorithm 1, from the features of the masks of each view: how similar a mask would be to the most similar
    other one of its view if all means were half as far apart, averaged over the masks of a view, then over the views
    that have several; 0 if none has.
    """
    halfway = []
    for groups in grouped:
        if len(groups.mean) > 1:
            closer = Normals(groups.mean / 2, groups.variance)
            halfway.append(log_kernel(closer[:, None], closer[None]).exp().fill_diagonal_(0).amax(1).mean())
    return float(torch.stack(halfway).mean()) if halfway else 0.0


def suppress(candidates: Normals, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Multi-view matching of algorithm 1: the candidate with the highest score is a prototype, and those at least
    ``threshold`` similar to it go; and so on, until none is left. Returns the prototypes' indices."""
    scores = scores.clone()
    chosen = []
    while (scores >= 0).any():
        best = int(scores.argmax())
        chosen.append(best)
        scores[log_kernel(candidates, candidates[best]).exp() >= threshold] = -1.0
        scores[best] = -1.0
    return torch.tensor(chosen, dtype=torch.int64, device=scores.device)


def sureness(features: Normals, prototypes: Normals, labels: torch.Tensor) -> torch.Tensor:
    """How sure ``features`` (P, N) are of their ``labels`` (P,) among the ``prototypes`` (K, N): (P,) in [0, 1], the
    product of

    - the probability that a feature with this mean is of the label's prototype, and not of another, all being equally
      frequent;
    - the density of that prototype at the mean, over its greatest density: 1 in its middle;
    - sigma of the prototype over that of the feature, in each dimension in which the feature is the wider one.

    So of two features with one mean and label the wider is the less sure. The kernel does not tell that: by equation
    (1) as printed, what is very wide is nearest to the widest prototype, by far.
    """
    distance = torch.zeros(len(labels), len(prototypes.mean), dtype=features.mean.dtype, device=labels.device)
    for d in range(features.mean.shape[1]):  # one after another takes the least memory
        apart = features.mean[:, d, None] - prototypes.mean[:, d]
        distance += apart.square() / prototypes.variance[:, d]
    probability = (-0.5 * (distance + prototypes.variance.log().sum(1))).log_softmax(1)
    wider = (features.variance / prototypes.variance[labels]).clamp_min(1).log().sum(1)
    at_label = (probability - 0.5 * distance).gather(1, labels[:, None])[:, 0]
    return (at_label - 0.5 * wider).exp()
