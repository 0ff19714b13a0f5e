from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from lift_ros.scene.gaussians import GaussianScene, Seeds, follow, rotation_matrices
from lift_ros.scene.harmonics import basis


def some_seeds(n: int, seed: int = 0) -> Seeds:
    g = torch.Generator().manual_seed(seed)
    return Seeds(
        torch.randn(n, 3, generator=g),
        torch.randn(n, 4, generator=g),
        torch.rand(n, 3, generator=g) + 0.1,
        torch.rand(n, generator=g) * 0.8 + 0.1,
        torch.rand(n, 3, generator=g),
    )


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_seeds_keep_their_values(degree):
    scene, seeds = GaussianScene.empty(degree), some_seeds(5)
    assert scene.append(seeds).tolist() == [-1] * 5
    assert scene.sh_degree == degree
    assert torch.allclose(scene.scales, seeds.scales)
    assert torch.allclose(scene.opacities, seeds.opacities)
    assert torch.allclose(scene.colors(torch.zeros(3)), seeds.colors, atol=1e-6)


@pytest.mark.parametrize(
    "origin", [[], [-1], [0], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, -1, -1], [1, 1, 2], [0, 2, -1, 3, 0], [-1, 0, 1, 2]]
)
@pytest.mark.parametrize("shape", [(4,), (4, 3), (0, 2)])
def test_state_follows_any_origin(shape, origin):
    state = torch.arange(math.prod(shape)).reshape(shape)
    origin = [i for i in origin if i < len(state)]
    rows = [state[i].tolist() if i >= 0 else torch.full(shape[1:], -7).tolist() for i in origin]
    assert follow(state, torch.tensor(origin, dtype=torch.int64), fill=-7).tolist() == rows


def test_origin_follows_every_edit():
    scene = GaussianScene.empty()
    scene.append(some_seeds(6))
    tag = torch.arange(6)  # state kept elsewhere

    tag = follow(tag, scene.append(some_seeds(2, seed=1)), fill=-7)
    assert tag.tolist() == [0, 1, 2, 3, 4, 5, -7, -7]

    keep = torch.tensor([1, 0, 1, 1, 0, 1, 1, 1], dtype=torch.bool)
    tag = follow(tag, scene.prune(keep))
    assert tag.tolist() == [0, 2, 3, 5, -7, -7]

    before = scene.clone()
    split = torch.tensor([0, 1, 0, 0, 1, 0], dtype=torch.bool)
    origin = scene.split(split)
    assert follow(tag, origin).tolist() == [0, 3, 5, -7, 2, -7, 2, -7]
    unchanged = slice(0, 4)
    for name, tensor in scene.tensors().items():
        assert torch.equal(tensor[unchanged], before.tensors()[name][origin[unchanged]]), name


def test_a_split_keeps_mean_and_covariance():
    scene = GaussianScene.empty()
    scene.append(some_seeds(4))

    def covariance(s: GaussianScene) -> torch.Tensor:
        m = rotation_matrices(s.quats) * s.scales[:, None, :]
        return m @ m.transpose(1, 2)

    mean, expected = scene.means.clone(), covariance(scene)
    scene.split(torch.ones(4, dtype=torch.bool))
    a, b = scene.means[:4], scene.means[4:]
    assert torch.allclose((a + b) / 2, mean, atol=1e-6)
    d = (a - b) / 2
    mixture = (covariance(scene)[:4] + covariance(scene)[4:]) / 2 + d[:, :, None] * d[:, None, :]
    assert torch.allclose(mixture, expected, atol=1e-5)


def test_a_clone_shares_no_memory():
    scene = GaussianScene.empty()
    scene.append(some_seeds(3))
    copy = scene.clone()
    scene.means += 1
    assert not torch.equal(copy.means, scene.means)
    assert torch.equal(GaussianScene(**scene.tensors()).sh, scene.sh)


def test_harmonics_are_those_of_scipy():
    rng = np.random.default_rng(0)
    d = rng.normal(size=(20, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    polar, azimuth = np.arccos(d[:, 2]), np.arctan2(d[:, 1], d[:, 0])
    ours = basis(torch.from_numpy(d), 3).numpy()
    for degree in range(4):
        for order in range(-degree, degree + 1):
            y = sph_harm_y(degree, abs(order), polar, azimuth)
            real = y.real if order == 0 else math.sqrt(2) * (y.real if order > 0 else y.imag)
            # scipy's functions hold the Condon-Shortley phase, as those of 3DGS do
            assert np.allclose(ours[:, degree * (degree + 1) + order], real, atol=1e-6), (degree, order)


def test_colors_depend_on_the_direction_only_from_degree_one():
    scene = GaussianScene.empty(1)
    scene.append(some_seeds(3))
    scene.sh[:, 1:] = 0.3
    assert not torch.allclose(scene.colors(torch.tensor([5.0, 0, 0])), scene.colors(torch.tensor([-5.0, 0, 0])))
