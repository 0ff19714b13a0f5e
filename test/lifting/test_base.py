"""A sampled view follows edits of the scene: what it shows stays where it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lifting.tiles import Tiles, patches_of, tiles

from lift_ros.lifting.base import LiftingView
from lift_ros.lifting.sampling import sample_view


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
    contribution, before = followed.weights.contribution(), view.weights.contribution()
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
