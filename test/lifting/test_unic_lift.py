"""UniC-Lift: its losses against their equations, its state through edits, and a scene whose objects it must find."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from lifting.tiles import NO_NEIGHBOURS, Tiles, accuracy, patches_of, tiles
from torch.autograd import gradcheck

from lift_ros.lifting.base import LiftingView
from lift_ros.lifting.config import LiftingConfig, UnicLiftConfig
from lift_ros.lifting.methods import make_method
from lift_ros.lifting.sampling import sample_view
from lift_ros.lifting.unic_lift import UnicLift, by_mask, cluster_loss, neighbourhood_loss, triplet_loss
from lift_ros.render import BlendWeights
from lift_ros.scene.neighbours import Neighbours


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


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
    sigma = random(12, 5)
    cohesion, repulsion = cluster_loss(sigma, MASKS, 4, margin)
    expected = literal_cluster_loss(sigma.detach(), MASKS, margin)
    assert (cohesion.item(), repulsion.item()) == pytest.approx(expected, rel=1e-12)
    assert gradcheck(lambda s: cluster_loss(s, MASKS, 4, margin), sigma)


def test_the_margin_lets_go_of_masks_that_are_far_apart():
    sigma = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    masks = torch.tensor([0, 0, 1, 1])
    assert cluster_loss(sigma, masks, 2, 2.0)[1].item() == 0
    assert cluster_loss(sigma, masks, 2, 2.5)[1].item() == pytest.approx(0.5)


def test_a_single_mask_repels_nothing():
    cohesion, repulsion = cluster_loss(random(4, 3), torch.zeros(4, dtype=torch.int64), 1, 4.0)
    assert repulsion.item() == 0 and cohesion.item() > 0


def test_triplet_loss_is_its_equation():
    a, p, n = random(20, 4, seed=1), random(20, 4, seed=2), random(20, 4, seed=3)
    margin = 0.3
    terms = [
        max(0.0, sum((a[t, k] - p[t, k]).item() ** 2 - (a[t, k] - n[t, k]).item() ** 2 for k in range(4)) + margin)
        for t in range(20)
    ]
    assert 0 < sum(term > 0 for term in terms) < 20  # both sides of the hinge
    assert triplet_loss(a, p, n, margin).item() == pytest.approx(np.mean(terms), rel=1e-12)
    assert gradcheck(lambda *rows: triplet_loss(*rows, margin), (a, p, n))


def test_neighbourhood_loss_is_its_equation():
    embeddings = random(7, 3, seed=4)
    index = torch.tensor([[1, 2], [0, 3], [0, 2], [1, 4], [3, 5], [4, 5], [6, 6]])
    near = torch.tensor([[1, 1], [1, 1], [1, 0], [1, 1], [1, 1], [1, 0], [0, 0]], dtype=torch.bool)
    some = torch.tensor([0, 2, 2, 5, 6])
    s = torch.sigmoid(embeddings.detach())
    terms = [float(((s[i] - s[index[i, k]]) ** 2).sum()) for i in some.tolist() for k in range(2) if near[i, k]]
    rows = torch.cat([some[:, None], index[some]], 1)
    assert neighbourhood_loss(embeddings[rows], near[some]).item() == pytest.approx(np.mean(terms), rel=1e-12)
    assert gradcheck(lambda f: neighbourhood_loss(f[rows], near[some]), embeddings)


def test_gaussians_that_touch_nothing_have_no_neighbourhood_loss():
    assert neighbourhood_loss(random(3, 3, 2), torch.zeros(3, 2, dtype=torch.bool)).item() == 0


# -- embedding to label ------------------------------------------------------------------------------------------------


def test_labels_are_the_signs_read_as_a_binary_number():
    method = UnicLift(UnicLiftConfig(embedding_dim=4))
    method.embeddings.value = torch.tensor(
        [[-3.0, -1, -2, -0.1], [9, -1, -1, -1], [-1, 5, -1, 0.1], [1, 1, 1, 1], [0, 0, 0, 0]]
    )
    labels, confidence, _ = method.decode([], [], NO_NEIGHBOURS)
    assert labels.tolist() == [0, 1, 2 + 8, 15, 0]
    expected = [np.mean(np.abs(np.tanh(np.array(row) / 2))) for row in method.embeddings.value.tolist()]
    assert confidence.tolist() == pytest.approx(expected, abs=1e-6)
    assert confidence[4] == 0  # every bit is on the fence


def test_codes_of_thirty_bits_do_not_overflow():
    method = UnicLift(UnicLiftConfig(embedding_dim=30))
    method.embeddings.value = torch.ones(1, 30)
    assert method.decode([], [], NO_NEIGHBOURS).labels.tolist() == [2**30 - 1]


# -- triplets ----------------------------------------------------------------------------------------------------------


def test_triplets_pair_a_mask_with_itself_and_with_the_one_across_the_border():
    masks = torch.tensor([0, -1, 1, 1, 2, 0, 2, -1, 1])
    pairs = torch.tensor([[0, 2], [3, 4], [6, 5], [8, 0]])
    weights = BlendWeights(torch.arange(10), torch.zeros(9, dtype=torch.int64), torch.ones(9), 1)
    view = LiftingView(weights, masks, 3, masks[:, None] == torch.arange(3), pairs)
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


@pytest.fixture(scope="module")
def world() -> Tiles:
    return tiles()


@pytest.fixture(scope="module")
def neighbours(world) -> Neighbours:
    return Neighbours.of(world.scene.means)


def sampled(world: Tiles, wrong: bool = False) -> list[LiftingView]:
    """Views whose mask numbers disagree; ``wrong``: the masks do not even lie where the objects are."""
    rng = np.random.default_rng(0)
    views = []
    for camera in world.cameras:
        masks = world.masks(camera, rng)
        if wrong:
            masks = np.roll(masks, (rng.integers(12, 36), rng.integers(16, 48)), (0, 1))
        views.append(sample_view(patches_of(masks), world.weights(camera), 2048, rng))
    return views


def fresh(world: Tiles, seed: int = 0, **options) -> UnicLift:
    method = UnicLift(UnicLiftConfig(**options), seed)
    method.edit(torch.full((len(world.scene),), -1), world.scene.means)
    return method


def train(method: UnicLift, views: list[LiftingView], neighbours: Neighbours, steps: int) -> None:
    for _ in range(steps):
        method.step(views, neighbours)


def test_objects_emerge_from_masks_whose_numbers_disagree(world, neighbours):
    method = fresh(world)
    assert accuracy(method.decode([], [], NO_NEIGHBOURS).labels, world.objects) < 0.3
    train(method, sampled(world), neighbours, 150)
    assert accuracy(method.decode([], [], NO_NEIGHBOURS).labels, world.objects) > 0.95


def test_masks_of_something_else_give_nothing(world, neighbours):
    method = fresh(world)
    train(method, sampled(world, wrong=True), neighbours, 150)
    assert accuracy(method.decode([], [], NO_NEIGHBOURS).labels, world.objects) < 0.5


@pytest.mark.parametrize(("weight", "low", "high"), [(1.0, 0.7, 1.0), (0.0, 0.0, 0.5)])
def test_smoothness_labels_what_no_view_shows(world, neighbours, weight, low, high):
    hidden = torch.arange(len(world.scene)) % 12 == 0
    scene = world.scene.clone()
    scene.logit_opacities[hidden] = -20.0
    method = fresh(world, neighbourhood_weight=weight, neighbourhood_after=0)
    train(method, sampled(replace(world, scene=scene)), neighbours, 200)
    labels = method.decode([], [], NO_NEIGHBOURS).labels
    assert accuracy(labels[~hidden], world.objects[~hidden]) > 0.8
    assert low <= accuracy(labels[hidden], world.objects[hidden]) <= high


def test_the_same_seed_gives_the_same_embeddings(world, neighbours):
    views = sampled(world)

    def trained(seed: int) -> torch.Tensor:
        method = fresh(world, seed, neighbourhood_after=0)
        train(method, views, neighbours, 10)
        return method.embeddings.value

    first = trained(3)
    assert torch.equal(first, trained(3))
    assert not torch.equal(first, trained(4))


def test_training_goes_on_alike_after_gaussians_changed_places(world):
    """State and moments are those of the same Gaussian: an edit that only permutes changes nothing but the order."""
    views = sampled(world)
    still, moved = fresh(world), fresh(world)
    for method in (still, moved):
        train(method, views, NO_NEIGHBOURS, 5)
    origin = torch.randperm(len(world.scene), generator=torch.Generator().manual_seed(0))
    moved.edit(origin, world.scene.means[origin])
    assert torch.equal(moved.embeddings.value, still.embeddings.value[origin])
    train(still, views, NO_NEIGHBOURS, 5)
    train(moved, [view.follow(origin) for view in views], NO_NEIGHBOURS, 5)
    # the order of sums differs; Adam's steps are 0.05 each
    assert (moved.embeddings.value - still.embeddings.value[origin]).abs().max() < 2e-3


def test_edits_carry_embeddings_along_and_new_gaussians_start_as_their_nearest():
    means = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    method = UnicLift(UnicLiftConfig(embedding_dim=4))
    method.edit(torch.full((4,), -1), means)
    before = method.embeddings.value.clone()
    # 1 is gone, 3 was split, one came beside 0 and one beside the children of 3
    origin = torch.tensor([0, 2, 3, 3, -1, -1])
    method.edit(origin, torch.tensor([[0.0, 0, 0], [2, 0, 0], [3, 0.1, 0], [3, -0.1, 0], [0.2, 0, 0], [3.3, -0.3, 0]]))
    assert torch.equal(method.embeddings.value, before[[0, 2, 3, 3, 0, 3]])


@pytest.mark.parametrize("count", [1, 2])
def test_the_first_gaussians_may_be_few(count):
    method = UnicLift(UnicLiftConfig())
    method.edit(torch.full((count,), -1), torch.ones(count, 3))
    assert torch.isfinite(method.embeddings.value).all()


def test_a_scene_that_was_emptied_fills_again():
    method = UnicLift(UnicLiftConfig())
    method.edit(torch.full((3,), -1), torch.eye(3))
    method.edit(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3))
    assert method.decode([], [], NO_NEIGHBOURS).labels.shape == (0,)
    method.edit(torch.full((5,), -1), torch.rand(5, 3))
    assert method.embeddings.value.shape == (5, 12) and torch.isfinite(method.embeddings.value).all()


def test_a_view_without_masks_teaches_nothing(world, neighbours):
    method = fresh(world)
    before = method.embeddings.value.clone()
    view = sampled(world)[0]
    assert method.step([replace(view, masks=torch.full_like(view.masks, -1))], neighbours) == {}
    assert method.step([replace(view, mask_count=0)], neighbours) == {}
    assert torch.equal(method.embeddings.value, before)


def test_a_step_without_finite_gradients_changes_nothing(world, neighbours):
    method = fresh(world)
    before, layer = method.embeddings.value.clone(), method.state()["unic_lift.layer.weight"].clone()
    view = sampled(world)[0]
    broken = replace(view.weights, val=torch.full_like(view.weights.val, float("nan")), _transpose=None)
    method.step([replace(view, weights=broken)], neighbours)
    assert torch.equal(method.embeddings.value, before)
    assert torch.equal(method.state()["unic_lift.layer.weight"], layer)
    train(method, [view], neighbours, 1)
    assert torch.isfinite(method.embeddings.value).all() and not torch.equal(method.embeddings.value, before)


def test_saved_state_restores_labels_and_training(world, neighbours):
    views = sampled(world)
    method = fresh(world)
    train(method, views, neighbours, 20)
    saved = {name: tensor.clone() for name, tensor in method.state().items()}
    assert len(saved["gaussian.unic_lift.embeddings"]) == len(world.scene)

    def resumed() -> UnicLift:
        other = fresh(world, seed=5)
        other.load_state(saved)
        return other

    assert torch.equal(resumed().decode([], [], NO_NEIGHBOURS).labels, method.decode([], [], NO_NEIGHBOURS).labels)
    a, b = resumed(), resumed()
    for other in (a, b):
        train(other, views, neighbours, 3)
    assert torch.equal(a.embeddings.value, b.embeddings.value)
    assert torch.equal(saved["gaussian.unic_lift.embeddings"], method.embeddings.value)  # training a copy left it alone


def test_methods_are_made_by_name():
    assert make_method(LiftingConfig(), 0, "cpu").name == "lift"
    with pytest.raises(ValueError, match="astrology"):
        make_method(replace(LiftingConfig(), method="astrology"), 0, "cpu")
