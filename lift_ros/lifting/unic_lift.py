"""UniC-Lift: contrastive embeddings whose signs are the label.

Dhiman et al., "UniC-Lift: Unified 3D Instance Segmentation via Contrastive Learning", arXiv 2512.24763. Each Gaussian
carries an embedding f_i; a pixel shows V_u = sum_i w_ui f_i. sigma is the logistic function, so embeddings live in the
unit cube and the corner nearest to one is its label: b = [sigma(f) > 0.5], label = sum_k b_k 2^k
("Embedding-to-Label").

This was built from the abstract and from summaries by others, without the paper's text or code. What differs from
these, as far as they tell:
- Cohesion ||V_u - m_j||^2 and repulsion -||m_i - m_j||^2 of pixels and mask means are of sigma(V). Cohesion is a mean,
  half over pixels and half over masks, instead of a sum over pixels. Repulsion is a sum over pairs divided by the
  number of masks, weighs 0.3 instead of as much as cohesion, and stops at a margin: unbounded, it never settles where
  views show different sets of objects. The three losses are said to weigh 0.1 each; here cohesion weighs 1, the other
  two 0.1.
- Anchors and negatives of the triplets face each other across a border; positives lie anywhere in the anchor's mask,
  instead of near a border, too.
- Smoothness is the mean of ||sigma(f_i) - sigma(f_j)||^2 over Gaussians that touch, instead of ||f_i - f_j||^2 over
  those with ||mu_i - mu_j||^2 <= 0.01, which would depend on the unit of the poses. It counts from step 200; "late in
  training" is all that is known.
- Embeddings start as smooth random functions of position, or, for Gaussians that join later, as their nearest
  neighbour's, so that what lies together starts together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.lifting.base import Batch, Decoded, LiftingView, draw
from lift_ros.lifting.config import UnicLiftConfig
from lift_ros.lifting.training import Touching, Trained, TrainedGaussians, descend, rows, smoothness, waves
from lift_ros.scene.neighbours import Neighbours

LAYER_RATE = 1e-3  # Adam's, of the linear layer
STEP_PIXELS = 2048  # the mean of a mask wants more than a batch has
NEIGHBOURHOOD_SAMPLES = 2048  # Gaussians of one step whose smoothness is looked at: of few, each gets rare large steps


class UnicLift:
    """Per-Gaussian embeddings (N, d), and the linear layer in front of the triplet loss."""

    name = "unic_lift"
    trained = True

    def __init__(self, config: UnicLiftConfig, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.embeddings = TrainedGaussians(config.embedding_dim, config.learning_rate, 0.99, device)
        self._generator = torch.Generator().manual_seed(seed)
        dim, bound = config.embedding_dim, 1 / math.sqrt(config.embedding_dim)
        self._weight, self._bias = (
            Trained(torch.empty(shape).uniform_(-bound, bound, generator=self._generator).to(device), LAYER_RATE)
            for shape in ((dim, dim), (dim,))
        )

    def edit(self, origin: torch.Tensor, means: torch.Tensor) -> None:
        self.embeddings.edit(origin, means, lambda means: waves(means, self.config.embedding_dim, self._generator))

    def step(self, views: Sequence[LiftingView], neighbours: Neighbours, rate: float = 1.0) -> dict[str, float]:
        config = self.config
        batch, members = draw(views, by_mask, self._generator, STEP_PIXELS)
        if batch.mask_count == 0 or not len(batch.masks):
            return {}
        gaussians, touching = batch.gaussians, None
        if self.embeddings.all_steps >= config.neighbourhood_after and neighbours.index.shape[1]:
            touching = Touching.draw(gaussians, neighbours, NEIGHBOURHOOD_SAMPLES, self._generator)
            gaussians = touching.gaussians
        embeddings = self.embeddings.of(gaussians)
        sigma = torch.sigmoid(batch.weights.matmul(embeddings.value[: len(batch.gaussians)]))
        pull, push = cluster_loss(sigma, batch.masks, batch.mask_count, config.push_margin)
        losses = {"cohesion": pull, "repulsion": config.push_weight * push}
        if len(batch.pairs):
            features = nn.functional.linear(sigma, self._weight.value, self._bias.value)
            triplets = rows(features, self._triplets(batch, members))
            losses["triplet"] = config.triplet_weight * triplet_loss(*triplets, config.triplet_margin)
        if touching:
            losses["neighbourhood"] = config.neighbourhood_weight * neighbourhood_loss(
                embeddings.value, touching.rows, touching.near
            )
        return descend(losses, embeddings, self._weight, self._bias, rate=rate)

    def _triplets(self, batch: Batch, members: Members) -> torch.Tensor:
        """(3, T) int64, rows of anchors, of positives anywhere in their masks, and of negatives across a border."""
        anchors, negatives = batch.pairs.unbind(1)
        mask = batch.masks[anchors]
        count = members.count[mask]
        pick = torch.rand(len(anchors), generator=self._generator).to(count.device) * count
        positives = members.order[members.start[mask] + pick.long().clamp_max(count - 1)]
        return torch.stack([anchors, positives, negatives])

    @torch.no_grad()
    def decode(self, views: Sequence[LiftingView], evidence: Sequence[MaskEvidence], neighbours: Neighbours) -> Decoded:
        """Embedding-to-Label: the signs of an embedding, read as a binary number.

        It is as sure as the bit nearest to 0.5: |2 sigma - 1| of that, 0 where it could as well be another label. The
        mean over bits would hide one that is a coin toss; the product of the bits' probabilities falls with their
        number, and tells wrong Gaussians from right ones no better.
        """
        embeddings = self.embeddings.value
        powers = 2 ** torch.arange(self.config.embedding_dim, device=embeddings.device)
        labels = ((embeddings > 0) * powers).sum(1)
        return Decoded(labels, (2 * torch.sigmoid(embeddings) - 1).abs().amin(1))

    def state(self) -> dict[str, torch.Tensor]:
        return {
            "gaussian.unic_lift.embeddings": self.embeddings.value.detach(),
            "unic_lift.layer.weight": self._weight.value.detach(),
            "unic_lift.layer.bias": self._bias.value.detach(),
            "unic_lift.steps": torch.tensor(self.embeddings.all_steps),
        }

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        steps = int(state.get("unic_lift.steps", 0))
        self.embeddings.load(state["gaussian.unic_lift.embeddings"], "lifting.unic_lift.embedding_dim", steps)
        self._weight.load(state["unic_lift.layer.weight"], "lifting.unic_lift.embedding_dim")
        self._bias.load(state["unic_lift.layer.bias"], "lifting.unic_lift.embedding_dim")


class Members(NamedTuple):
    """Pixels by mask: those of mask j are ``order[start[j] : start[j] + count[j]]``."""

    order: torch.Tensor
    start: torch.Tensor
    count: torch.Tensor


def by_mask(batch: Batch) -> tuple[Batch, Members]:
    """The pixels of a batch that lie in masks, and which lie in each."""
    batch = batch.masked()
    count = torch.bincount(batch.masks, minlength=batch.mask_count)
    return batch, Members(torch.argsort(batch.masks, stable=True), count.cumsum(0) - count, count)


def cluster_loss(
    sigma: torch.Tensor, masks: torch.Tensor, mask_count: int, margin: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cohesion of masks and repulsion between them, within one view.

    Args:
        sigma: (P, d) embeddings in the unit cube.
        masks: (P,) int64 in [0, mask_count).
        margin: squared distance of means beyond which masks do not repel.

    Returns:
        mean of ||s_u - m_j||^2, half over pixels, half over masks, so that neither large masks nor small ones rule; and
        the sum over pairs i != j of max(0, margin - ||m_i - m_j||^2) a mask.
    """
    count = torch.bincount(masks, minlength=mask_count).to(sigma.dtype)
    present = (count > 0).to(sigma.dtype)
    masks_there = present.sum()
    means = sigma.new_zeros(mask_count, sigma.shape[1]).index_add(0, masks, sigma) / count.clamp_min(1)[:, None]
    share = (0.5 / len(sigma) + 0.5 / (count * masks_there))[masks]
    nearest = rows(means.detach(), masks)  # of all points the mean is nearest: no gradient goes through it
    cohesion = ((sigma - nearest).square().sum(1) * share).sum()
    distance = (means[:, None] - means[None]).square().sum(-1)
    others = torch.outer(present, present).fill_diagonal_(0)
    repulsion = ((margin - distance).clamp_min(0) * others).sum() / masks_there
    return cohesion, repulsion


def triplet_loss(
    anchors: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor, margin: float
) -> torch.Tensor:
    """Mean of max(0, ||a - p||^2 - ||a - n||^2 + margin) over rows of (T, d)."""
    return ((anchors - positives).square().sum(1) - (anchors - negatives).square().sum(1) + margin).clamp_min(0).mean()


def neighbourhood_loss(embeddings: torch.Tensor, touching: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Mean of ||s_i - s_j||^2 between S Gaussians i and the j they touch, in the unit cube; see ``smoothness``."""
    return smoothness(torch.sigmoid(embeddings), touching, near) / near.sum().clamp_min(1)
