"""UniC-Lift: its losses against their equations, codes as labels, and smoothness where no view looks."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from lifting.tiles import NO_NEIGHBOURS, accuracy, sampled, tiles, train_on
from lifting.views import blending, one_gaussian_a_pixel, uniform, view_of
from torch.autograd import gradcheck

from lift_ros.lifting.config import UnicLiftConfig
from lift_ros.lifting.unic_lift import UnicLift, by_mask, cluster_loss, neighbourhood_loss, triplet_loss
from lift_ros.scene.neighbours import Neighbours

# -- losses ------------------------------------------------------------------------------------------------------------

MASKS = torch.tensor([0, 0, 0, 3, 3, 1, 1, 1, 1, 1, 3, 0])  # mask 2 has no pixel


def literal_cluster_loss(sigma: torch.Tensor, masks: torch.Tensor, margin: float) -> tuple[float, float]:
    mean = {j: sigma[masks == j].mean(0) for j in masks.unique().tolist()}
    spread = [float(((sigma[u] - mean[int(masks[u])]) ** 2).sum()) for u in range(len(sigma))]
    of_mask = [np.mean([spread[u] for u in range(len(sigma)) if masks[u] == j]) for j in mean]
    cohesion = 0.5 * np.mean(spread) + 0.5 * np.mean(of_mask)
    repulsion = sum(
        max(0.0, margin - float(((mean[i] - mean[j]) ** 2).sum())) for i, j in itertools.permutations(mean, 2)
    )
    return cohesion, repulsion / len(mean)


@pytest.mark.parametrize("margin", [4.0, 0.2])
def test_cluster_loss_is_its_equation(margin):
    sigma = uniform(12, 5)
    cohesion, repulsion = cluster_loss(sigma, MASKS, 4, margin)
    expected = literal_cluster_loss(sigma, MASKS, margin)
    assert (cohesion.item(), repulsion.item()) == pytest.approx(expected, rel=1e-12)
    assert gradcheck(lambda s: cluster_loss(s, MASKS, 4, margin), sigma.requires_grad_())


def test_the_margin_lets_go_of_masks_that_are_far_apart():
    sigma = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    masks = torch.tensor([0, 0, 1, 1])
    assert cluster_loss(sigma, masks, 2, 2.0)[1].item() == cluster_loss(sigma, masks, 2, 1.5)[1].item() == 0
    assert cluster_loss(sigma, masks, 2, 2.5)[1].item() == pytest.approx(0.5)


def test_a_single_mask_repels_nothing():
    cohesion, repulsion = cluster_loss(uniform(4, 3), torch.zeros(4, dtype=torch.int64), 1, 4.0)
    assert repulsion.item() == 0 and cohesion.item() > 0


def test_triplet_loss_is_its_equation():
    a, p, n = (uniform(20, 4, seed=seed).requires_grad_() for seed in (1, 2, 3))
    margin = 0.3
    terms = [
        max(0.0, sum((a[t, k] - p[t, k]).item() ** 2 - (a[t, k] - n[t, k]).item() ** 2 for k in range(4)) + margin)
        for t in range(20)
    ]
    assert 0 < sum(term > 0 for term in terms) < 20  # both sides of the hinge
    assert triplet_loss(a, p, n, margin).item() == pytest.approx(np.mean(terms), rel=1e-12)
    assert gradcheck(lambda *rows: triplet_loss(*rows, margin), (a, p, n))


def test_neighbourhood_loss_is_its_equation():
    embeddings = uniform(7, 3, seed=4)
    index = torch.tensor([[1, 2], [0, 3], [0, 2], [1, 4], [3, 5], [4, 5], [6, 6]])
    near = torch.tensor([[1, 1], [1, 1], [1, 0], [1, 1], [1, 1], [1, 0], [0, 0]], dtype=torch.bool)
    some = torch.tensor([0, 2, 2, 5, 6])
    s = torch.sigmoid(embeddings)
    terms = [float(((s[i] - s[index[i, k]]) ** 2).sum()) for i in some.tolist() for k in range(2) if near[i, k]]
    rows = torch.cat([some[:, None], index[some]], 1)
    assert neighbourhood_loss(embeddings, rows, near[some]).item() == pytest.approx(np.mean(terms), rel=1e-12)
    assert gradcheck(lambda f: neighbourhood_loss(f, rows, near[some]), embeddings.requires_grad_())


def test_gaussians_that_touch_nothing_have_no_neighbourhood_loss():
    rows = torch.tensor([[0, 0, 0], [1, 1, 1]])
    assert neighbourhood_loss(uniform(2, 3), rows, torch.zeros(2, 2, dtype=torch.bool)).item() == 0


# -- a step ------------------------------------------------------------------------------------------------------------


def knowing(embeddings: torch.Tensor, **options: float) -> UnicLift:
    """A method whose Gaussians have these embeddings."""
    method = UnicLift(UnicLiftConfig(embedding_dim=embeddings.shape[1], **options))
    method.load_state(method.state() | {"gaussian.unic_lift.embeddings": embeddings.float()})
    return method


def test_a_step_weighs_cohesion_repulsion_and_triplets():
    """Of what is blended. The masks that face each other have one pixel each, so that anchors are their own
    positives.
    """
    masks, table = torch.tensor([0, 1, 2, 2, 2, 2]), blending(6, 9)
    embeddings = 16 * uniform(9, 5) - 8
    method = knowing(embeddings, push_weight=0.7, push_margin=3.0, triplet_weight=0.4, triplet_margin=0.9)
    layer = method.state()["unic_lift.layer.weight"].double()
    sigma = torch.sigmoid(table @ embeddings)
    cohesion, repulsion = literal_cluster_loss(sigma, masks, 3.0)
    across = float((layer @ (sigma[0] - sigma[1])).square().sum())
    assert 0.1 < across < 0.9
    expected = {"cohesion": cohesion, "repulsion": 0.7 * repulsion, "triplet": 0.4 * (0.9 - across)}
    view = view_of(table, masks, pairs=[[0, 1], [1, 0]])
    assert method.step([view], NO_NEIGHBOURS) == pytest.approx(expected, rel=1e-5)


def test_smoothness_counts_late():
    view = one_gaussian_a_pixel(torch.tensor([0, 0, 1, 1]), pairs=[[1, 2], [2, 1]])
    neighbours = Neighbours(torch.tensor([[1], [0], [3], [2]]), torch.ones(4, 1, dtype=torch.bool))
    method = knowing(uniform(4, 5), neighbourhood_after=2)
    assert ["neighbourhood" in method.step([view], neighbours) for _ in range(4)] == [False, False, True, True]
    again = UnicLift(method.config)
    again.load_state(method.state())
    assert "neighbourhood" not in again.step([view], NO_NEIGHBOURS)  # nothing touches
    assert "neighbourhood" in again.step([view], neighbours)  # a loaded map does not start over


# -- embedding to label ------------------------------------------------------------------------------------------------


def test_labels_are_the_signs_read_as_a_binary_number():
    method = UnicLift(UnicLiftConfig(embedding_dim=4))
    method.embeddings.value = torch.tensor(
        [[-3.0, -1, -2, -0.1], [9, -1, -1, -1], [-1, 5, -1, 0.1], [1, 1, 1, 1], [0, 0, 0, 0]]
    )
    labels, confidence, _ = method.decode([], [], NO_NEIGHBOURS)
    assert labels.tolist() == [0, 1, 2 + 8, 15, 0]
    expected = [min(abs(2 / (1 + math.exp(-x)) - 1) for x in row) for row in method.embeddings.value.tolist()]
    assert confidence.tolist() == pytest.approx(expected, abs=1e-6)
    assert confidence[4] == 0  # every bit is on the fence


def test_a_label_with_one_bit_on_the_fence_is_a_coin_toss():
    method = UnicLift(UnicLiftConfig())
    method.embeddings.value = torch.full((2, 12), 6.0)
    method.embeddings.value[1, 3] = 1e-4
    labels, confidence, _ = method.decode([], [], NO_NEIGHBOURS)
    assert labels.tolist() == [2**12 - 1] * 2
    assert confidence[0] > 0.99 and confidence[1] < 1e-3


def test_codes_of_thirty_bits_do_not_overflow():
    method = UnicLift(UnicLiftConfig(embedding_dim=30))
    method.embeddings.value = torch.ones(1, 30)
    assert method.decode([], [], NO_NEIGHBOURS).labels.tolist() == [2**30 - 1]


# -- triplets ----------------------------------------------------------------------------------------------------------


def test_triplets_pair_a_mask_with_itself_and_with_the_one_across_the_border():
    masks = torch.tensor([0, -1, 1, 1, 2, 0, 2, -1, 1])
    pairs = torch.tensor([[0, 2], [3, 4], [6, 5], [8, 0]])
    view = view_of(torch.ones(9, 1), masks, pairs=pairs.tolist())
    batch, members = view.batch(view.batches()[0], by_mask)
    rows = view.masks.ge(0).nonzero()[:, 0]  # of the pixels of the batch
    method = UnicLift(UnicLiftConfig())
    drawn = set()
    for _ in range(100):
        anchors, positives, negatives = (rows[each] for each in method._triplets(batch, members))
        assert sorted(zip(anchors.tolist(), negatives.tolist(), strict=True)) == sorted(map(tuple, pairs.tolist()))
        assert torch.equal(masks[anchors], masks[positives])
        drawn |= set(positives.tolist())
    assert drawn == {0, 2, 3, 4, 5, 6, 8}  # every masked pixel has its turn


# -- a scene -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("weight", "low", "high"), [(1.0, 0.7, 1.0), (0.0, 0.0, 0.5)])
def test_smoothness_labels_what_no_view_shows(weight, low, high):
    world = tiles()
    hidden = torch.arange(len(world.scene)) % 12 == 0
    scene = world.scene.clone()
    scene.logit_opacities[hidden] = -20.0
    method = UnicLift(UnicLiftConfig(neighbourhood_weight=weight, neighbourhood_after=0))
    train_on(world, method, sampled(replace(world, scene=scene)), 200)
    labels = method.decode([], [], NO_NEIGHBOURS).labels
    assert accuracy(labels[~hidden], world.objects[~hidden]) > 0.8
    assert low <= accuracy(labels[hidden], world.objects[hidden]) <= high
