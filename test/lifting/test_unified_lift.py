"""Unified-Lift: its losses against their equations, its levels, and a scene whose objects it must find."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from lifting.tiles import NO_NEIGHBOURS, Tiles, accuracy, sampled, tiles, train_on
from torch.autograd import gradcheck

from lift_ros.lifting.base import LiftingView
from lift_ros.lifting.config import UnifiedLiftConfig
from lift_ros.lifting.contrastive import Clusters
from lift_ros.lifting.unified_lift import (
    UnifiedLift,
    association,
    class_loss,
    concentration_loss,
    granularities,
    match,
    uncertainty,
)
from lift_ros.render import BlendWeights

MASKS = torch.tensor([0, 0, 0, 2, 2, 1, 1, 1, 1, 1])


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def literal_probability(features: torch.Tensor, codes: torch.Tensor) -> list[list[float]]:
    table = []
    for f in features.tolist():
        lengths = [math.sqrt(sum(c * c for c in code)) for code in codes.tolist()]
        dots = [sum(a * b for a, b in zip(f, code, strict=True)) for code in codes.tolist()]
        similarity = [math.exp(dot / length / 0.1) for dot, length in zip(dots, lengths, strict=True)]
        table.append([s / sum(similarity) for s in similarity])
    return table


# -- losses ------------------------------------------------------------------------------------------------------------


def test_association_is_its_equation():
    features, codes = random(10, 4), random(6, 4, seed=1)
    expected = literal_probability(features, codes)
    assert association(features, codes).exp().tolist() == [pytest.approx(row) for row in expected]
    assert gradcheck(association, (features, codes))


@pytest.mark.parametrize("area_aware", [True, False])
def test_matching_is_the_best_of_all_assignments(area_aware):
    for seed in range(5):
        probability = literal_probability(random(10, 4, seed=seed), random(5, 4, seed=seed + 9))
        sums = [
            [sum(p[o] for p, m in zip(probability, MASKS, strict=True) if m == j) for o in range(5)] for j in range(3)
        ]
        if not area_aware:
            sums = [[s / int((j == MASKS).sum()) for s in row] for j, row in enumerate(sums)]
        best = max(itertools.permutations(range(5), 3), key=lambda labels: sum(sums[j][labels[j]] for j in range(3)))
        assert match(torch.tensor(probability).log(), MASKS, 3, area_aware).tolist() == list(best)


def test_large_masks_decide_unless_all_count_alike():
    """Both masks want object 0; mask 1 a little more a pixel, mask 0 has ten times the pixels."""
    masks = torch.tensor([0] * 10 + [1])
    probability = torch.tensor([[0.7, 0.3]] * 10 + [[0.9, 0.1]])
    assert match(probability.log(), masks, 2, area_aware=True).tolist() == [0, 1]
    assert match(probability.log(), masks, 2, area_aware=False).tolist() == [1, 0]


def test_masks_beyond_the_codebook_and_without_pixels_match_nothing():
    probability = torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    assert match(probability.log(), torch.tensor([0, 3, 2]), 4, area_aware=True).tolist() == [0, -1, 1, -1]


def test_uncertainty_is_its_equation():
    features = 0.3 * random(10, 4).detach()
    clusters = Clusters.of(features, MASKS, 3)
    for u, found in enumerate(uncertainty(features, MASKS, clusters).tolist()):
        similarity = [
            math.exp(float(features[u] @ clusters.means[j]) / float(clusters.temperatures[j])) for j in range(3)
        ]
        assert found == pytest.approx(1 - similarity[int(MASKS[u])] / sum(similarity))


def test_class_loss_is_its_equation():
    features, codes = random(10, 4), random(6, 4, seed=1)
    labels = torch.tensor([4, 2, 5])[MASKS]
    probability = literal_probability(features, codes)
    expected = [-math.log(p[label]) for p, label in zip(probability, labels.tolist(), strict=True)]
    assert class_loss(association(features, codes), labels).tolist() == pytest.approx(expected)
    assert gradcheck(lambda f, c: class_loss(association(f, c), labels), (features, codes))


def test_concentration_loss_is_its_equation():
    features, codes = random(10, 4), random(10, 4, seed=1)
    expected = [
        sum(abs(c - x / sum(map(abs, f))) for c, x in zip(code, f, strict=True))
        for code, f in zip(codes.tolist(), features.tolist(), strict=True)
    ]
    assert concentration_loss(features, codes).tolist() == pytest.approx(expected)
    assert gradcheck(concentration_loss, (features, codes))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_losses_of_a_view_are_equation_8(threshold):
    method = UnifiedLift(UnifiedLiftConfig(embedding_dim=4, codebook_size=6, max_uncertainty=threshold))
    features = 0.5 * random(10, 4).detach().float()
    codes = method.codebook.value[0]
    losses = method._losses(features, MASKS, 3, 0)
    doubt = uncertainty(features, MASKS, Clusters.of(features, MASKS, 3))
    labels = match(association(features, codes).detach(), MASKS, 3, area_aware=True)[MASKS]
    entropy = class_loss(association(features, codes), labels)
    distance = concentration_loss(features, codes[labels])
    certain = [u for u in range(10) if doubt[u] <= threshold]
    assert len(certain) == {0.0: 0, 1.0: 10}.get(threshold, len(certain))
    assert losses["class"].item() == pytest.approx(1e-3 * sum(float(entropy[u].detach()) for u in certain) / 10)
    assert losses["concentration"].item() == pytest.approx(0.1 * sum(float(distance[u].detach()) for u in certain) / 10)


# -- granularities -----------------------------------------------------------------------------------------------------


def view_of(inside: list[str]) -> LiftingView:
    table = torch.tensor([[c == "x" for c in row] for row in inside])
    weights = BlendWeights(torch.arange(len(inside) + 1), torch.zeros(len(inside), dtype=torch.int64), torch.ones(1), 1)
    masks = torch.full((len(inside),), -1)
    return LiftingView(weights, masks, 0, table, torch.zeros(0, 2, dtype=torch.int64))


def test_granularities_go_from_the_smallest_mask_to_the_largest():
    # of mask 0 four pixels, of 1 six, of 2 two, of 3 none
    view = view_of(["xxx.", "xxx.", "xx..", "xx..", ".x..", ".x..", "...."])
    names = {-1: "-", 0: "2", 1: "0", 2: "1"}  # smallest first; the empty mask comes before all
    fine, middle, coarse = ([names.get(m if m < 0 else m - 1) for m in g.tolist()] for g in granularities(view, 3))
    assert fine == ["2", "2", "0", "0", "1", "1", "-"]
    assert middle == ["0", "0", "0", "0", "1", "1", "-"]
    assert coarse == ["1", "1", "1", "1", "1", "1", "-"]


def test_a_single_granularity_is_the_view_s_own():
    view = view_of(["x.", ".x"])
    assert granularities(view, 1)[0] is view.masks


# -- a scene -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> Tiles:
    return tiles()


def trained(world: Tiles, views: list[LiftingView], steps: int, **options) -> UnifiedLift:
    return train_on(world, UnifiedLift(UnifiedLiftConfig(**options)), views, steps)


@pytest.mark.parametrize("area_aware", [True, False])
def test_rows_of_the_codebook_become_the_objects(world, area_aware):
    views = sampled(world)
    assert accuracy(trained(world, views, 0).decode(views, [], NO_NEIGHBOURS).labels, world.objects) < 0.4
    labels, confidence, parents = trained(world, views, 60, area_aware=area_aware).decode(views, [], NO_NEIGHBOURS)
    assert accuracy(labels, world.objects) > 0.95
    assert confidence.min() >= 0 and 0.8 < confidence.mean() <= 1
    assert parents is None


def test_parts_and_wholes_each_have_their_codebook(world):
    views = sampled(world, nested=True)
    decoded = trained(world, views, 100, levels=2).decode(views, [], NO_NEIGHBOURS)
    assert accuracy(decoded.labels, world.objects) > 0.95
    assert accuracy(decoded.parents, world.wholes) > 0.95
