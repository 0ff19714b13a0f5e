"""The parts of the CUDA backend that are plain torch, on the CPU; test_rasterize and test_blend run it where it can."""

from __future__ import annotations

import torch
from render import reference, scenes

from lift_ros.render import cuda


def test_weights_from_pairs() -> None:
    """Pairs as gsplat lists them, composited, are the reference's weights."""
    scene, view = scenes.gaussians(200), scenes.camera(dtype=torch.float64)
    exact = scenes.splats(scene, torch.float64)
    expected, z = reference.weights(exact, view)
    means2d, conics, _ = reference.project(exact, view)
    conics = torch.stack([conics[:, 0, 0], conics[:, 0, 1], conics[:, 1, 1]], -1)

    front_to_back = torch.argsort(z)
    pixel, position = (expected[:, front_to_back] > 0).nonzero(as_tuple=True)
    gaussian = front_to_back[position]
    alpha = cuda.pair_alphas(means2d, conics, exact.opacities, gaussian, pixel, scenes.WIDTH)
    weights = cuda.composite_pairs(gaussian, pixel, alpha, len(expected), 200)
    rows = torch.repeat_interleave(weights.crow.diff())
    dense = torch.zeros_like(expected)
    dense[rows, weights.col] = weights.val.double()
    torch.testing.assert_close(dense, expected, rtol=0, atol=1e-6)


def test_no_pairs() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    weights = cuda.composite_pairs(none, none, torch.zeros(0), 6, 4)
    assert weights.shape == (6, 4)
    assert not weights.crow.any()


def test_hide_non_finite() -> None:
    splats = scenes.splats(scenes.to(scenes.gaussians(5), "cpu"))
    with torch.no_grad():
        splats.means[1, 2] = float("nan")
        splats.scales[2, 0] = float("inf")
    hidden = cuda.hide_non_finite(splats)
    assert all(tensor.isfinite().all() for tensor in hidden)
    assert torch.equal(hidden.opacities == 0, torch.tensor([False, True, True, False, False]))
    sum(tensor.square().sum() for tensor in hidden).backward()
    for tensor in splats:
        assert not tensor.grad[1:3].any()
        assert torch.equal(tensor.grad[3], 2 * tensor[3])
