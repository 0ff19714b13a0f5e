"""Panoptic Lifting: the assignment and the loss against their definitions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from lifting.tiles import NO_NEIGHBOURS
from lifting.views import blending, normal, one_gaussian_a_pixel, sparse
from torch.autograd import gradcheck
from torch.nn import functional

from lift_ros.lifting.config import PanopticLiftingConfig
from lift_ros.lifting.panoptic_lifting import PanopticLifting, assign, instance_loss

MASKS = torch.tensor([0, 0, 0, 0, 0, 3, 3, -1, 1, 1, 3, 0])  # mask 2 has no pixel


def random_logits(slots: int, seed: int = 0) -> torch.Tensor:
    return 2 * normal(len(MASKS), slots, seed=seed)


@pytest.mark.parametrize("seed", range(5))
def test_assignment_explains_the_mean_pixel_of_each_mask_best(seed):
    logits = random_logits(4, seed)

    def score(mask: int, slot: int) -> float:
        terms = []
        for u in range(len(MASKS)):
            if MASKS[u] == mask:
                exponentials = [math.exp(x) for x in logits[u].tolist()]
                terms.append(exponentials[slot] / sum(exponentials))
        return sum(terms) / len(terms)

    best = max(itertools.permutations(range(4), 3), key=lambda s: sum(map(score, (0, 1, 3), s)))
    slot_of = dict(zip((0, 1, 3), best, strict=True)) | {-1: -1}
    assert assign(logits, MASKS).tolist() == [slot_of[m] for m in MASKS.tolist()]


def test_a_small_mask_counts_as_much_as_a_large_one():
    # slot 0 suits both; mask 1 of one pixel loses more without it than mask 0 of nine does
    probability = torch.tensor([[0.6, 0.4]] * 9 + [[0.9, 0.1]])
    assert assign(probability.log(), torch.tensor([0] * 9 + [1])).tolist() == [1] * 9 + [0]


def test_masks_beyond_the_slots_are_left_out():
    logits = torch.zeros(len(MASKS), 2)
    targets = assign(logits, MASKS)
    assert sorted(set(targets.tolist())) == [-1, 0, 1]
    assert all(len(set(targets[mask == MASKS].tolist())) == 1 for mask in (0, 1, 3))


def test_a_step_goes_down_the_cross_entropy_of_blended_logits():
    logits = random_logits(5).float()
    method = PanopticLifting(PanopticLiftingConfig(slots=5))
    method.load_state({"gaussian.panoptic_lifting.logits": logits})
    targets = assign(0.5 * logits, MASKS)
    losses = method.step([one_gaussian_a_pixel(MASKS, 0.5)], NO_NEIGHBOURS)
    expected = literal_loss((0.5 * logits).tolist(), targets.tolist())
    assert losses["cross_entropy"] == pytest.approx(expected, rel=1e-5)


def literal_loss(blended: list[list[float]], targets: list[int]) -> float:
    terms = []
    for row, j in zip(blended, targets, strict=True):
        if j >= 0:
            exponentials = [math.exp(x) for x in row]
            terms.append(-math.log(exponentials[j] / sum(exponentials)))
    return sum(terms) / len(terms)


def test_loss_and_its_gradient_reach_the_gaussians_through_the_blending():
    """Every pixel blends some of 7 Gaussians. With two slots for three masks one has none; the last Gaussian shows only
    where there is no mask."""
    table = blending(len(MASKS), 7)
    table[:, 6] = (MASKS < 0).double()
    logits = random_logits(2)[:7]
    blended = [
        [sum(table[u, i].item() * logits[i, j].item() for i in range(7)) for j in range(2)] for u in range(len(MASKS))
    ]
    targets = assign(torch.tensor(blended), MASKS)
    assert (targets[MASKS >= 0] < 0).any()
    loss = instance_loss(table @ logits, targets)
    assert loss.item() == pytest.approx(literal_loss(blended, targets.tolist()), rel=1e-12)
    logits.requires_grad_()
    assert gradcheck(lambda f: instance_loss(table @ f, targets), logits)

    # the sparse product has single precision only
    single = logits.detach().float().requires_grad_()
    (gradient,) = torch.autograd.grad(instance_loss(sparse(table).matmul(single), targets), single)
    (expected,) = torch.autograd.grad(instance_loss(table @ logits, targets), logits)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-6)
    assert not gradient[6].any() and gradient[:6].any(1).all()


def test_a_view_whose_pixels_are_right_is_left_alone():
    method = PanopticLifting(PanopticLiftingConfig(slots=4))
    method.load_state({"gaussian.panoptic_lifting.logits": 3.0 * functional.one_hot(MASKS.clamp_min(0), 4)})
    before = method.state()["gaussian.panoptic_lifting.logits"].clone()
    assert method.step([one_gaussian_a_pixel(MASKS, 0.5)], NO_NEIGHBOURS) == {"cross_entropy": 0.0}
    assert torch.equal(method.state()["gaussian.panoptic_lifting.logits"], before)


def test_the_winning_slot_is_the_label_and_its_probability_the_confidence():
    method = PanopticLifting(PanopticLiftingConfig(slots=3))
    logits = torch.tensor([[0.0, 1.0, 2.0], [5.0, 0.0, 0.0]])
    method.load_state({"gaussian.panoptic_lifting.logits": logits})
    labels, confidence, *_ = method.decode([], [], NO_NEIGHBOURS)
    assert labels.tolist() == [2, 0]
    expected = [math.exp(max(row)) / sum(map(math.exp, row)) for row in logits.tolist()]
    assert confidence.tolist() == pytest.approx(expected, rel=1e-6)
