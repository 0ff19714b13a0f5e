"""A sampled view follows edits of the scene: what it shows stays where it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lifting.tiles import Tiles, patches_of, tiles

from lift_ros.lifting.base import Batch, LiftingView, draw
from lift_ros.lifting.sampling import BATCH_PIXELS, sample_view


@pytest.fixture(scope="module")
def world() -> Tiles:
    return tiles(views=1)


@pytest.fixture
def view(world) -> LiftingView:
    rng = np.random.default_rng(0)
    camera = world.cameras[0]
    return sample_view(patches_of(world.masks(camera, rng)), world.weights(camera), 500, rng)


@pytest.fixture(scope="module")
def features(world) -> torch.Tensor:
    return torch.randn(len(world.scene), 3, generator=torch.Generator().manual_seed(0))


def test_appended_gaussians_are_not_seen_yet(view, features):
    n = len(features)
    origin = torch.cat([torch.arange(n), torch.full((7,), -1)])
    followed = view.follow(origin)
    assert followed.weights.shape == (len(view.masks), n + 7)
    more = torch.cat([features, torch.full((7, 3), 1e6)])
    assert torch.equal(followed.weights.matmul(more), view.weights.matmul(features))
    assert torch.equal(followed.masks, view.masks) and torch.equal(followed.pairs, view.pairs)


def test_pruned_gaussians_are_gone(view, features):
    keep = torch.arange(len(features)) % 3 != 0
    followed = view.follow(keep.nonzero().squeeze(1))
    expected = view.weights.matmul(features * keep[:, None])
    assert torch.allclose(followed.weights.matmul(features[keep]), expected, atol=1e-6)


@pytest.mark.parametrize("which", ["some", "last"])
def test_halves_of_a_split_share_its_weight(world, view, features, which):
    n = len(features)
    split = torch.arange(n) % 4 == 0 if which == "some" else torch.arange(n) >= n - 40
    origin = world.scene.clone().split(split)
    followed = view.follow(origin)
    assert torch.allclose(followed.weights.matmul(features[origin]), view.weights.matmul(features), atol=1e-6)
    contribution, before = (weights.transpose().alpha() for weights in (followed.weights, view.weights))
    assert torch.allclose(contribution, before[origin] / torch.bincount(origin)[origin], atol=1e-5)


def test_many_edits_one_after_another(view, features):
    n = len(features)
    keep = torch.randperm(n, generator=torch.Generator().manual_seed(1))[: n // 2]
    origin = torch.cat([torch.tensor([-1]), keep, keep[:5]])
    followed = view.follow(origin).follow(torch.arange(1, len(origin)))
    present = torch.zeros(n, 1)
    present[keep] = 1
    expected = view.weights.matmul(features * present)
    assert torch.allclose(followed.weights.matmul(features[origin[1:]]), expected, atol=1e-6)


def test_nothing_left(view):
    followed = view.follow(torch.zeros(0, dtype=torch.int64))
    assert followed.weights.shape == (len(view.masks), 0) and len(followed.weights.val) == 0


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def batched(world) -> LiftingView:
    """A view of four batches."""
    rng = np.random.default_rng(0)
    camera = world.cameras[0]
    return sample_view(patches_of(world.masks(camera, rng)), world.weights(camera), 2048, rng)


def everything(batch: Batch) -> Batch:
    return batch


def rows_of(view: LiftingView, number: int) -> slice:
    return slice(view.ends[number - 1] if number else 0, view.ends[number])


def test_batches_are_all_pixels_of_the_view(batched, features):
    assert len(batched.batches()) == len(batched.ends) == 4
    batches = [batched.batch(batched.batches()[k], everything) for k in range(4)]
    assert torch.equal(torch.cat([batch.masks for batch in batches]), batched.masks)
    assert torch.equal(torch.cat([batch.inside for batch in batches]), batched.inside)
    shown = torch.cat([batch.weights.matmul(features[batch.gaussians]) for batch in batches])
    assert torch.equal(shown, batched.weights.matmul(features))
    starts = [0, *batched.ends[:-1]]
    pairs = torch.cat([batch.pairs + start for batch, start in zip(batches, starts, strict=True)])
    assert len(pairs) > 100 and torch.equal(pairs, batched.pairs)


def test_a_batch_knows_the_gaussians_that_it_shows_and_no_others(batched):
    batch = batched.batch(batched.batches()[1], everything)
    assert torch.equal(batch.gaussians, batched.weights.between(batched.ends[0], batched.ends[1]).col.unique())
    assert 0 < len(batch.gaussians) < batched.weights.gaussian_count


@pytest.mark.parametrize("masked", [False, True])
def test_loss_and_gradient_of_a_batch_are_those_of_the_same_pixels_of_the_view(batched, features, masked):
    batched.masks[::3] = -1
    batched.pairs = batched.pairs[(batched.masks[batched.pairs] >= 0).all(1)]
    batch = batched.batch(batched.batches()[2], Batch.masked if masked else everything)
    rows = torch.arange(len(batched.masks))[rows_of(batched, 2)]
    if masked:
        rows = rows[batched.masks[rows] >= 0]

    def loss_of(shown: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return ((shown - 0.3 * masks[:, None]).sin().square()).mean()

    whole, own = features.clone().requires_grad_(), features[batch.gaussians].clone().requires_grad_()
    expected = loss_of(batched.weights.matmul(whole)[rows], batched.masks[rows])
    found = loss_of(batch.weights.matmul(own), batch.masks)
    assert found.item() == expected.item()
    (gradient,) = torch.autograd.grad(expected, whole)
    torch.testing.assert_close(torch.autograd.grad(found, own)[0], gradient[batch.gaussians])
    gradient[batch.gaussians] = 0
    assert not gradient.any()
    inside = (batched.pairs >= rows[0]).all(1) & (batched.pairs <= rows[-1]).all(1)
    assert inside.any() and torch.equal(rows[batch.pairs], batched.pairs[inside])


def test_what_was_prepared_is_kept_until_the_gaussians_change(batched, features):
    calls = []

    def prepare(batch: Batch) -> Batch:
        calls.append(batch)
        return batch

    first = batched.batch(batched.batches()[0], prepare)
    n = len(features)
    appended = batched.follow(torch.cat([torch.arange(n), torch.tensor([-1])]))
    assert (
        batched.batch(batched.batches()[0], prepare) is first
        and appended.batch(appended.batches()[0], prepare) is first
        and len(calls) == 1
    )
    pruned = batched.follow(torch.arange(1, n))
    assert pruned.batch(pruned.batches()[0], prepare) is not first and len(calls) == 2


def test_batches_follow_edits(world, batched, features):
    origin = world.scene.clone().split(torch.arange(len(features)) % 4 == 0)
    before = [batched.batch(batched.batches()[k], everything) for k in range(len(batched.batches()))]
    followed = batched.follow(origin)
    for k, old in enumerate(before):
        batch = followed.batch(followed.batches()[k], everything)
        shown = batch.weights.matmul(features[origin][batch.gaussians])
        assert torch.allclose(shown, old.weights.matmul(features[old.gaussians]), atol=1e-6)
        assert torch.equal(batch.masks, old.masks) and torch.equal(batch.pairs, old.pairs)


def test_a_view_of_no_batches_is_one(view):
    batch = replace(view, ends=None).batch(replace(view, ends=None).batches()[0], everything)
    assert torch.equal(batch.masks, view.masks) and torch.equal(batch.pairs, view.pairs)


def test_steps_draw_all_batches_of_all_views(batched):
    other = replace(batched, ends=(batched.ends[-1],))
    generator = torch.Generator().manual_seed(0)
    seen = {id(draw([batched, other], everything, generator)) for _ in range(100)}
    assert seen == {id(batched.batch(batched.batches()[k], everything)) for k in range(4)} | {
        id(other.batch(other.batches()[0], everything))
    }


def test_several_batches_at_once_are_the_rows_of_each(batched):
    one, two = batched.batches(), batched.batches(2 * BATCH_PIXELS)
    assert [rows.stop for rows in one] == list(batched.ends) and one[0].start == 0
    assert two == [slice(0, one[1].stop), slice(one[1].stop, one[3].stop)]
    assert batched.batches(4 * BATCH_PIXELS) == batched.batches(10**6) == [slice(0, len(batched.masks))]
    assert batched.batches(1) == one  # there are no smaller ones
    assert torch.equal(batched.batch(two[1], everything).masks, batched.masks[two[1]])
