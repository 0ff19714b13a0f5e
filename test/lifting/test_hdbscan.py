"""Contrastive embeddings with HDBSCAN: what is clustered, and what becomes of the rest. The loss: test_contrastive."""

from __future__ import annotations

import pytest
import torch
from lifting.tiles import NO_NEIGHBOURS
from lifting.views import near_axes, one_gaussian_a_pixel
from torch.nn.functional import normalize

from lift_ros.lifting.config import HdbscanConfig
from lift_ros.lifting.contrastive import Clusters, Groups, contrastive_loss, norm_loss
from lift_ros.lifting.hdbscan import Hdbscan

OBJECTS = torch.tensor([0] * 300 + [1] * 60 + [2] * 40)


def embedded(seed: int = 0) -> torch.Tensor:
    """Embeddings (N, 4) of unit length, those of an object around its axis."""
    return normalize(near_axes(OBJECTS, 4, 0.05, seed)).float()


def known(embeddings: torch.Tensor, **options) -> Hdbscan:
    method = Hdbscan(HdbscanConfig(embedding_dim=4, **options))
    method.load_state({"gaussian.hdbscan.embeddings": embeddings})
    return method


def test_clusters_are_objects_even_small_ones():
    # 120 samples, 40 of each mask, though the first is 7 times as large as the last
    method = known(embedded(), samples=120, min_cluster_size=20)
    labels, confidence, *_ = method.decode([one_gaussian_a_pixel(OBJECTS, 0.9)], [], NO_NEIGHBOURS)
    groups = [set(labels[k == OBJECTS].tolist()) for k in range(3)]
    assert all(len(group) == 1 for group in groups) and len(set.union(*groups)) == 3
    assert confidence.min() > 0.95


def test_objects_with_fewer_samples_than_a_cluster_needs_are_lost():
    method = known(embedded(), samples=120, min_cluster_size=50)
    labels = method.decode([one_gaussian_a_pixel(OBJECTS, 0.9)], [], NO_NEIGHBOURS).labels
    assert len(labels.unique()) < 3


def test_gaussians_that_no_pixel_shows_join_the_nearest_cluster_and_are_less_sure():
    between = normalize(torch.tensor([[1.0, 0.8, 0.0, 0.0], [0.0, 0.7, 1.0, 0.0]]))
    embeddings = torch.cat([embedded(), 3 * between])  # length says nothing
    hidden = torch.cat([OBJECTS, torch.tensor([-1, -1])])
    labels, confidence, *_ = known(embeddings, samples=300).decode(
        [one_gaussian_a_pixel(hidden, 0.9)], [], NO_NEIGHBOURS
    )
    assert labels[-2] == labels[0] and labels[-1] == labels[399] != labels[0]
    expected = [between[0, 0].item(), between[1, 2].item()]
    assert confidence[-2:].tolist() == pytest.approx(expected, abs=0.03)


def test_without_enough_pixels_there_are_no_clusters():
    method = known(embedded())
    for views in ([], [one_gaussian_a_pixel(torch.tensor([0] * 10 + [-1] * 390), 0.9)]):
        labels, confidence, *_ = method.decode(views, [], NO_NEIGHBOURS)
        assert set(labels.tolist()) == {-1} and set(confidence.tolist()) == {0.0}


def test_a_step_descends_the_contrastive_and_the_norm_loss_of_masked_pixels():
    embeddings = embedded(1) + 0.3
    masks = torch.where(torch.arange(len(OBJECTS)) % 5 == 0, -1, OBJECTS)
    method = known(embeddings)
    features, index = 0.9 * embeddings[masks >= 0], masks[masks >= 0]
    expected = {
        "contrastive": float(contrastive_loss(features, Clusters.of(features, Groups.of(index, 3)))),
        "norm": float(norm_loss(features)),
    }
    losses = method.step([one_gaussian_a_pixel(masks, 0.9)], NO_NEIGHBOURS)
    assert losses == pytest.approx(expected, rel=1e-5)
    for _ in range(20):
        last = method.step([one_gaussian_a_pixel(masks, 0.9)], NO_NEIGHBOURS)
    assert sum(last.values()) < sum(losses.values())
    unmasked = method.state()["gaussian.hdbscan.embeddings"][masks < 0]
    assert torch.equal(unmasked, embeddings[masks < 0])
