"""OmniSeg3D: its losses against their equations, and a scene whose parts and wholes it must find."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from lifting.tiles import NO_NEIGHBOURS, Tiles, accuracy, sampled, tiles, train_on
from lifting.views import blending, literal_phi, normal, shown_as, view_of
from torch.autograd import gradcheck

from lift_ros.lifting.base import LiftingView
from lift_ros.lifting.config import OmniSeg3DConfig
from lift_ros.lifting.contrastive import Clusters, Groups
from lift_ros.lifting.omniseg3d import (
    TEMPERATURE,
    OmniSeg3D,
    count_votes,
    depths,
    discretise,
    hierarchical_loss,
    kinship,
    patches,
)
from lift_ros.scene.neighbours import Neighbours

# Fig. 2 of the paper in small. Masks: a whole of three parts, one part cut in two; another thing beside it; one empty.
INSIDE = torch.tensor(
    [
        [1, 1, 1, 0, 0],  # patch 0: whole, part, half of the part
        [1, 1, 0, 0, 0],  # patch 1: the rest of the part
        [1, 0, 0, 0, 0],  # patch 2: the rest of the whole
        [0, 0, 0, 1, 0],  # patch 3: another thing
    ],
    dtype=torch.bool,
)
PATCH = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3, 3, 3])


def around_means(patch: torch.Tensor, spread: float = 0.1) -> torch.Tensor:
    """Features (P, 4) around a mean for each patch, wherever it lies: what is related need not be similar."""
    means = torch.nn.functional.normalize(normal(4, 4, seed=3), dim=1)
    return means[patch] + spread * normal(len(patch), 4, seed=4)


# -- patches -----------------------------------------------------------------------------------------------------------


def test_pixels_in_the_same_masks_are_a_patch():
    inside = torch.tensor([[1, 1], [0, 0], [1, 0], [1, 1], [0, 1]] * 5, dtype=torch.bool)
    patch, of = patches(inside)
    sets = {tuple(row) for row in of.tolist()}
    assert sets == {(True, True), (True, False), (False, True)} and len(of) == 3
    for u, p in enumerate(patch.tolist()):
        assert (p == -1) == (not inside[u].any())
        assert p == -1 or of[p].tolist() == inside[u].tolist()


def test_patches_of_few_samples_are_left_out():
    inside = torch.tensor([[1, 0]] * 4 + [[1, 1]] * 3, dtype=torch.bool)
    patch, of = patches(inside)
    assert patch.tolist() == [0] * 4 + [-1] * 3 and of.tolist() == [[True, False]]


def test_votes_are_their_equation():
    expected = [
        [sum(bool(INSIDE[i, k]) * bool(INSIDE[j, k]) for k in range(INSIDE.shape[1])) for j in range(len(INSIDE))]
        for i in range(len(INSIDE))
    ]
    assert count_votes(INSIDE).tolist() == expected == [[3, 2, 1, 0], [2, 2, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]


def test_depths_rank_the_votes():
    # of patch 2, which lies in the whole only, all of the whole shares as many masks as there are to share
    assert depths(count_votes(INSIDE)).tolist() == [[1, 2, 3, 0], [1, 1, 2, 0], [1, 1, 1, 0], [0, 0, 0, 1]]


# -- losses ------------------------------------------------------------------------------------------------------------


def clusters_of(features: torch.Tensor) -> Clusters:
    return Clusters.of(features, Groups.of(PATCH, 4, torch.float64))


def literal_losses(features: torch.Tensor, patch: torch.Tensor = PATCH) -> list[list[float]]:
    """Eq. 7 of pixels and patches."""
    phi = literal_phi(features, patch)
    mean = [features[s == patch].mean(0) for s in range(len(phi))]
    table = []
    for f in features:
        similarity = [math.exp(float(f @ mean[s]) / phi[s]) for s in range(len(phi))]
        table.append([-math.log(s / sum(similarity)) for s in similarity])
    return table


def literal_hierarchical_loss(
    features: torch.Tensor, depth: list[list[int]], decay: float, patch: torch.Tensor = PATCH
) -> float:
    loss = literal_losses(features, patch)
    levels = max(max(row) for row in depth)
    total = 0.0
    for i, row in enumerate(depth):
        for d in range(1, max(row) + 1):
            at_level = [s for s, at in enumerate(row) if at == d]
            below = [s for s, at in enumerate(row) if at == d - 1 > 0]
            for j in (i == patch).nonzero()[:, 0].tolist():
                greatest = max((loss[j][s] for s in below), default=0.0)
                terms = [max(loss[j][s], greatest) for s in at_level]
                total += decay ** (d - 1) / (len(features) * levels) * sum(terms) / len(terms)
    return total


@pytest.mark.parametrize("spread", [0.02, 0.1, 1.0])  # temperatures near the lower bound, free, and at the upper one
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_hierarchical_loss_is_its_equation(decay, spread):
    depth = depths(count_votes(INSIDE))
    features = around_means(PATCH, spread)
    phi = literal_phi(features, PATCH)
    assert min(phi) == 1 if spread == 1.0 else 0.1 < min(phi) < 0.9 * max(phi) < 0.9
    found = hierarchical_loss(features, clusters_of(features), depth, decay)
    assert found.item() == pytest.approx(literal_hierarchical_loss(features, depth.tolist(), decay))


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_gradient_of_the_hierarchical_loss(decay):
    """Of temperatures that are constants, though they come of the features."""
    depth = depths(count_votes(INSIDE))
    features = around_means(PATCH).requires_grad_()
    (gradient,) = torch.autograd.grad(hierarchical_loss(features, clusters_of(features), depth, decay), features)
    frozen = clusters_of(features).temperatures
    assert ((frozen > 0.1) & (frozen < 1)).all()

    def loss_at(f: torch.Tensor) -> torch.Tensor:
        return hierarchical_loss(f, clusters_of(f)._replace(temperatures=frozen), depth, decay)

    assert gradcheck(loss_at, features)
    torch.testing.assert_close(gradient, torch.autograd.grad(loss_at(features), features)[0])


def test_a_level_costs_no_less_than_the_one_below():
    """Both sides of the maximum in eq. 6 take part in the tests of the loss."""
    depth = depths(count_votes(INSIDE)).tolist()
    loss = literal_losses(around_means(PATCH))
    rises = [
        loss[j][s] > max(loss[j][t] for t in range(4) if depth[i][t] == depth[i][s] - 1)
        for j, i in enumerate(PATCH.tolist())
        for s in range(4)
        if depth[i][s] > 1
    ]
    assert any(rises) and not all(rises)
    # and the greatest at the level below need not be that of all levels below: see pixels of patch 0
    assert any(own > max(others) for own, *others in (row[:3] for row in literal_losses(around_means(PATCH, 1.0))[:2]))


def test_masks_that_do_not_overlap_give_equation_5_over_pixels_instead_of_patches():
    features = around_means(PATCH)
    loss = literal_losses(features)
    expected = sum(loss[j][i] for j, i in enumerate(PATCH.tolist())) / len(features)
    flat = torch.eye(4, dtype=torch.int64)
    assert hierarchical_loss(features, clusters_of(features), flat, 0.5).item() == pytest.approx(expected)


def test_a_step_weighs_equation_6_and_the_norm_loss_of_blended_features():
    """Each pixel shows several Gaussians. Of five patches one has too few pixels; some pixels lie in no mask."""
    patch = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 0, 0, 1, 2, 2, 3, 0, 1, 2, 4, 4, 4, -1, -1])
    of = torch.cat([INSIDE, torch.tensor([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)])
    table, kept = blending(24, 40), (patch >= 0) & (patch < 4)
    features = 2 * normal(24, 4)
    features[kept] = around_means(patch[kept])
    embeddings = shown_as(features, table)
    method = OmniSeg3D(OmniSeg3DConfig(embedding_dim=4, decay=0.3, norm_weight=0.7))
    method.embeddings.load(embeddings.float(), "")
    features, patch, view = features[kept], patch[kept], view_of(table, patch, of[patch])
    phi = literal_phi(features, patch)
    assert all(0.1 < each < 1 for each in phi) and min(phi) < 0.9 * max(phi)
    expected = {
        "hierarchical": literal_hierarchical_loss(features, depths(count_votes(INSIDE)).tolist(), 0.3, patch),
        "norm": 0.7 * sum((math.hypot(*f) - 1) ** 2 for f in features.tolist()) / len(features),
    }
    assert method.step([view], NO_NEIGHBOURS) == pytest.approx(expected, rel=1e-4)


# -- discretisation ----------------------------------------------------------------------------------------------------


def test_kinship_is_the_mean_over_pairs():
    features = torch.nn.functional.normalize(normal(10, 4), dim=1)
    sums: dict[str, list[float]] = {"own": [], "related": [], "other": []}
    for u in range(10):
        for v in range(10):
            i, k = int(PATCH[u]), int(PATCH[v])
            kind = "own" if i == k else "related" if bool((INSIDE[i] & INSIDE[k]).any()) else "other"
            if u != v:
                sums[kind].append(float(features[u] @ features[v]))
    assert kinship(features, PATCH, count_votes(INSIDE)).tolist() == pytest.approx([np.mean(x) for x in sums.values()])
    assert kinship(features[:2], PATCH[:2], count_votes(INSIDE)).isnan().tolist() == [False, True, True]


def test_parts_lie_within_objects_and_strays_in_neither():
    rng = np.random.default_rng(0)
    centres = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 0, 1]])
    features = np.repeat(centres, 20, axis=0) + rng.normal(0, 0.01, (60, 3))
    features = np.vstack([features, [[-1, 0, 0]]])
    part, parent = discretise(features / np.linalg.norm(features, axis=1, keepdims=True), (0.9, 0.5))
    first, second, third = (set(part[20 * k : 20 * k + 20].tolist()) for k in range(3))
    assert len(first) == len(second) == len(third) == 1 and len(first | second | third) == 3 and part[60] == -1
    assert parent[part[0]] == parent[part[20]] != parent[part[40]]


def test_confidence_is_the_softmax_of_the_similarities_to_all_parts():
    degrees = [0.0, 2.0, 7.0, 100.0, 101.0, 108.0, 220.0, 225.0, 226.0]
    unit = [(math.cos(math.radians(a)), math.sin(math.radians(a))) for a in degrees]
    method = OmniSeg3D(OmniSeg3DConfig(embedding_dim=2))
    method.embeddings.load(torch.tensor(unit) * torch.linspace(0.5, 1.5, 9)[:, None], "")
    labels, confidence, _ = method.decode([], [], NO_NEIGHBOURS)
    assert len(set(labels.tolist())) == 3 and labels.tolist() == labels[::3].repeat_interleave(3).tolist()
    sums = [[sum(column) for column in zip(*unit[k : k + 3], strict=True)] for k in (0, 3, 6)]
    for (x, y), found in zip(unit, confidence.tolist(), strict=True):
        similarity = [math.exp((x * a + y * b) / math.hypot(a, b) / TEMPERATURE) for a, b in sums]
        assert found == pytest.approx(max(similarity) / sum(similarity), rel=1e-5)


# -- a scene -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> Tiles:
    return tiles()


def trained(world: Tiles, views: list[LiftingView], steps: int, **options) -> OmniSeg3D:
    return train_on(world, OmniSeg3D(OmniSeg3DConfig(**options)), views, steps)


def test_objects_emerge_from_masks_that_do_not_overlap(world):
    views = sampled(world, nested=False)
    assert accuracy(trained(world, views, 1).decode(views, [], NO_NEIGHBOURS).labels, world.objects) < 0.6
    method = trained(world, views, 80)
    labels, confidence, parents = method.decode(views, [], NO_NEIGHBOURS)
    assert accuracy(labels, world.objects) > 0.95 and accuracy(labels, parents) == 1
    assert confidence.min() >= 0 and 0.8 < confidence.mean() <= 1
    assert (
        accuracy(method.decode([], [], NO_NEIGHBOURS).labels, world.objects) > 0.95
    )  # a map that was loaded has no views


def test_parts_and_wholes_emerge_from_masks_that_overlap(world):
    views = sampled(world, nested=True)
    method = trained(world, views, 150)
    labels, _, parents = method.decode(views, [], NO_NEIGHBOURS)
    assert accuracy(labels, world.objects) > 0.95
    assert accuracy(parents, world.wholes) > 0.95
    own, related, other = (method.kinship[0] / method.kinship[1]).tolist()
    assert own > related + 0.2 and related > other + 0.2


def test_without_a_weight_on_higher_levels_wholes_are_lost(world):
    method = trained(world, sampled(world, nested=True), 150, decay=0.0)
    own, related, other = (method.kinship[0] / method.kinship[1]).tolist()
    assert own > 0.9 and related < other + 0.2


def test_a_view_whose_pixels_lie_in_no_mask_teaches_nothing(world):
    view = sampled(world, nested=False)[0]
    method = trained(world, [view], 0)
    before = method.embeddings.value.detach().clone()
    neighbours = Neighbours.of(world.scene.means)
    assert method.step([replace(view, inside=torch.zeros_like(view.inside))], neighbours) == {}
    assert method.step([replace(view, inside=view.inside[:, :0])], neighbours) == {}
    assert torch.equal(method.embeddings.value, before)
