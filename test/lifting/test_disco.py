"""DiscoNeRF: affinity, matching and losses against their equations, slots that grow, overlapping masks."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from lifting.tiles import NO_NEIGHBOURS, accuracy, tiles
from lifting.views import blending, uniform, view_of
from torch.autograd import gradcheck

from lift_ros.lifting.config import DiscoConfig
from lift_ros.lifting.disco import Disco, affinity, match, matching_losses, variation_loss
from lift_ros.lifting.sampling import sample_view
from lift_ros.mapping.snapshot import MapSnapshot
from lift_ros.masks.base import Masks, Patches
from lift_ros.scene.neighbours import Neighbours


def overlapping(pixels: int, count: int) -> torch.Tensor:
    return (uniform(pixels, count, seed=9) > 0.5).double()


def literal_affinity(slot: torch.Tensor, mask: torch.Tensor) -> float:
    pairs = list(zip(slot.tolist(), mask.tolist(), strict=True))
    return sum(min(o, m) for o, m in pairs) / sum(max(o, m) for o, m in pairs)


def test_affinity_is_equation_4():
    slots, masks = uniform(20, 5), overlapping(20, 3)
    found = affinity(slots, masks)
    for n, m in itertools.product(range(5), range(3)):
        assert found[n, m].item() == pytest.approx(literal_affinity(slots[:, n], masks[:, m]), rel=1e-12)


def test_match_has_the_greatest_affinity_of_all():
    slots, masks = uniform(20, 5), overlapping(20, 3)
    best = max(
        itertools.permutations(range(5), 3),
        key=lambda gamma: sum(literal_affinity(slots[:, n], masks[:, m]) for m, n in enumerate(gamma)),
    )
    assert match(slots, masks).tolist() == list(best)


def test_losses_are_equations_5_and_6():
    slots, masks, matched = uniform(20, 5), overlapping(20, 3), torch.tensor([4, 0, 2])
    matching = false_positives = 0.0
    for m in range(3):
        for u in range(20):
            matching += (masks[u, m].item() - slots[u, matched[m]].item()) ** 2 / 3 / 20
            for n in range(5):
                if n != matched[m]:
                    false_positives += (masks[u, m].item() * slots[u, n].item()) ** 2 / 3 / 20
    found = matching_losses(slots, masks, matched)
    assert [loss.item() for loss in found] == pytest.approx([matching, false_positives], rel=1e-12)
    assert gradcheck(lambda o: matching_losses(o, masks, matched), slots.requires_grad_())


def test_variation_loss_is_equation_7():
    features = uniform(6, 3).requires_grad_()
    index = torch.tensor([[1, 2], [0, 3], [0, 2], [1, 4], [3, 4], [5, 5]])
    near = torch.tensor([[1, 1], [1, 1], [1, 0], [1, 1], [1, 0], [0, 0]], dtype=torch.bool)
    some = torch.tensor([0, 2, 2, 4, 5])
    h = features.detach()
    terms = [float(((h[i] - h[index[i, k]]) ** 2).sum()) for i in some.tolist() for k in range(2) if near[i, k]]

    def loss_of(features: torch.Tensor, some: torch.Tensor, near: torch.Tensor = near) -> torch.Tensor:
        return variation_loss(features, torch.cat([some[:, None], index[some]], 1), near[some])

    assert loss_of(features, some).item() == pytest.approx(sum(terms) / 2 / len(some), rel=1e-12)
    assert gradcheck(lambda f: loss_of(f, some), features)
    # of all Gaussians: the pairs 0 1, 0 2, 1 3 and 3 4 are mutual
    pairs = [float(((h[i] - h[j]) ** 2).sum()) for i, j in ((0, 1), (0, 2), (1, 3), (3, 4))]
    everyone = torch.arange(6)
    assert loss_of(features, everyone).item() == pytest.approx(sum(pairs) / 6, rel=1e-12)
    lost = near.clone()
    lost[3, 1] = False  # 4 lists 3, but 3 does not list 4 any more
    halved = sum(pairs) - pairs[3] / 2
    assert loss_of(features, everyone, lost).item() == pytest.approx(halved / 6, rel=1e-12)
    alone = torch.tensor([5])
    assert loss_of(features, alone).item() == 0


def knowing(logits: torch.Tensor, **options: float) -> Disco:
    """A method whose Gaussians have these logits."""
    method = Disco(DiscoConfig(**options))
    method.edit(torch.full((len(logits),), -1), torch.zeros(len(logits), 3))
    method.load_state({"gaussian.disco.logits": logits.float()})
    return method


def test_a_step_weighs_equations_5_to_7():
    """Each pixel shows several Gaussians. Two and two touch, all as far apart, no matter which are drawn."""
    logits, masks = 8 * uniform(10, 6).repeat_interleave(2, 0), overlapping(20, 3)
    apart = uniform(1, 6, seed=1)
    logits[1::2] += apart
    method = knowing(logits, false_positive_weight=0.3, variation_weight=0.7)
    table, inside = blending(20, 20), masks.bool()
    view, slots = view_of(table, inside.int().argmax(1), inside), table @ logits.softmax(1)
    matching, false_positives = matching_losses(slots, masks, match(slots, masks))
    expected = {
        "matching": matching.item(),
        "false_positives": 0.3 * false_positives.item(),
        "variation": 0.7 * apart.square().sum().item() / 2,
    }
    neighbours = Neighbours((torch.arange(20) ^ 1)[:, None], torch.ones(20, 1, dtype=torch.bool))
    assert method.step([view], neighbours) == pytest.approx(expected, rel=1e-5)


def test_the_winning_slot_is_the_label_and_its_probability_the_confidence():
    logits = torch.tensor([[0.0, 1.0, 2.0], [5.0, 0.0, 0.0]])
    labels, confidence, *_ = knowing(logits).decode([], [], NO_NEIGHBOURS)
    assert labels.tolist() == [2, 0]
    expected = [math.exp(max(row)) / sum(map(math.exp, row)) for row in logits.tolist()]
    assert confidence.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.fixture(scope="module")
def world():
    return tiles()


def test_where_sure_objects_meet_in_a_pixel_confidence_stays_high(world):
    """Though no slot has the pixel: the paper's confidence, the most that a blended slot has, is low there."""
    logits = 8 * torch.nn.functional.one_hot(world.objects - 1, 12)
    confidence = knowing(logits).decode(views_of(world, lambda masks, rng: masks), [], NO_NEIGHBOURS).confidence
    camera = world.cameras[0]
    weights = world.weights(camera)
    alpha, slots = weights.alpha(), weights.matmul(logits.softmax(1, torch.float32))
    meet = (alpha > 0.97) & (slots.amax(1) < 0.6)
    assert meet.sum() > 20
    unsure = MapSnapshot(world.scene, world.objects, 1 - confidence).uncertainty_image(camera)
    assert unsure.reshape(-1)[meet.numpy()].max() < 0.05


