"""The C++ of a step does what the torch operations beside the equations do, gradients included."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from lifting.views import normal, sparse

from lift_ros.lifting import steps
from lift_ros.lifting.contrastive import Clusters, Groups, contrastive_loss
from lift_ros.lifting.omniseg3d import count_votes, depths, hierarchical_loss
from lift_ros.lifting.pcf_lift import Normals, concentration_loss, contrast_loss, cross_view_loss
from lift_ros.lifting.training import BlendedRows, TrainedGaussians, TrainedPixels, rows, smoothness
from lift_ros.render import BlendWeights

SIZES = [(9, 1, 1), (40, 5, 3), (70, 16, 13), (130, 37, 40)]  # pixels, dimensions, clusters


random = partial(normal, dtype=torch.float32)


def assert_same(function: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> None:
    """``function`` of single precision, by C++, and of double precision, by torch: value and gradients."""
    found = []
    for kind in (torch.float32, torch.float64):
        inputs = [tensor.to(kind).requires_grad_() for tensor in tensors]
        assert steps.fits(inputs[0]) == (kind == torch.float32)
        value = 3 * function(*inputs)
        gradients = torch.autograd.grad(value, inputs, allow_unused=True)
        found.append([value.double(), *(torch.zeros(()) if g is None else g.double() for g in gradients)])
    for one, other in zip(*found, strict=True):
        scale = other.abs().max().item()
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * scale + 1e-6)


def clustered(pixels: int, dim: int, count: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Features in clusters, of which the last but one has no pixel."""
    index = torch.arange(pixels) * 7 % count
    index[index == count - 2] = count - 1
    means = random(count, dim, seed=1)
    means /= means.norm(dim=1, keepdim=True)
    return means[index] + spread * random(pixels, dim, seed=2) / math.sqrt(dim), index


