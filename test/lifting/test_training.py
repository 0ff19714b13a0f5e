"""State of some Gaussians: Adam moves their rows as it would move all, and no others."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from lifting.views import normal

from lift_ros.adam import adam_rows, adam_step
from lift_ros.lifting.training import Touching, Trained, TrainedGaussians, descend, joined
from lift_ros.scene.neighbours import Neighbours

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


random = partial(normal, dtype=torch.float32)


def state(count: int, dim: int, device: str) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Value and moments after some steps."""
    moments = random(count, dim, seed=1), random(count, dim, seed=2).square()
    return random(count, dim).to(device), (moments[0].to(device), moments[1].to(device))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("before", [0, 7])
@pytest.mark.parametrize("dim", [1, 12, 16, 37])
def test_adam_on_rows_is_adam_on_those_rows(device, before, dim):
    value, moments = state(50, dim, device)
    rows = torch.randperm(50, generator=torch.Generator().manual_seed(3))[:20].to(device)
    gradient = random(20, dim, seed=4).to(device)
    expected, dense = value[rows], tuple(moment[rows] for moment in moments)
    steps, dense_steps = (torch.tensor(float(before), device=device) for _ in range(2))
    untouched = torch.ones(50, dtype=torch.bool, device=device).index_fill(0, rows, False)
    still = [tensor[untouched] for tensor in (value, *moments)]
    adam_rows((value, *moments), rows, gradient, steps, 0.1, 0.99)
    adam_step(expected, gradient, dense, dense_steps, 0.1, 0.99)
    assert steps == dense_steps == before + 1
    for found, wanted in zip((value, *moments), (expected, *dense), strict=True):
        torch.testing.assert_close(found[rows], wanted, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(a, b[untouched]) for a, b in zip(still, (value, *moments), strict=True))


def test_adam_on_rows_does_not_depend_on_threads():
    rows, gradient = torch.randperm(20_000)[:9000], random(9000, 16)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            value, moments = state(20_000, 16, "cpu")
            adam_rows((value, *moments), rows, gradient, torch.tensor(4.0), 0.1, 0.999)
            found.append((value, *moments))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def gaussians(count: int) -> TrainedGaussians:
    trained = TrainedGaussians(3, 0.1)
    trained.edit(torch.full((count,), -1), random(count, 3), lambda means: means.clone())
    return trained


def test_a_first_step_on_some_gaussians_is_that_on_all_for_them():
    some = torch.tensor([1, 4, 5, 8])
    one, other = gaussians(10), gaussians(10)
    target, before = random(4, 3, seed=5), one.value.detach().clone()
    part = one.of(some)
    value = part.value
    descend({"loss": (value - target).square().sum()}, part)
    descend({"loss": (other.value[some] - target).square().sum()}, other)
    torch.testing.assert_close(one.value, other.value)  # the others have no gradient, and no moments yet
    rest = torch.tensor([0, 2, 3, 6, 7, 9])
    assert torch.equal(one.value[rest], before[rest]) and not torch.equal(one.value, before)
    assert one.steps == other.steps == 1 and one.value.requires_grad


def test_steps_are_as_long_as_the_rate_has_them():
    trained, layer = gaussians(4), Trained(torch.ones(3), 0.2)
    before, part = trained.value.detach().clone(), trained.of(torch.tensor([1, 2]))
    descend({"loss": part.value.sum() + layer.value.sum()}, part, layer, rate=0.25)
    torch.testing.assert_close(before[1:3] - trained.value[1:3], torch.full((2, 3), 0.25 * 0.1))  # Adam's first step
    torch.testing.assert_close(layer.value, torch.full((3,), 1 - 0.25 * 0.2))


def test_without_finite_gradients_no_row_moves():
    trained, layer = gaussians(10), Trained(torch.ones(3), 0.1)
    before, part = trained.value.detach().clone(), trained.of(torch.tensor([2, 3]))
    values = descend({"loss": (part.value * layer.value).sum() * torch.tensor(float("nan"))}, part, layer)
    assert torch.equal(trained.value, before) and torch.equal(layer.value, torch.ones(3))
    assert trained.steps == layer.steps == 0 and values["loss"] != values["loss"]


def test_joined_gaussians_are_all_there_once():
    own = torch.tensor([3, 5, 9])
    others = torch.tensor([[5, 7], [2, 7], [3, 3], [2, 0]])
    everyone, rows = joined(own, others, 12)
    assert torch.equal(everyone[:3], own) and torch.equal(everyone[rows], others)
    assert sorted(everyone.tolist()) == [0, 2, 3, 5, 7, 9]


def test_joined_with_none():
    own, none = torch.tensor([3, 5]), torch.zeros(0, dtype=torch.int64)
    assert [t.tolist() for t in joined(own, none, 6)] == [[3, 5], []]
    assert [t.tolist() for t in joined(none, own, 6)] == [[3, 5], [0, 1]]


def test_smoothness_is_looked_at_anywhere_in_the_scene():
    neighbours = Neighbours.of(torch.arange(40)[:, None] * torch.tensor([[1.0, 0, 0]]), k=2)
    own, generator, drawn = torch.tensor([3, 5]), torch.Generator().manual_seed(0), set()
    for _ in range(50):
        touching = Touching.draw(own, neighbours, 8, generator)
        found = touching.gaussians[touching.rows]
        assert torch.equal(touching.gaussians[:2], own) and len(touching.gaussians.unique()) == len(touching.gaussians)
        assert torch.equal(found[:, 1:], neighbours.index[found[:, 0]])
        assert torch.equal(touching.near, neighbours.near[found[:, 0]])
        drawn |= set(found[:, 0].tolist())
    assert drawn == set(range(40))
    assert Touching.draw(own, neighbours, 100, generator).rows.shape == (40, 3)
