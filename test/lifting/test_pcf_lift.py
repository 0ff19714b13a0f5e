"""PCF-Lift: kernel, losses and algorithm 1 against their equations, and the uncertainty that contradictions leave."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lifting.tiles import NO_NEIGHBOURS, Tiles, patches_of, tiles, train_on
from lifting.views import blending, one_gaussian_a_pixel, uniform, view_of
from torch.autograd import gradcheck

from lift_ros.lifting.base import Batch, LiftingView
from lift_ros.lifting.config import PcfLiftConfig
from lift_ros.lifting.pcf_lift import (
    MIN_VARIANCE,
    Normals,
    PcfLift,
    concentration_loss,
    contrast_loss,
    cross_view_loss,
    log_kernel,
    suppress,
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


def test_suppression_is_algorithm_1():
    candidates, threshold = random(30, dim=2), 0.6
    scores = torch.rand(30, generator=torch.Generator().manual_seed(3))
    left, prototypes = list(range(30)), []
    while left:
        m = max(left, key=lambda k: scores[k].item())
        prototypes.append(m)
        left = [i for i in left if i != m and literal_kernel(candidates, m, candidates, i) < threshold]
    assert 1 < len(prototypes) < 30
    assert suppress(candidates, scores, threshold).tolist() == prototypes


def pixels(masks: list[int]) -> LiftingView:
    """A view that shows one Gaussian at each pixel, with a weight of 0.8."""
    return one_gaussian_a_pixel(torch.tensor(masks), 0.8)


def narrow(mean: float) -> Normals:
    return Normals(torch.tensor([[mean]]), torch.tensor([[0.1]]))


def known(mean: list[float], variance: list[float]) -> PcfLift:
    """A method whose Gaussians have these features of one dimension."""
    method = PcfLift(PcfLiftConfig(embedding_dim=1))
    columns = torch.stack([torch.tensor(mean), (torch.tensor(variance) - MIN_VARIANCE).log()], dim=1)
    method.load_state({"gaussian.pcf_lift.features": columns, "pcf_lift.steps": torch.tensor(0)})
    return method


def test_prototypes_are_the_average_features_of_masks_one_for_each_object():
    method = known([0.0, 0.2, 9.0, 9.0, 5.0], [0.1, 0.3, 0.1, 0.1, 0.1])
    prototypes = method.prototypes([pixels([0, 0, 1, 1, -1]), pixels([1, 1, 0, -1, -1])])
    # the masks of 9 are more concentrated than those of 0 and 0.2, and Gaussian 4 lies in none
    assert prototypes.mean.flatten().tolist() == pytest.approx([9.0, 0.1], abs=1e-6)
    assert prototypes.variance.flatten().tolist() == pytest.approx([0.1, 0.2], abs=1e-6)


@pytest.mark.parametrize(("aside", "count"), [(-1.5, 2), (-2.5, 3)])
def test_what_is_as_close_as_half_the_way_to_another_mask_is_no_other_object(aside, count):
    """0 and 4 are two objects, by one view; another view shows something ``aside`` from 0, in its only mask."""
    method = known([0.0, 4.0, aside], [0.2, 0.2, 0.2])
    view = pixels([0, 1, -1])
    assert len(method.prototypes([view, pixels([-1, -1, 0])]).mean) == count


def test_decoding_takes_the_most_similar_prototype_and_wide_features_are_unsure():
    method = known([0.0, 0.0, 2.0, 1.9, 0.5, 0.5], [0.1, 0.1, 0.1, 0.1, 0.1, 2.0])
    labels, confidence, *_ = method.decode([pixels([0, 0, 1, 1, -1, -1])], [], NO_NEIGHBOURS)
    assert labels.tolist() == [labels[0]] * 2 + [labels[2]] * 2 + [labels[0]] * 2 and labels[0] != labels[2]
    near, far = (
        literal_kernel(*pair) for pair in ((narrow(0.5), 0, narrow(0.0), 0), (narrow(0.5), 0, narrow(1.95), 0))
    )
    assert confidence[4].item() == pytest.approx(near / (near + far), rel=1e-3)
    assert confidence[:4].min() > 0.95 and confidence[5] < 0.6


def test_where_there_is_one_prototype_all_are_sure_of_it_however_wide():
    method = known([0.0, 0.1, 0.5, 3.0], [0.1, 0.1, 2.0, 9.0])
    labels, confidence, *_ = method.decode([pixels([0, 0, -1, -1])], [], NO_NEIGHBOURS)
    assert labels.tolist() == [0] * 4 and confidence.tolist() == [1.0] * 4


def on_tiles(world: Tiles, shift: int) -> tuple[PcfLift, list[LiftingView]]:
    """Trained on masks that lie anywhere up to ``shift`` pixels beside their object, along each axis."""
    rng = np.random.default_rng(0)
    views = []
    for camera in world.cameras:
        masks = np.roll(world.masks(camera, rng), rng.integers(-shift, shift + 1, 2), (0, 1))
        views.append(sample_view(patches_of(masks), world.weights(camera), 2048, rng))
    return train_on(world, PcfLift(PcfLiftConfig(pixels=256)), views, 300), views


def test_contradicting_masks_widen_features_and_what_is_wide_is_unsure():
    world = tiles(views=6)
    width, doubt = [], []
    for shift in (0, 3):
        method, views = on_tiles(world, shift)
        width.append(method.features.value.detach()[:, 3:].mean())
        doubt.append(1 - method.decode(views, [], NO_NEIGHBOURS).confidence.mean())
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
    few, many = pixels([0, 1] * 60), pixels(list(range(12)) * 10)
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