@pytest.mark.parametrize("spread", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("size", SIZES)
def test_contrastive_losses(size, spread):
    features, index = clustered(*size, spread)

    def contrastive(features: torch.Tensor) -> torch.Tensor:
        return contrastive_loss(features, Clusters.of(features, Groups.of(index, size[2], features.dtype)))

    assert_same(contrastive, features)


def test_clusters():
    features, index = clustered(70, 16, 13, 0.2)
    one, other = (Clusters.of(f, Groups.of(index, 13, f.dtype)) for f in (features, features.double()))
    torch.testing.assert_close(one.means.double(), other.means, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.temperatures.double(), other.temperatures, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spread", [0.02, 0.2, 1.0])  # most temperatures at the lower bound, free, at the upper
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", SIZES)
def test_the_hierarchical_loss(size, decay, spread):
    features, index = clustered(*size, spread)
    _, index = index.unique(return_inverse=True)
    count = int(index.max()) + 1
    temperatures = Clusters.of(features, Groups.of(index, count)).temperatures
    assert spread != 0.2 or ((temperatures > 0.1) & (temperatures < 1)).all()
    inside = torch.rand(count, 6, generator=torch.Generator().manual_seed(3)) < 0.4
    inside[:, 0] = True
    depth = depths(count_votes(inside))
    assert int(depth.max()) > 1 or size[2] == 1

    def hierarchical(features: torch.Tensor) -> torch.Tensor:
        clusters = Clusters.of(features, Groups.of(index, count, features.dtype))
        return hierarchical_loss(features, clusters, depth, decay)

    assert_same(hierarchical, features)


@pytest.mark.parametrize("count", [9, 17, 40])
def test_a_feature_that_is_no_number_shows_in_the_gradient_and_harms_nothing(count):
    features = random(3 * count, 5)
    features[4] = math.nan
    index = torch.arange(3 * count) % count
    depth = torch.randint(1, 4, (count, count), generator=torch.Generator().manual_seed(6))
    for loss in (
        lambda f, clusters: contrastive_loss(f, clusters),
        lambda f, clusters: hierarchical_loss(f, clusters, depth, 0.5),
    ):
        given = features.clone().requires_grad_()
        value = loss(given, Clusters.of(given, Groups.of(index, count, given.dtype)))
        assert not torch.autograd.grad(value, given)[0].sum().isfinite()


def test_pixels_of_other_gaussians_than_the_scene_has_are_refused():
    whole = TrainedGaussians(4, 0.1)
    whole.load(random(9, 4), "")
    for gaussians, shown in ((torch.arange(1, 11), 10), (torch.arange(8), 7)):
        with pytest.raises(ValueError, match="of a scene of 9"):
            whole.seen(gaussians, weights(5, shown))
    with pytest.raises(IndexError, match="Gaussian 9 is none of the 9"):
        steps.joined(torch.arange(3), torch.tensor([[4, 9]]), 9)


def test_a_state_that_lies_across_memory_is_trained_all_the_same():
    whole = TrainedGaussians(4, 0.1)
    whole.load(random(4, 10).T, "")
    blend = weights(6, 10)
    seen, before = whole.seen(torch.arange(10), blend), random(4, 10).T.contiguous()
    torch.testing.assert_close(seen.value, blend.matmul(before))
    seen.move(torch.ones(6, 4), 1.0)
    assert ((whole.value != before).all(1) == (blend.transpose().crow.diff() > 0)).all()


def weights(pixels: int, gaussians: int) -> BlendWeights:
    """Of which some pixels show nothing, and some Gaussians are not shown."""
    generator = torch.Generator().manual_seed(4)
    table = torch.rand(pixels, gaussians, generator=generator)
    table = torch.where(table > 0.8, table, 0.0)
    table[2], table[:, 3] = 0.0, 0.0
    return sparse(table)


@pytest.mark.parametrize("dim", [1, 6, 12, 16, 37, 128])
def test_pixels_are_trained_as_their_gaussians_are(dim):
    gaussians = torch.randperm(90, generator=torch.Generator().manual_seed(5))[:60].sort().values
    blend, trained = weights(50, 60), []
    for _ in range(2):
        whole = TrainedGaussians(dim, 0.1, 0.99)
        whole.load(random(90, dim), "")
        trained.append(whole)
    for step in range(3):
        pixels, rows = TrainedPixels(trained[0], gaussians, blend), BlendedRows(trained[1], gaussians, blend)
        torch.testing.assert_close(pixels.value, rows.value, rtol=1e-5, atol=1e-5)
        for each in (pixels, rows):
            each.move(random(50, dim, seed=step), 0.7)
    assert trained[0].steps == trained[1].steps == 3
    states = ((whole.value, *whole.moments) for whole in trained)
    for found, expected in zip(*states, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_nothing_depends_on_the_number_of_threads():
    gaussians, blend = torch.arange(400), weights(3000, 400)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            state, gradient = (random(400, 128), torch.zeros(400, 128), torch.zeros(400, 128)), random(3000, 128)
            seen = steps.blend(blend, gaussians, state[0])
            steps.move(blend, gaussians, state, gradient, 1, 0.1, 0.999)
            found.append((seen, *state))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("dim", [1, 12, 26])
def test_rows_and_their_smoothness(dim):
    features = random(20, dim)
    touching = torch.stack([torch.arange(20), (torch.arange(20) + 1) % 20, (torch.arange(20) * 7 + 3) % 20], dim=1)
    near = touching[:, 1:] != touching[:, :1]
    near[4:8, 0] = False
    assert_same(lambda f: (rows(f, touching).sin() * torch.arange(3, dtype=f.dtype)[:, None]).sum(), features)
    assert_same(lambda f: smoothness(f, touching, near), features)


def distributions(count: int, dim: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and variances, these over three orders of magnitude."""
    return 0.3 * random(count, dim, seed=seed), 0.1 * random(count, dim, seed=seed + 1).exp()


@pytest.mark.parametrize(("pixels", "dim", "count"), [(9, 1, 1), (40, 3, 4), (70, 5, 13), (129, 32, 40)])
def test_losses_of_distributions(pixels, dim, count):
    masks = torch.arange(pixels) * 7 % count
    masks[masks == count - 2] = count - 1  # the last but one has no pixel
    first, second = distributions(pixels, dim, 1), distributions(pixels // 2, dim, 3)
    assert_same(lambda m, v: contrast_loss(Normals(m, v), masks), *first)
    assert_same(lambda m, v: concentration_loss(Normals(m, v), masks, count), *first)
    nobody = torch.zeros(0, dim)
    assert cross_view_loss(Normals(*first), Normals(nobody, nobody + 1), 0.4) == 0
    for similarity in (0.0, 0.1, 0.4, 1.0):
        assert_same(lambda a, b, c, d: cross_view_loss(Normals(a, b), Normals(c, d), similarity), *first, *second)  # noqa: B023  called at once


def test_distributions_that_hardly_overlap():
    """In many dimensions, of variances four orders of magnitude apart: kernels below the least float."""
    mean, variance = distributions(20, 32, 5)
    variance = torch.where(torch.arange(20)[:, None] % 2 == 0, torch.tensor(0.01), torch.tensor(1e2)).expand(20, 32)
    masks = torch.arange(20) % 3
    assert_same(lambda m, v: contrast_loss(Normals(m, v), masks), mean, variance.contiguous())
    assert_same(lambda m, v: concentration_loss(Normals(m, v), masks, 3), mean, variance.contiguous())
    assert_same(lambda m: contrast_loss(Normals(m, torch.full((20, 32), 0.01, dtype=m.dtype)), masks), 30 * mean)


def test_distributions_of_which_one_is_no_number():
    first, second = distributions(9, 5, 1), distributions(20, 5, 3)
    second[0][12] = math.nan
    given = [tensor.requires_grad_() for tensor in (*first, *second)]
    value = cross_view_loss(Normals(*given[:2]), Normals(*given[2:]), 0.4)
    assert value.isnan() and not any(g.sum().isfinite() for g in torch.autograd.grad(value, given))
    value = contrast_loss(Normals(*given[2:]), torch.arange(20) % 3)
    assert value.isnan() and not any(g.sum().isfinite() for g in torch.autograd.grad(value, given[2:]))
