"""Panoptic Lifting's instances: per view, masks are matched with slots, and the slots learn to be them.

Siddiqui et al., "Panoptic Lifting for 3D Scene Understanding with Neural Fields", CVPR 2023; a baseline. A Gaussian
carries logits over a fixed number of instance slots ("surrogate identifiers"), and a pixel shows the blended logits.
The linear assignment that explains the masks of a view best gives each pixel its slot, and the pixels learn it by
cross-entropy.

As in the authors' code, logits are blended instead of probabilities, and a view whose pixels all have their slot
already is left alone. Masks beyond the number of slots, which that code gives to slot 0, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional

from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.lifting.base import Batch, Decoded, LiftingView, draw
from lift_ros.lifting.config import PanopticLiftingConfig
from lift_ros.lifting.training import TrainedGaussians, descend, waves
from lift_ros.scene.neighbours import Neighbours


class PanopticLifting:
    """Per-Gaussian logits of instance slots, (N, S)."""

    name = "panoptic_lifting"
    trained = True

    def __init__(self, config: PanopticLiftingConfig, seed: int = 0, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.logits = TrainedGaussians(config.slots, config.learning_rate, device=device)
        self._generator = torch.Generator().manual_seed(seed)

    def edit(self, origin: torch.Tensor, means: torch.Tensor) -> None:
        self.logits.edit(origin, means, lambda means: waves(means, self.config.slots, self._generator))

    def step(self, views: Sequence[LiftingView], neighbours: Neighbours, rate: float = 1.0) -> dict[str, float]:
        batch = draw(views, Batch.masked, self._generator)
        if not len(batch.masks):
            return {}
        seen = self.logits.seen(batch.gaussians, batch.weights)
        logits = seen.value
        targets = assign(logits.detach(), batch.masks)
        taught = targets >= 0
        if torch.equal(logits.argmax(1)[taught], targets[taught]):
            return {"cross_entropy": 0.0}
        return descend({"cross_entropy": instance_loss(logits, targets)}, seen, rate=rate)

    @torch.no_grad()
    def decode(self, views: Sequence[LiftingView], evidence: Sequence[MaskEvidence], neighbours: Neighbours) -> Decoded:
        """The slot that wins, and its probability."""
        confidence, labels = self.logits.value.softmax(1).max(1)
        return Decoded(labels, confidence)

    def state(self) -> dict[str, torch.Tensor]:
        return {"gaussian.panoptic_lifting.logits": self.logits.value.detach()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.logits.load(state["gaussian.panoptic_lifting.logits"], "lifting.panoptic_lifting.slots")


def assign(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The slot that each pixel should have, (P,) int64; -1 where its mask got none, or it lies in none.

    The assignment of masks h to slots j, all different, with the greatest sum of the mean probability of j over the
    pixels of h: sum_u in h p_j(u) / |h|.

    Args:
        logits: (P, S).
        masks: (P,) int64, -1 none.
    """
    masked = masks >= 0
    values, index = masks[masked].unique(return_inverse=True)
    probability = logits[masked].softmax(1)
    score = torch.zeros(len(values), logits.shape[1], dtype=logits.dtype, device=logits.device)
    score.index_add_(0, index, probability)
    score /= torch.bincount(index)[:, None]
    mask, slot = linear_sum_assignment(score.nan_to_num().cpu().numpy(), maximize=True)
    slot_of = index.new_full((len(values),), -1)
    slot_of[torch.from_numpy(mask).to(masks.device)] = torch.from_numpy(slot).to(masks.device)
    targets = torch.full_like(masks, -1)
    targets[masked] = slot_of[index]
    return targets


def instance_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean of -log p_j(u) over the pixels u that have a slot j.

    Args:
        logits: (P, S), blended.
        targets: (P,) int64 slots, -1 where there is none.
    """
    return functional.cross_entropy(logits, targets, ignore_index=-1)
