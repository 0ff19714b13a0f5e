"""Clicks on a scene whose features are known: parts along axes, the parts of one whole closer than those of two."""

from __future__ import annotations

import pytest
import torch
from lifting.tiles import COLUMNS, ROWS, Tiles, tiles

from lift_ros.lifting.clicks import grow_region, nearest_gaussian, similarity
from lift_ros.render import BlendWeights
from lift_ros.scene.neighbours import Neighbours

PART, WHOLE = 0.9, 0.3  # thresholds: parts of a whole have similarity 0.5, others 0


@pytest.fixture(scope="module")
def world() -> Tiles:
    return tiles(views=1)


@pytest.fixture(scope="module")
def features(world) -> torch.Tensor:
    whole = torch.nn.functional.one_hot(world.wholes, 4).float()
    part = torch.nn.functional.one_hot(world.objects - 1, 12).float()
    return torch.cat([whole, part], dim=1) / 2**0.5


def click(*gaussians: int) -> BlendWeights:
    """Each click shows one Gaussian of the ``tiles``."""
    col = torch.tensor(gaussians)
    return BlendWeights(torch.arange(len(col) + 1), col, torch.ones(len(col)), COLUMNS * ROWS)


@pytest.mark.parametrize("which", [0, 300, 500])
def test_the_threshold_goes_from_a_part_to_the_whole_to_all(world, features, which):
    assert nearest_gaussian(world.scene.means, world.scene.means[which] + 0.004) == which
    score = similarity(features, click(which))
    assert torch.equal(score > PART, world.objects == world.objects[which])
    assert torch.equal(score > WHOLE, world.wholes == world.wholes[which])
    assert (score > -0.1).all()


def test_a_click_on_a_pixel_gives_the_gaussians_of_the_object_it_shows(world, features):
    weights = world.weights(world.cameras[0])
    labels, share = weights.winning_label(world.objects)
    row = share.argmax()[None]
    assert torch.equal(similarity(features, weights.rows(row)) > PART, world.objects == labels[row])


def test_several_clicks_select_what_is_like_any_of_them(world, features):
    first, second = (int((world.objects == k).nonzero()[0]) for k in (1, 8))
    score = similarity(features, click(first, second))
    assert torch.equal(score > PART, (world.objects == 1) | (world.objects == 8))
    assert score.allclose(torch.maximum(features @ features[first], features @ features[second]))


def test_a_region_grows_within_what_is_selected(world):
    """Objects 1 and 4 lie at opposite ends of a row: whatever hangs together with the seed stays."""
    neighbours = Neighbours.of(world.scene.means)
    selected = (world.objects == 1) | (world.objects == 4)
    first, last = ((world.objects == k).nonzero()[0] for k in (1, 4))
    assert torch.equal(grow_region(selected, first, neighbours), world.objects == 1)
    assert torch.equal(grow_region(selected, torch.cat([first, last]), neighbours), selected)
    elsewhere = (world.objects == 2).nonzero()[0]
    assert not grow_region(selected, elsewhere, neighbours).any()
    assert torch.equal(grow_region(selected, torch.cat([first, elsewhere]), neighbours), world.objects == 1)


def test_nothing_is_more_similar_than_the_same():
    """Whatever way a unit vector is rounded: a threshold of 1 selects nothing."""
    features = torch.nn.functional.normalize(torch.randn(2000, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    each = torch.arange(2000)
    clicked = BlendWeights(torch.arange(2001), each, torch.ones(2000), 2000)
    assert (features @ features.T).diagonal().max() > 1
    assert similarity(features, clicked).max() == 1
