"""DiscoNeRF: objects as slots that compete for the scene, against which the masks of each view are matched.

Dumery et al., "Enforcing View-Consistency in Class-Agnostic 3D Segmentation Fields". A Gaussian carries logits over N
object slots, and a pixel shows O_n, the blended probability of slot n. Masks M_m may overlap and need not cover the
image. There is nothing to cluster: the slot that wins is the label.

What differs from the paper:
- The logits belong to Gaussians instead of coming from a hash grid and a network, so they are the features h that
  equation (7) smooths, and its neighbourhood are the Gaussians that touch.
- Norms over pixels and the sum over Gaussians are means, so that the weights do not depend on how many there are.
- A step looks at one view instead of a batch of five.
- It sees some thousand pixels of the view, not all, and of small masks and along borders more than their share (half of
  them lie anywhere, a quarter is spread evenly over the masks, a quarter faces another mask; see ``sample_view``), so
  that intersection and union in equation (4) are not those of the image.
- Slots are added when a view has more masks than any before.
- The confidence of a pixel is blended from that of its Gaussians, not the maximum over its blended slots: where sure
  objects meet, it stays high.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment

from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.lifting.base import Batch, Decoded, LiftingView, draw
from lift_ros.lifting.config import DiscoConfig
from lift_ros.lifting.training import Touching, TrainedGaussians, descend, smoothness, waves
from lift_ros.scene.neighbours import Neighbours

STEP_PIXELS = 8192  # all that a keyframe has by default: overlaps want many pixels of each mask
SMOOTHED = 4096  # Gaussians of one step whose smoothness is looked at


class Disco:
    """Per-Gaussian logits of object slots, (N, S)."""

    name = "disco"
    trained = True

    def __init__(self, config: DiscoConfig, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.logits = TrainedGaussians(0, config.learning_rate, device=device)
        self._means = torch.zeros(0, 3, device=device)
        self._generator = torch.Generator().manual_seed(seed)

    def edit(self, origin: torch.Tensor, means: torch.Tensor) -> None:
        slots = self.logits.value.shape[1]
        self.logits.edit(origin, means, lambda means: waves(means, slots, self._generator))
        self._means = means.detach()

    def step(self, views: Sequence[LiftingView], neighbours: Neighbours, rate: float = 1.0) -> dict[str, float]:
        config = self.config
        self._grow(math.ceil(config.slots_per_mask * max(view.inside.shape[1] for view in views)))
        batch, inside = draw(views, _with_masks, self._generator, STEP_PIXELS)
        masks = inside.float()
        if not masks.shape[1]:
            return {}
        gaussians, touching = batch.gaussians, None
        if neighbours.index.shape[1]:
            touching = Touching.draw(gaussians, neighbours, SMOOTHED, self._generator)
            gaussians = touching.gaussians
        logits = self.logits.of(gaussians)
        slots = batch.weights.matmul(logits.value[: len(batch.gaussians)].softmax(1))
        matched = match(slots.detach(), masks)
        matching, false_positives = matching_losses(slots, masks, matched)
        losses = {"matching": matching, "false_positives": config.false_positive_weight * false_positives}
        if touching:
            variation = variation_loss(logits.value, touching.rows, touching.near)
            losses["variation"] = config.variation_weight * variation
        return descend(losses, logits, rate=rate)

    def _grow(self, count: int) -> None:
        more = count - self.logits.value.shape[1]
        if more > 0:
            self.logits.widen(waves(self._means, more, self._generator))

    @torch.no_grad()
    def decode(self, views: Sequence[LiftingView], evidence: Sequence[MaskEvidence], neighbours: Neighbours) -> Decoded:
        """The slot that wins, and its probability."""
        logits = self.logits.value
        if not logits.shape[1]:
            return Decoded.nothing(logits)
        confidence, labels = logits.softmax(1).max(1)
        return Decoded(labels, confidence)

    def state(self) -> dict[str, torch.Tensor]:
        return {"gaussian.disco.logits": self.logits.value.detach()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        saved = state["gaussian.disco.logits"]
        self._grow(saved.shape[1])
        self.logits.load(saved, "lifting.disco.slots_per_mask")


def _with_masks(batch: Batch) -> tuple[Batch, torch.Tensor]:
    """Its pixels, and which of the masks that some of them lie in they are inside, (P, K) bool."""
    return batch, batch.inside[:, batch.inside.any(0)]


def affinity(slots: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Equation (4), soft intersection over union: slots O (P, S) in [0, 1] and masks M (P, K) of 0 and 1 -> (S, K)."""
    intersection = slots.T @ masks  # min(O, M) is O within the mask; max(O, M) is 1 within it and O outside
    union = slots.sum(0)[:, None] + masks.sum(0) - intersection
    return intersection / union


def match(slots: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """gamma (K,) int64: the slot of each mask, all different, that together have the greatest affinity."""
    score = affinity(slots, masks).nan_to_num()  # of slots that are not finite no step comes, but also no error
    slot, mask = linear_sum_assignment(score.cpu().numpy(), maximize=True)
    return torch.from_numpy(slot[mask.argsort()]).to(slots.device)


def matching_losses(
    slots: torch.Tensor, masks: torch.Tensor, matched: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Equation (5), the matching loss, and equation (6), the false-positive loss; over the number of pixels.

    Args:
        slots: O (P, S); masks: M (P, K) of 0 and 1; matched: gamma (K,).
    """
    at_slots = torch.nn.functional.one_hot(matched, slots.shape[1]).to(masks.dtype)
    own = masks @ at_slots  # (P, S) the mask of each slot, 0 for slots without one
    others = masks.sum(1, keepdim=True) - own  # how many masks of other slots hold the pixel
    matching = ((own - slots).square() * at_slots.sum(0)).sum()
    return matching / masks.numel(), (slots.square() * others).sum() / masks.numel()


def variation_loss(features: torch.Tensor, touching: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Equation (7): half of ||h_i - h_j||^2 summed over S Gaussians i and the j they list; over S. See ``smoothness``.

    So of all Gaussians, pairs that list each other count once. Where neighbours lie denser around one of the two, only
    the other lists it, and the pair counts half.
    """
    return smoothness(features, touching, near) / (2 * len(touching))