def views_of(world, masks_of, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    views = []
    for camera in world.cameras:
        patches = Patches.of(masks_of(Masks.from_label_image(world.masks(camera, rng)).masks, rng))
        views.append(sample_view(patches, world.weights(camera), 2048, rng))
    return views


def fresh(world, **options) -> Disco:
    method = Disco(DiscoConfig(**options))
    method.edit(torch.full((len(world.scene),), -1), world.scene.means)
    return method


def test_objects_emerge_though_masks_overlap_and_leave_holes(world):
    """Of each view's masks two are dropped, and one more is the union of two: most views outvote it."""

    def some(masks, rng):
        first, second, *_, last, other = rng.permutation(len(masks))
        kept = np.delete(masks, [last, other], 0)
        return np.concatenate([kept, (masks[first] | masks[second])[None]])

    views = views_of(world, some)
    assert any((view.inside.sum(1) > 1).any() for view in views)
    method, neighbours = fresh(world), Neighbours.of(world.scene.means)
    for _ in range(200):
        method.step(views, neighbours)
    assert accuracy(method.decode(views, [], NO_NEIGHBOURS).labels, world.objects) > 0.85


def test_there_are_two_slots_for_each_mask_and_more_when_a_view_has_more(world):
    views = views_of(world, lambda masks, rng: masks)
    few = [replace(view, inside=view.inside[:, :3]) for view in views]
    method = fresh(world)
    method.step(few, NO_NEIGHBOURS)
    before = method.state()["gaussian.disco.logits"].clone()
    assert before.shape[1] == 6
    method.step(views, NO_NEIGHBOURS)
    after = method.state()["gaussian.disco.logits"]
    assert after.shape[1] == 24 and (after[:, :6] - before).abs().max() <= 2 * method.config.learning_rate
    method.step(few, NO_NEIGHBOURS)
    assert method.state()["gaussian.disco.logits"].shape[1] == 24


def test_smoothness_labels_what_no_view_shows(world):
    hidden = torch.arange(len(world.scene)) % 12 == 0
    scene = world.scene.clone()
    scene.logit_opacities[hidden] = -20.0
    views = views_of(replace(world, scene=scene), lambda masks, rng: masks)
    neighbours = Neighbours.of(scene.means)
    shown = []
    for weight in (0.01, 0.0):
        method = fresh(world, variation_weight=weight)
        method.logits.value.detach()[hidden] = 0.0
        for _ in range(150):
            method.step(views, neighbours)
        shown.append(accuracy(method.decode(views, [], NO_NEIGHBOURS).labels[hidden], world.objects[hidden]))
    assert shown[0] > 0.8 and shown[1] < 0.5
