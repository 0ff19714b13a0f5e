"""PCF-Lift: kernel, losses and algorithm 1 against their equations, and the uncertainty that contradictions leave."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lifting.tiles import NO_NEIGHBOURS, Tiles, patches_of, tiles, train_on
from lifting.views import blending, uniform, view_of
from torch.autograd import gradcheck

from lift_ros.lifting.base import Batch, LiftingView
from lift_ros.lifting.config import PcfLiftConfig
from lift_ros.lifting.pcf_lift import (
    MIN_SAMPLES,
    MIN_VARIANCE,
    Normals,
    PcfLift,
    concentration_loss,
    contrast_loss,
    cross_view_loss,
    log_kernel,
    suppress,
    sureness,
    tuned_threshold,
    variance_loss,
)
from lift_ros.lifting.sampling import sample_view

MASKS = torch.tensor([0, 0, 3, 3, 1, 1, 1, 3, 0])  # mask 2 has no pixel


def random(count: int, dim: int = 3, seed: int = 0) -> Normals:
    return Normals(uniform(count, dim, seed=seed), 0.05 + uniform(count, dim, seed=seed + 100))


def check_gradient(function, *features: Normals) -> None:
    def of_tensors(*tensors: torch.Tensor):
        return function(*(Normals(m, v) for m, v in zip(tensors[::2], tensors[1::2], strict=True)))

    tensors = [t.clone().requires_grad_() for f in features for t in (f.mean, f.variance)]
    assert gradcheck(of_tensors, tensors)


def literal_kernel(a: Normals, i: int, b: Normals, j: int) -> float:
    """Equation (1), of feature i of a and feature j of b."""
    product, exponent = 1.0, 0.0
    for d in range(a.mean.shape[1]):
        vi, vj = a.variance[i, d].item(), b.variance[j, d].item()
        product *= (vi / vj + vj / vi) / 2
        exponent -= (a.mean[i, d].item() - b.mean[j, d].item()) ** 2 / (4 * (vi + vj))
    return product**-0.5 * math.exp(exponent)


def test_kernel_is_equation_1():
    a, b = random(4, seed=1), random(5, seed=2)
    kernel = log_kernel(a[:, None], b[None]).exp()
    for i in range(4):
        for j in range(5):
            assert kernel[i, j].item() == pytest.approx(literal_kernel(a, i, b, j), rel=1e-12)
    check_gradient(lambda a, b: log_kernel(a[:, None], b[None]), a, b)


def test_kernel_of_a_distribution_with_itself_is_one():
    a = random(3)
    assert log_kernel(a, a).abs().max() < 1e-12


@pytest.mark.parametrize(("ratio", "printed", "integral"), [(10, 0.088, 0.436), (2, 0.716, 0.915)])
def test_ratios_are_of_variances_as_the_paper_prints_them_and_not_as_the_integral_has_them(ratio, printed, integral):
    a = random(3)
    for other in (Normals(a.mean, a.variance / ratio), Normals(a.mean, a.variance * ratio)):
        assert log_kernel(a, other).exp().tolist() == pytest.approx([printed] * 3, abs=5e-4)
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    densities = [torch.exp(-x.square() / 2 / v) / math.sqrt(2 * math.pi * v) for v in (1, ratio)]
    assert torch.trapezoid((densities[0] * densities[1]).sqrt(), x).item() ** 3 == pytest.approx(integral, abs=5e-4)


def test_contrastive_losses_are_equations_2_and_3():
    features, p = random(len(MASKS)), len(MASKS)
    contrast = concentration = 0.0
    for u in range(p):
        positive = [v for v in range(p) if MASKS[v] == MASKS[u]]
        kernel = [math.exp(literal_kernel(features, u, features, v)) for v in range(p)]
        contrast -= math.log(sum(kernel[v] for v in positive) / sum(kernel)) / p
        mean = Normals(features.mean[positive].mean(0)[None], features.variance[positive].mean(0)[None])
        concentration -= math.log(literal_kernel(features, u, mean, 0)) / p
    assert contrast_loss(features, MASKS).item() == pytest.approx(contrast, rel=1e-10)
    assert concentration_loss(features, MASKS, 4).item() == pytest.approx(concentration, rel=1e-10)
    check_gradient(lambda f: (contrast_loss(f, MASKS), concentration_loss(f, MASKS, 4)), features)


def test_cross_view_loss_is_equation_5():
    first, second, similarity = random(6, seed=1), random(7, seed=2), 0.5
    kernel = [literal_kernel(first, r, second, s) for r in range(6) for s in range(7)]
    pairs = [k for k in kernel if k > similarity]
    assert 0 < len(pairs) < len(kernel)
    expected = -sum(math.log(k) for k in pairs) / len(pairs)
    assert cross_view_loss(first, second, similarity).item() == pytest.approx(expected, rel=1e-10)
    check_gradient(lambda a, b: cross_view_loss(a, b, similarity), first, second)
    assert cross_view_loss(first, second, 1.0).item() == 0  # nothing is that similar
    assert cross_view_loss(first, second, 0.0).item() > 0  # everything is


def test_variance_loss_is_l_reg():
    features = random(6)
    expected = sum(math.log(math.prod(features.variance[u].tolist())) for u in range(6)) / 6
    assert variance_loss(features).item() == pytest.approx(expected, rel=1e-12)
    check_gradient(variance_loss, features)


def literal_suppression(candidates: Normals, scores: list[float], threshold: float) -> list[int]:
    left, prototypes = list(range(len(scores))), []
    while left:
        m = max(left, key=lambda k: scores[k])
        prototypes.append(m)
        left = [i for i in left if i != m and literal_kernel(candidates, m, candidates, i) < threshold]
    return prototypes


def test_suppression_is_algorithm_1():
    candidates, threshold = random(30, dim=2), 0.6
    scores = torch.rand(30, generator=torch.Generator().manual_seed(3))
    prototypes = literal_suppression(candidates, scores.tolist(), threshold)
    assert 1 < len(prototypes) < 30
    assert suppress(candidates, scores, threshold).tolist() == prototypes


def pixels(masks: list[int], times: int = MIN_SAMPLES) -> LiftingView:
    """A view that shows each Gaussian alone at some pixels, with a weight of 0.8."""
    return view_of(0.8 * torch.eye(len(masks)).repeat(times, 1), torch.tensor(masks).repeat(times))


def knowing(own: Normals) -> PcfLift:
    """A method whose Gaussians have these features."""
    method = PcfLift(PcfLiftConfig(embedding_dim=own.mean.shape[1]))
    columns = torch.cat([own.mean, (own.variance - MIN_VARIANCE).log()], dim=1).float()
    method.load_state({"gaussian.pcf_lift.features": columns, "pcf_lift.steps": torch.tensor(0)})
    return method


def known(mean: list[float], variance: list[float]) -> PcfLift:
    """The same of one dimension."""
    return knowing(Normals(torch.tensor(mean)[:, None], torch.tensor(variance)[:, None]))


def test_prototypes_are_the_average_features_of_masks_one_for_each_object():
    method = known([0.0, 0.2, 9.0, 9.0, 5.0], [0.1, 0.3, 0.1, 0.1, 0.1])
    prototypes = method.prototypes([pixels([0, 0, 1, 1, -1]), pixels([1, 1, 0, -1, -1])])
    # the masks of 9 are more concentrated than those of 0 and 0.2, and Gaussian 4 lies in none
    assert prototypes.mean.flatten().tolist() == pytest.approx([9.0, 0.1], abs=1e-6)
    assert prototypes.variance.flatten().tolist() == pytest.approx([0.1, 0.2], abs=1e-6)


def mean_of(own: Normals, some: list[int]) -> Normals:
    return Normals(own.mean[some].mean(0), own.variance[some].mean(0))


def stacked(features: list[Normals]) -> Normals:
    return Normals(torch.stack([f.mean for f in features]), torch.stack([f.variance for f in features]))


def literal_threshold(grouped: list[Normals]) -> float:
    """Similarity halfway to the most similar other mask, averaged over masks, then over views of several."""
    of_views = []
    for groups in grouped:
        half = Normals(groups.mean / 2, groups.variance)
        masks = range(len(groups.mean))
        nearest = [max(literal_kernel(half, i, half, j) for j in masks if j != i) for i in masks if len(masks) > 1]
        of_views += [sum(nearest) / len(nearest)] if nearest else []
    return sum(of_views) / len(of_views)


def test_prototypes_are_those_of_algorithm_1_with_its_threshold():
    """Of views with four masks, three and one, which differ in width."""
    views = [[0, 0, 1, 1, 1, 2, 3, 3, 3, -1], [2, 2, 0, 0, -1, 1, 1, 1, 1, 2], [0, 0, 0, *[-1] * 7]]
    counts = []
    for seed in range(6):
        own = random(10, seed=seed)
        own = Normals(own.mean, 0.02 + 0.3 * own.variance**3)
        members = [[[u for u in range(10) if masks[u] == k] for k in range(max(masks) + 1)] for masks in views]
        grouped = [stacked([mean_of(own, some) for some in of_view]) for of_view in members]
        threshold = literal_threshold(grouped)
        assert tuned_threshold(grouped) == pytest.approx(threshold, rel=1e-9)

        groups = Normals(torch.cat([g.mean for g in grouped]), torch.cat([g.variance for g in grouped]))
        scores = [
            sum(literal_kernel(groups, k, own, u) for u in some) / len(some) for k, some in enumerate(sum(members, []))
        ]
        expected = groups[literal_suppression(groups, scores, threshold)]
        found = knowing(own).prototypes([pixels(masks) for masks in views])
        torch.testing.assert_close(found.mean, expected.mean.float(), rtol=0, atol=1e-5)
        torch.testing.assert_close(found.variance, expected.variance.float(), rtol=1e-4, atol=0)
        counts.append(len(found.mean))
    assert min(counts) > 1 and len(set(counts)) > 1


def test_a_few_samples_are_no_candidate_however_concentrated():
    method = known([0.0, 3.0, 9.0], [0.1, 0.1, 0.1])
    enough, few = pixels([0, 1, -1]), pixels([-1, -1, 0], MIN_SAMPLES - 1)
    assert sorted(method.prototypes([enough, few]).mean.flatten().tolist()) == pytest.approx([0.0, 3.0])
    assert len(method.prototypes([few]).mean) == 0
    assert method.decode([few], [], NO_NEIGHBOURS).labels.tolist() == [-1] * 3


@pytest.mark.parametrize(("aside", "count"), [(-1.5, 2), (-2.5, 3)])
def test_what_is_as_close_as_half_the_way_to_another_mask_is_no_other_object(aside, count):
    """0 and 4 are two objects, by one view; another view shows something ``aside`` from 0, in its only mask."""
    method = known([0.0, 4.0, aside], [0.2, 0.2, 0.2])
    view = pixels([0, 1, -1])
    assert len(method.prototypes([view, pixels([-1, -1, 0])]).mean) == count


def test_decoding_takes_the_most_similar_prototype_and_is_sure_where_mean_and_variance_are_its_own():
    method = known([0.0, 0.0, 2.0, 1.9, 0.5, 0.5], [0.1, 0.1, 0.1, 0.1, 0.1, 0.4])
    labels, confidence, *_ = method.decode([pixels([0, 0, 1, 1, -1, -1])], [], NO_NEIGHBOURS)
    assert labels.tolist() == [labels[0]] * 2 + [labels[2]] * 2 + [labels[0]] * 2 and labels[0] != labels[2]
    near, far = (math.exp(-((0.5 - mean) ** 2) / 0.2) for mean in (0.0, 1.95))
    assert confidence[4].item() == pytest.approx(near / (near + far) * near, rel=1e-3)
    assert confidence[5].item() == pytest.approx(near / (near + far) * near / 2, rel=1e-3)
    assert confidence[:4].min() > 0.95


# -- uncertainty -------------------------------------------------------------------------------------------------------


def literal_sureness(feature: Normals, prototypes: Normals, label: int) -> float:
    """Of one feature: three factors."""
    (mean,), (variance,) = feature.mean.tolist(), feature.variance.tolist()

    def density(x: list[float], k: int) -> float:
        found = 1.0
        for d, m in enumerate(prototypes.mean[k].tolist()):
            v = prototypes.variance[k, d].item()
            found *= math.exp(-((x[d] - m) ** 2) / 2 / v) / math.sqrt(2 * math.pi * v)
        return found

    densities = [density(mean, k) for k in range(len(prototypes.mean))]
    widths = [min(1, math.sqrt(v / w)) for v, w in zip(prototypes.variance[label].tolist(), variance, strict=True)]
    peak = density(prototypes.mean[label].tolist(), label)
    return densities[label] / sum(densities) * densities[label] / peak * math.prod(widths)


def test_sureness_is_the_product_that_it_says():
    features, prototypes = random(8), random(5, seed=3)
    labels = torch.arange(8) % 5
    expected = [literal_sureness(features[[i]], prototypes, int(labels[i])) for i in range(8)]
    assert sureness(features, prototypes, labels).tolist() == pytest.approx(expected, rel=1e-9)


PROTOTYPES = Normals(
    torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [-1.0, 0.5, 0.0]]),
    torch.tensor([[0.1] * 3, [0.5] * 3, [0.05, 0.2, 0.1]]),
)


@pytest.mark.parametrize("aside", [0.0, 0.2])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_wider_feature_is_never_surer_whatever_label_it_takes(k, aside):
    """Up to a thousand times the variance of its prototype; equation (1) takes the widest for nearest then."""
    factors = torch.logspace(0, 3, 40)
    features = Normals(
        (PROTOTYPES.mean[k] + aside).repeat(40, 1), PROTOTYPES.variance[k] * factors[:, None].repeat(1, 3)
    )
    kernel = log_kernel(features[:, None], PROTOTYPES[None])
    labels = kernel.argmax(1)
    assert labels[0] == k and labels[-1] == 1
    found = sureness(features, PROTOTYPES, labels)
    assert (found.diff() <= 0).all()
    assert found[0] > (0.9 if aside == 0 else 0.3) and found[-1] < 0.01
    assert kernel.softmax(1).amax(1)[-1] > 0.8  # the share of the kernels: all but sure of the widest


def test_wide_features_are_unsure_where_there_is_one_prototype_too():
    method = known([0.0, 0.1, 0.0, 0.0], [0.1, 0.1, 2.0, 9.0])
    labels, confidence, *_ = method.decode([pixels([0, 0, -1, -1])], [], NO_NEIGHBOURS)
    assert labels.tolist() == [0] * 4
    assert confidence[:2].min() > 0.95 and confidence[2] < 0.25 and confidence[3] < 0.12


def on_tiles(world: Tiles, shift: int) -> tuple[PcfLift, list[LiftingView]]:
    """Trained on masks that lie anywhere up to ``shift`` pixels beside their object, along each axis."""
    rng = np.random.default_rng(0)
    views = []
    for camera in world.cameras:
        masks = np.roll(world.masks(camera, rng), rng.integers(-shift, shift + 1, 2), (0, 1))
        views.append(sample_view(patches_of(masks), world.weights(camera), 2048, rng))
    return train_on(world, PcfLift(PcfLiftConfig(pixels=256)), views, 300), views


def test_contradicting_masks_widen_features_and_what_is_wide_or_at_a_border_is_unsure():
    world = tiles(views=6)
    means, objects = world.scene.means, world.objects
    border = ((torch.cdist(means, means) < 0.07) & (objects[:, None] != objects)).any(1)
    width, doubt = [], []
    for shift in (0, 3):
        method, views = on_tiles(world, shift)
        width.append(method.features.value.detach()[:, 3:].mean())
        unsure = 1 - method.decode(views, [], NO_NEIGHBOURS).confidence
        assert unsure[border].median() > 1.3 * unsure[~border].median()
        doubt.append(unsure.mean())
    assert width[1] > width[0] + 0.15  # of the logarithms of the variances
    assert doubt[1] > 1.4 * doubt[0]
    method.features.value.detach()[:, 3:] += 1.0
    assert 1 - method.decode(views, [], NO_NEIGHBOURS).confidence.mean() > 1.1 * doubt[1]


def test_a_step_goes_down_equation_6():
    """Its losses add up to the overall loss of the blended distributions, and the gradient that Adam was given is that
    of their sum.
    """
    config = PcfLiftConfig(cross_view_after=0, variance_weight=0.3, cross_view_weight=0.7, cross_view_similarity=0.4)
    mean = random(9, dim=config.embedding_dim).mean.float()
    start = torch.cat([mean, torch.linspace(-2.0, 0.0, mean.numel()).reshape(mean.shape)], dim=1)
    method = PcfLift(config)
    method.load_state({"gaussian.pcf_lift.features": start, "pcf_lift.steps": torch.tensor(0)})
    views = [
        (blending(9, 9, seed=seed), torch.tensor(masks))
        for seed, masks in ((1, [0, 0, 1, 1, 1, -1, -1, -1, 1]), (3, [-1, -1, -1, -1, 0, 0, 0, 1, 1]))
    ]
    losses = method.step([view_of(*view) for view in views], NO_NEIGHBOURS)

    def shown(own: torch.Tensor, table: torch.Tensor, masks: torch.Tensor) -> Normals:
        share = (table / table.sum(1, keepdim=True))[masks >= 0]
        return Normals(share @ own[:, :3], share @ (MIN_VARIANCE + own[:, 3:].exp()))

    def overall(own: torch.Tensor, first: tuple, second: tuple) -> torch.Tensor:
        seen, other, masks = shown(own, *first), shown(own, *second), first[1][first[1] >= 0]
        contrast, concentration = contrast_loss(seen, masks), concentration_loss(seen, masks, 2)
        return contrast + concentration + 0.7 * cross_view_loss(seen, other, 0.4) + 0.3 * variance_loss(seen)

    found = []
    for first, second in (views, views[::-1]):  # which comes first is drawn
        own = start.double().requires_grad_()
        total = overall(own, first, second)
        found.append((total.item(), torch.autograd.grad(total, own)[0].float()))
    total, gradient = min(found, key=lambda pair: abs(pair[0] - sum(losses.values())))
    assert set(losses) == {"contrast", "concentration", "variance", "cross_view"} and losses["cross_view"] > 0
    assert sum(losses.values()) == pytest.approx(total, rel=1e-5)
    torch.testing.assert_close(method.features.moments[0], 0.1 * gradient, rtol=1e-3, atol=1e-6)  # 1 - beta1 of it


def test_of_many_masks_more_pixels_are_compared():
    method = PcfLift(PcfLiftConfig(pixels=16))
    few, many = pixels([0, 1] * 60, 1), pixels(list(range(12)) * 10, 1)
    for view, compared in ((few, 16), (many, 8 * 12)):
        batch = view.batch(slice(0, 120), Batch.masked)
        assert len(method._some(batch).unique()) == compared


def test_two_views_are_compared_late():
    world = tiles(views=2)
    rng = np.random.default_rng(0)
    views = [sample_view(patches_of(world.masks(c, rng)), world.weights(c), 512, rng) for c in world.cameras]
    method = PcfLift(PcfLiftConfig(cross_view_after=2, pixels=64))
    method.edit(torch.full((len(world.scene),), -1), world.scene.means)
    assert ["cross_view" in method.step(views, NO_NEIGHBOURS) for _ in range(4)] == [False, False, True, True]
    again = PcfLift(method.config)
    again.load_state(method.state())
    assert "cross_view" in again.step(views, NO_NEIGHBOURS)  # a loaded map does not start over
    assert "cross_view" not in method.step(views[:1], NO_NEIGHBOURS)  # there is no second view
