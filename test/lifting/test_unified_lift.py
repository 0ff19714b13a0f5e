"""Unified-Lift: its losses against their equations, its levels, and a scene whose objects it must find."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from lifting.tiles import NO_NEIGHBOURS, Tiles, accuracy, patches_of, sampled, tiles, train_on
from lifting.views import blending, literal_phi, near_axes, normal, shown_as, sparse, view_of
from numpy.typing import NDArray
from torch.autograd import gradcheck

from lift_ros.lifting import unified_lift
from lift_ros.lifting.base import LiftingView
from lift_ros.lifting.clicks import nearest_gaussian
from lift_ros.lifting.config import UnifiedLiftConfig
from lift_ros.lifting.contrastive import Clusters, Groups
from lift_ros.lifting.sampling import sample_view
from lift_ros.lifting.unified_lift import (
    SAME_OBJECT,
    TAKEN_EVERY,
    UnifiedLift,
    association,
    class_loss,
    codebook_losses,
    concentration_loss,
    distinct,
    granularities,
    majorities,
    match,
    nearest,
    uncertainty,
)
from lift_ros.masks.base import Patches
from lift_ros.render import BlendWeights

MASKS = torch.tensor([0, 0, 0, 2, 2, 1, 1, 1, 1, 1])
THRESHOLD = 0.18  # of six of these pixels eq. 7 is less


def clusters_of(features: torch.Tensor) -> Clusters:
    return Clusters.of(features, Groups.of(MASKS, 3, torch.float64))


def literal_equation_2(features: torch.Tensor, codes: torch.Tensor) -> list[list[float]]:
    """As printed: sim is the bare dot product."""
    table = []
    for f in features.tolist():
        similarity = [math.exp(sum(a * b for a, b in zip(f, code, strict=True))) for code in codes.tolist()]
        table.append([s / sum(similarity) for s in similarity])
    return table


def literal_probability(features: torch.Tensor, codes: torch.Tensor) -> list[list[float]]:
    """Eq. 2 with rows of unit length and the temperature 0.1."""
    lengths = torch.tensor([math.sqrt(sum(c * c for c in code)) for code in codes.tolist()], dtype=torch.float64)
    return literal_equation_2(features / 0.1, codes / lengths[:, None])


def literal_assignment(probability: list[list[float]], objects: int, area_aware: bool = True) -> tuple[int, ...]:
    """Of the three masks, by eq. 5, or eq. 3: the best there is."""
    sums = [
        [sum(p[o] for p, m in zip(probability, MASKS, strict=True) if m == j) for o in range(objects)] for j in range(3)
    ]
    if not area_aware:
        sums = [[s / int((j == MASKS).sum()) for s in row] for j, row in enumerate(sums)]
    return max(itertools.permutations(range(objects), 3), key=lambda labels: sum(sums[j][labels[j]] for j in range(3)))


def literal_uncertainty(features: torch.Tensor) -> list[float]:
    """Eq. 7 with the temperatures of eq. 1, those of OmniSeg3D."""
    phi = literal_phi(features, MASKS)
    assert all(0.1 < each < 1 for each in phi) and min(phi) < 0.9 * max(phi)  # else they say nothing
    means = [features[j == MASKS].mean(0).tolist() for j in range(3)]
    doubt = []
    for f, m in zip(features.tolist(), MASKS.tolist(), strict=True):
        similarity = [math.exp(sum(a * b for a, b in zip(f, means[j], strict=True)) / phi[j]) for j in range(3)]
        doubt.append(1 - similarity[m] / sum(similarity))
    return doubt


def literal_equation_8(
    features: torch.Tensor, codes: torch.Tensor, threshold: float, area_aware: bool = True
) -> tuple[float, float, int]:
    """The sums behind w_class and w_concen, and how many pixels are in them."""
    probability, doubt = literal_probability(features, codes), literal_uncertainty(features)
    labels = literal_assignment(probability, len(codes), area_aware)
    classes = concentration = 0.0
    certain = [u for u in range(len(MASKS)) if doubt[u] <= threshold]
    for u in certain:
        label = labels[int(MASKS[u])]
        classes -= math.log(probability[u][label]) / len(MASKS)
        length = sum(abs(x) for x in features[u].tolist())
        code = codes[label].tolist()
        concentration += sum(abs(c - x / length) for c, x in zip(code, features[u].tolist(), strict=True)) / len(MASKS)
    return classes, concentration, len(certain)


# -- losses ------------------------------------------------------------------------------------------------------------


def test_association_is_its_equation():
    features, codes = normal(10, 4), normal(6, 4, seed=1)
    expected = literal_probability(features, codes)
    assert association(features, codes).exp().tolist() == [pytest.approx(row) for row in expected]
    assert gradcheck(association, (features.requires_grad_(), codes.requires_grad_()))


def test_association_is_equation_2_as_printed_but_for_lengths_of_rows_and_temperature():
    features, codes = normal(10, 4), normal(6, 4, seed=1)
    unit = torch.nn.functional.normalize(codes, dim=1)
    expected = literal_equation_2(features, unit)
    assert association(0.1 * features, 7 * codes).exp().tolist() == [pytest.approx(row) for row in expected]


def test_a_bare_dot_product_would_hardly_tell_256_objects_apart():
    """Rows as eq. 6 wants them, each the feature of an object over its L1 norm."""
    features = torch.nn.functional.normalize(normal(256, 16), dim=1)
    codes = torch.nn.functional.normalize(features, p=1, dim=1)
    printed = [row[u] for u, row in enumerate(literal_equation_2(features[:20], codes))]
    assert max(printed) < 2 / 256
    assert association(features, codes).exp().diagonal().min() > 0.3


@pytest.mark.parametrize("area_aware", [True, False])
def test_matching_is_the_best_of_all_assignments(area_aware):
    for seed in range(5):
        probability = literal_probability(normal(10, 4, seed=seed), normal(5, 4, seed=seed + 9))
        best = literal_assignment(probability, 5, area_aware)
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
    features = near_axes(MASKS, 4)
    found = uncertainty(features, MASKS, clusters_of(features))
    assert found.tolist() == pytest.approx(literal_uncertainty(features))


def test_class_loss_is_its_equation():
    features, codes = normal(10, 4), normal(6, 4, seed=1)
    labels = torch.tensor([4, 2, 5])[MASKS]
    probability = literal_probability(features, codes)
    expected = [-math.log(p[label]) for p, label in zip(probability, labels.tolist(), strict=True)]
    assert class_loss(association(features, codes), labels).tolist() == pytest.approx(expected)
    tensors = features.requires_grad_(), codes.requires_grad_()
    assert gradcheck(lambda f, c: class_loss(association(f, c), labels), tensors)


def test_concentration_loss_is_its_equation():
    features, codes = normal(10, 4), normal(10, 4, seed=1)
    expected = [
        sum(abs(c - x / sum(map(abs, f))) for c, x in zip(code, f, strict=True))
        for code, f in zip(codes.tolist(), features.tolist(), strict=True)
    ]
    assert concentration_loss(features, codes).tolist() == pytest.approx(expected)
    assert gradcheck(concentration_loss, (features.requires_grad_(), codes.requires_grad_()))


@pytest.mark.parametrize(("threshold", "certain"), [(0.0, 0), (THRESHOLD, 6), (1.0, 10)])
def test_losses_of_the_codebook_are_equation_8(threshold, certain):
    features, codes = near_axes(MASKS, 4), normal(6, 4, seed=1)
    clusters = clusters_of(features)
    *expected, count = literal_equation_8(features, codes, threshold)
    assert count == certain
    found = codebook_losses(features, MASKS, clusters, codes, True, threshold)
    assert [loss.item() for loss in found] == pytest.approx(expected)
    tensors = features.requires_grad_(), codes.requires_grad_()
    assert gradcheck(lambda f, c: codebook_losses(f, MASKS, clusters, c, True, threshold), tensors)


def test_pixels_of_masks_without_an_object_are_not_in_equation_8():
    features, codes = near_axes(MASKS, 4), normal(2, 4, seed=1)
    clusters = clusters_of(features)
    probability = literal_probability(features, codes)
    left = match(torch.tensor(probability).log(), MASKS, 3, True)
    assert sorted(left.tolist()) == [-1, 0, 1]
    expected = -sum(math.log(p[left[m]]) for p, m in zip(probability, MASKS, strict=True) if left[m] >= 0) / 10
    assert codebook_losses(features, MASKS, clusters, codes, True, 1.0)[0].item() == pytest.approx(expected)


@pytest.mark.parametrize("area_aware", [True, False])
def test_a_step_weighs_equation_1_the_norm_loss_and_the_parts_of_equation_8(area_aware):
    """Of pixels that each show several Gaussians."""
    config = UnifiedLiftConfig(4, 6, area_aware=area_aware, max_uncertainty=THRESHOLD, norm_weight=0.7)
    method, features, table = UnifiedLift(config, seed=1), near_axes(MASKS, 4), blending(10, 16)
    method.embeddings.load(shown_as(features, table).float(), "")
    codes = method.codebook.value[0].detach().double()
    probability = literal_probability(features, codes)
    assert literal_assignment(probability, 6, True) != literal_assignment(probability, 6, False)
    classes, concentration, _ = literal_equation_8(features, codes, THRESHOLD, area_aware)
    expected = {
        "contrastive": -sum(math.log(1 - doubt) for doubt in literal_uncertainty(features)) / 10,
        "norm": 0.7 * sum((math.hypot(*f) - 1) ** 2 for f in features.tolist()) / 10,
        "class": 1e-3 * classes,
        "concentration": 0.1 * concentration,
    }
    assert method.step([view_of(table, MASKS)], NO_NEIGHBOURS) == pytest.approx(expected, rel=1e-4)


# -- decoding ----------------------------------------------------------------------------------------------------------


def test_of_rows_that_are_nearly_the_same_the_one_taken_most_stands_for_all():
    angles = torch.tensor([0.0, 25.0, 50.0, 90.0, 91.0, 200.0]).deg2rad()
    codes = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[1.0], [3.0], [0.1], [1.0], [1.0], [1.0]])
    assert math.cos(math.radians(37)) < SAME_OBJECT < math.cos(math.radians(36))
    assert distinct(codes, torch.tensor([5, 9, 7, 2, 3, 0])).tolist() == [1, 4]  # 0 and 2 are like 1, 3 is like 4
    assert distinct(codes, torch.tensor([9, 5, 7, 2, 3, 1])).tolist() == [0, 2, 4, 5]  # 0 and 2 are not alike
    assert distinct(codes, torch.zeros(6, dtype=torch.int64)).tolist() == [0]


def test_masks_vote_for_the_row_that_most_of_their_pixels_are_at():
    labels, masks = torch.tensor([2, 2, 0, 1, 1, 3, 2]), torch.tensor([5, 5, 5, 7, 7, 7, 9])
    assert majorities(labels, masks, 5).tolist() == [0, 1, 2, 0, 0]
    assert majorities(labels[:0], masks[:0], 3).tolist() == [0, 0, 0]


def test_an_object_whose_embeddings_scatter_over_two_rows_has_one_label():
    method = UnifiedLift(UnifiedLiftConfig(embedding_dim=2, codebook_size=3))
    angles = torch.tensor([0.0, 20.0, 120.0]).deg2rad()
    method.codebook.load(torch.stack([angles.cos(), angles.sin()], dim=1)[None], "")
    turned = torch.tensor([0.0, 2.0, 4.0, 18.0, 20.0, 120.0, 130.0]).deg2rad()
    method.embeddings.load(torch.stack([turned.cos(), turned.sin()], dim=1), "")
    assert method.decode([], [], NO_NEIGHBOURS).labels.tolist() == [0] * 5 + [2] * 2
    # where more masks are at the other row, that one stands for both, however many Gaussians are at the first; a row
    # that no mask is at, but Gaussians are, stays
    shown = torch.eye(len(turned))[[0, 3, 4]]
    view = view_of(*(each.repeat_interleave(TAKEN_EVERY, 0) for each in (shown, torch.arange(3))))
    assert method.decode([view], [], NO_NEIGHBOURS).labels.tolist() == [1] * 5 + [2] * 2


def test_confidence_is_the_probability_among_the_distinct_rows():
    method = UnifiedLift(UnifiedLiftConfig(embedding_dim=4, codebook_size=3))
    features, codes = 0.1 * normal(10, 4), normal(3, 4, seed=1)
    codes[1] = 2 * codes[0]
    method.codebook.load(codes[None].float(), "")
    method.embeddings.load(features.float(), "")
    labels, confidence, _ = method.decode([], [], NO_NEIGHBOURS)
    probability = literal_probability(features, codes[::2])  # row 1 is row 0
    assert set(labels.tolist()) == {0, 2}
    assert confidence.tolist() == pytest.approx([max(p) for p in probability], rel=1e-5)


# -- granularities -----------------------------------------------------------------------------------------------------


def test_granularities_go_from_the_smallest_mask_to_the_largest_and_are_counted_from_that():
    rows = ["xxx.", "xx..", ".xx.", "..x.", ".x..", "..xx", "....", "xxxx"]
    inside = torch.tensor([[c == "x" for c in row] for row in rows])
    assert [found.tolist() for found in granularities(inside, 2)] == [
        [0, 0, 1, 2, 1, 2, -1, 0],
        [2, 1, 2, 2, 1, 3, -1, 3],
    ]
    assert [found.tolist() for found in granularities(inside, 3)] == [
        [0, 0, 1, 2, 1, 2, -1, 0],
        [1, 0, 1, 2, 1, 2, -1, 2],
        [2, 1, 2, 2, 1, 3, -1, 3],
    ]


def test_the_smallest_mask_is_that_of_the_image_not_of_the_pixels_that_were_sampled():
    """Small masks in the smaller of two that overlap bring it more samples than the larger one has."""
    masks = np.zeros((8, 60, 120), bool)
    masks[0, :, :60], masks[1, 5:55, 40:100] = True, True
    for k, (row, column) in enumerate(itertools.product((8, 23, 38), (70, 82))):
        masks[2 + k, row : row + 6, column : column + 6] = True
    n = masks[0].size
    weights = BlendWeights(torch.arange(n + 1), torch.arange(n), torch.ones(n), n)
    inside = sample_view(Patches.of(masks), weights, 2048, np.random.default_rng(0)).inside
    smaller, larger = inside.shape[1] - 2, inside.shape[1] - 1
    assert inside[:, smaller].sum() > inside[:, larger].sum() > 0
    both = inside[:, smaller] & inside[:, larger]
    fine, coarse = granularities(inside, 2)
    assert both.any() and (fine[both] == smaller).all() and (coarse[both] == larger).all()


def test_the_embeddings_follow_equation_1_alone():
    """The codebook is drawn to them, not they to it."""
    method = UnifiedLift(UnifiedLiftConfig(embedding_dim=4, codebook_size=8))
    features = torch.randn(20, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    groups = Groups.of(torch.arange(20) % 3, 3)
    losses = method._losses(features, groups, 0)
    of_codebook = losses["class"] + losses["concentration"]
    assert torch.autograd.grad(of_codebook, features, retain_graph=True, allow_unused=True) == (None,)
    (moved,) = torch.autograd.grad(of_codebook, method.codebook.value, retain_graph=True)
    assert moved.abs().sum() > 0
    (drawn,) = torch.autograd.grad(losses["contrastive"], features)
    assert drawn.abs().sum() > 0


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


def some_split(masks: NDArray, rng: np.random.Generator) -> NDArray:
    """A label image (H, W) in which half of the masks are cut in two, anywhere."""
    masks = masks.copy()
    for mask in np.unique(masks[masks > 0]):
        row, column = np.nonzero(masks == mask)
        angle = rng.uniform(0, np.pi)
        beyond = np.cos(angle) * (row - row.mean()) + np.sin(angle) * (column - column.mean()) > 0
        if rng.random() < 0.5:
            masks[row[beyond], column[beyond]] = masks.max() + 1
    return masks


def test_objects_whose_masks_are_split_are_in_pieces_by_the_argmax_and_whole_by_distinct_rows(world, monkeypatch):
    rng = np.random.default_rng(0)
    views = [
        sample_view(patches_of(some_split(world.masks(camera, rng), rng)), world.weights(camera), 2048, rng)
        for camera in world.cameras
    ]
    method = trained(world, views, 60)
    assert accuracy(method.decode(views, [], NO_NEIGHBOURS).labels, world.objects) > 0.95
    pieces = nearest(method.embeddings.value.detach(), method.codebook.value[0].detach())
    assert accuracy(pieces, world.objects) < 0.75 and len(pieces.unique()) > 1.5 * len(world.objects.unique())
    monkeypatch.setattr(unified_lift, "SAME_OBJECT", 1.0)
    assert torch.equal(method.decode(views, [], NO_NEIGHBOURS).labels, pieces)


LEVELS = {2: (0.7, 0.3), 3: (0.75, 0.4, 0.05)}  # thresholds of a part, of the whole, and of the half of the sheet


def nested(world: Tiles, levels: int, gaps: bool = False) -> tuple[list[LiftingView], list[torch.Tensor]]:
    """Views with masks of the objects, of the wholes they are part of and, with three levels, of the halves these make
    up; and which of them each Gaussian is of. With ``gaps``, one object of each whole has no mask of its own.
    """
    parts = torch.where(world.objects > 8, 0, world.objects) if gaps else world.objects
    truth = [parts, 1 + world.wholes, 1 + world.wholes // 2][:levels]
    rng = np.random.default_rng(0)
    views = [
        sample_view(Patches.of(world.nested_masks(camera, rng, truth)), world.weights(camera), 2048, rng)
        for camera in world.cameras
    ]
    return views, truth


@pytest.mark.parametrize(("levels", "gaps"), [(2, False), (3, False), (3, True)])
def test_a_click_selects_what_is_one_at_a_level_by_its_threshold_and_labels_are_the_finest_and_the_coarsest(
    world, levels, gaps
):
    views, truth = nested(world, levels, gaps)
    method = trained(world, views, 100, levels=levels)
    decoded = method.decode(views, [], NO_NEIGHBOURS)
    assert accuracy(decoded.labels, world.objects) > 0.95
    assert accuracy(decoded.wholes, truth[-1]) > 0.95
    for k in range(1, 9):
        members = (world.objects == k).nonzero()[:, 0]
        which = members[nearest_gaussian(world.scene.means[members], world.scene.means[members].mean(0))]
        score = method.similarity(sparse(torch.eye(len(world.scene))[which][None]))
        for labels, threshold in zip(truth, LEVELS[levels], strict=True):
            chosen, there = score > threshold, labels == labels[which]
            assert (chosen & there).sum() > 0.85 * (chosen | there).sum()


def test_the_similarity_to_a_click_is_the_mean_over_levels():
    method = UnifiedLift(UnifiedLiftConfig(embedding_dim=4, levels=3))
    embeddings = normal(6, 3, 4)
    method.embeddings.load(embeddings.flatten(1).float(), "")
    cosine = torch.nn.functional.cosine_similarity(embeddings, embeddings[:1], dim=2)
    assert method.similarity(sparse(torch.eye(6)[:1])).tolist() == pytest.approx(cosine.mean(1).tolist(), abs=1e-6)
    assert method.unit_features.norm(dim=1).tolist() == pytest.approx([1.0] * 6)
