"""The contrastive clustering loss against its equations."""

from __future__ import annotations

import math

import pytest
import torch
from lifting.views import literal_phi, near_axes
from torch.autograd import gradcheck

from lift_ros.lifting.contrastive import Clusters, Groups, contrastive_loss, norm_loss

INDEX = torch.tensor([0, 0, 0, 3, 3, 1, 1, 1, 1, 1, 3, 0])  # cluster 2 has no pixel
GROUPS = Groups.of(INDEX, 4, torch.float64)


def random(spread: float = 1.0) -> torch.Tensor:
    return near_axes(INDEX, 5, spread).requires_grad_()


def loss_of(features: torch.Tensor) -> torch.Tensor:
    return contrastive_loss(features, Clusters.of(features, GROUPS))


def literal_loss(features: torch.Tensor) -> float:
    present = INDEX.unique().tolist()
    mean = {j: features[j == INDEX].mean(0) for j in present}
    phi = dict(zip(present, literal_phi(features, INDEX), strict=True))
    total = 0.0
    for u in range(len(features)):
        similarity = {j: math.exp(float(features[u] @ mean[j]) / phi[j]) for j in present}
        total -= math.log(similarity[int(INDEX[u])] / sum(similarity.values()))
    return total / len(features)


@pytest.mark.parametrize("spread", [0.01, 0.1, 1.0])  # phi at its lower bound, free, and at its upper bound
def test_contrastive_loss_is_its_equation(spread):
    features = random(spread)
    assert loss_of(features).item() == pytest.approx(literal_loss(features.detach()), rel=1e-10)


def test_temperatures_are_their_equation():
    features = random(0.1)
    temperatures = Clusters.of(features, GROUPS).temperatures
    expected = literal_phi(features.detach(), INDEX)
    assert all(0.1 < phi < 1 for phi in expected)
    assert temperatures[[0, 1, 3]].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("spread", [0.01, 1.0])  # between the bounds phi moves, and is taken for a constant
def test_gradient_of_the_contrastive_loss(spread):
    assert gradcheck(loss_of, random(spread))


def test_the_temperature_carries_no_gradient():
    features = random(0.1)
    (gradient,) = torch.autograd.grad(loss_of(features), features)
    frozen = Clusters.of(features, GROUPS).temperatures

    def loss_at(f: torch.Tensor) -> torch.Tensor:
        return contrastive_loss(f, Clusters.of(f, GROUPS)._replace(temperatures=frozen))

    assert gradcheck(loss_at, features)
    assert torch.allclose(gradient, torch.autograd.grad(loss_at(features), features)[0])


def test_one_cluster_alone_pulls_nothing():
    index = torch.zeros(12, dtype=torch.int64)
    clusters = Clusters.of(random(), Groups.of(index, 1, torch.float64))
    assert contrastive_loss(random(), clusters).item() == 0


def test_clusters_without_pixels_take_no_part():
    features = random(0.3).detach()
    compact = torch.tensor([0, 1, -1, 2])[INDEX]
    without = contrastive_loss(features, Clusters.of(features, Groups.of(compact, 3, torch.float64)))
    assert loss_of(features).item() == pytest.approx(without.item(), rel=1e-12)


def test_norm_loss_is_its_equation():
    features = random(0.5)
    expected = sum((math.sqrt(sum(float(x) ** 2 for x in f)) - 1) ** 2 for f in features.tolist()) / len(features)
    assert norm_loss(features).item() == pytest.approx(expected)
    assert gradcheck(norm_loss, features)
