"""Blend weights and label images on both backends, against the dense reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from render import reference, scenes

from lift_ros.render import BlendWeights, Splats, blend_weights, cpu, label_image, mask_weights, rasterize

on_devices = pytest.mark.parametrize("device", scenes.DEVICES)
TOLERANCE = {"cpu": 5e-6, "cuda": 1e-3}


def all_pixels() -> torch.Tensor:
    """(H W, 2) (column, row), row-major."""
    rows, columns = torch.meshgrid(torch.arange(scenes.HEIGHT), torch.arange(scenes.WIDTH), indexing="ij")
    return torch.stack([columns, rows], -1).reshape(-1, 2)


def some_pixels() -> torch.Tensor:
    """In no order, some twice."""
    chosen = torch.randint(0, len(all_pixels()), (200,), generator=torch.Generator().manual_seed(2))
    return torch.cat([all_pixels()[chosen], all_pixels()[chosen[:20]]])


def exact_weights(scene: dict[str, torch.Tensor]) -> torch.Tensor:
    """(H W, N) float64."""
    return reference.weights(scenes.splats(scene, torch.float64), scenes.camera(dtype=torch.float64))[0]


def weights_of(scene: dict[str, torch.Tensor], pixels: torch.Tensor, device: str = "cpu") -> BlendWeights:
    view = scenes.camera_to(scenes.camera(), device)
    return blend_weights(scenes.splats(scene, device), view, pixels.to(device))


def dense(weights: BlendWeights) -> torch.Tensor:
    """(P, N) on the CPU."""
    rows = torch.repeat_interleave(weights.crow.diff()).cpu()
    out = torch.zeros(weights.shape)
    out[rows, weights.col.cpu()] = weights.val.cpu()
    assert int((out > 0).sum()) == len(weights.val)  # no entry twice, no zeros stored
    return out


@on_devices
def test_weights(device: str) -> None:
    scene, pixels = scenes.gaussians(300), some_pixels()
    weights = weights_of(scene, pixels, device)
    expected = exact_weights(scene)[pixels[:, 1] * scenes.WIDTH + pixels[:, 0]]
    assert weights.shape == (len(pixels), 300)
    torch.testing.assert_close(dense(weights).double(), expected, rtol=0, atol=TOLERANCE[device])


def test_rows_run_front_to_back() -> None:
    scene = scenes.gaussians(300)
    weights = weights_of(scene, some_pixels())
    depth = reference.project(scenes.splats(scene), scenes.camera())[2]
    rows = torch.repeat_interleave(weights.crow.diff())
    steps = depth[weights.col].diff()
    assert (steps[rows.diff() == 0] >= 0).all()


@on_devices
def test_matmul_is_rasterize(device: str) -> None:
    scene = {name: tensor.to(device) for name, tensor in scenes.gaussians(300, 19).items()}
    view = scenes.camera_to(scenes.camera(), device)
    rendering = rasterize(scenes.splats(scene), scene["channels"], view)
    weights = weights_of(scene, all_pixels(), device)
    tolerance = TOLERANCE[device]
    torch.testing.assert_close(
        weights.matmul(scene["channels"]), rendering.image.reshape(-1, 19), rtol=tolerance, atol=tolerance
    )
    torch.testing.assert_close(weights.alpha(), rendering.alpha.flatten(), rtol=tolerance, atol=tolerance)


@on_devices
@pytest.mark.parametrize("d", [1, 4, 7, 37, 64])
def test_matmul_and_its_gradient(d: int, device: str) -> None:
    weights = weights_of(scenes.gaussians(300), some_pixels(), device)
    f = torch.randn(300, d, generator=torch.Generator().manual_seed(3)).to(device).requires_grad_()
    product = weights.matmul(f)
    exact = dense(weights).double() @ f.detach().cpu().double()
    torch.testing.assert_close(product.cpu().double(), exact, rtol=1e-5, atol=1e-5)
    product.square().sum().backward()
    torch.testing.assert_close(f.grad.cpu().double(), 2 * dense(weights).double().T @ exact, rtol=1e-4, atol=1e-4)


@on_devices
def test_transpose_and_rows(device: str) -> None:
    weights = weights_of(scenes.gaussians(300), some_pixels(), device)
    assert torch.equal(dense(weights.transpose()), dense(weights).T)
    index = torch.tensor([5, 0, 5, 219, 100])
    assert torch.equal(dense(weights.rows(index.to(device))), dense(weights)[index])
    assert weights.rows(index[:0].to(device)).shape == (0, 300)


def test_torch_sparse_agrees_with_the_cpu_kernels() -> None:
    """On CUDA the products go through torch's sparse tensors; the conversions are the same everywhere."""
    weights = weights_of(scenes.gaussians(300), some_pixels())
    f = torch.randn(300, 8, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(weights._sparse() @ f, weights.matmul(f), rtol=1e-5, atol=1e-6)
    csc = weights._sparse().to_sparse_csc()
    transposed = cpu.csr_transpose(weights.crow, weights.col, weights.val, 300)
    for ours, theirs in zip(transposed, (csc.ccol_indices(), csc.row_indices(), csc.values()), strict=True):
        assert torch.equal(ours, theirs)


@on_devices
def test_no_pixels_and_no_gaussians(device: str) -> None:
    scene = scenes.gaussians(10)
    none = weights_of(scene, torch.zeros(0, 2, dtype=torch.int64), device)
    assert none.shape == (0, 10) and len(none.val) == 0
    assert none.transpose().shape == (10, 0) and not none.transpose().alpha().any()
    f = torch.ones(10, 2, device=device, requires_grad=True)
    none.matmul(f).sum().backward()
    assert not f.grad.any()

    empty = {name: tensor[:0] for name, tensor in scene.items()}
    blank = weights_of(empty, some_pixels(), device)
    assert blank.shape == (220, 0) and len(blank.val) == 0
    assert torch.equal(blank.matmul(torch.zeros(0, 3, device=device)).cpu(), torch.zeros(220, 3))


def test_wrong_arguments_are_named() -> None:
    scene = scenes.gaussians(10)
    for pixels in (torch.zeros(3, 2), torch.zeros(3, 3, dtype=torch.int64), torch.tensor([[0, scenes.HEIGHT]])):
        with pytest.raises(ValueError, match="pixels"):
            weights_of(scene, pixels)
    with pytest.raises(ValueError, match="f must be"):
        weights_of(scene, some_pixels()).matmul(torch.zeros(9, 3))
    with pytest.raises(ValueError, match="labels"):
        label_image(scenes.splats(scene), torch.zeros(10), scenes.camera())


@on_devices
@pytest.mark.parametrize("label_count", [2, 6, 300])
def test_label_image(label_count: int, device: str) -> None:
    """Also with more labels meeting in one block of pixels than the kernel makes room for at first."""
    scene = scenes.gaussians(300)
    scene["scales"] += 0.1
    scene["opacities"] *= 0.2
    labels = torch.randint(0, label_count, (300,), generator=torch.Generator().manual_seed(5))
    w = exact_weights(scene)
    sums = torch.zeros(len(w), label_count, dtype=torch.float64).index_add_(1, labels, w)
    splats, view = scenes.splats(scene, device), scenes.camera_to(scenes.camera(), device)
    image, share, alpha = (t.cpu().flatten() for t in label_image(splats, labels.to(device), view))
    tolerance = TOLERANCE[device]
    torch.testing.assert_close(share.double(), sums.max(1).values, rtol=0, atol=tolerance)
    torch.testing.assert_close(alpha.double(), w.sum(1), rtol=0, atol=tolerance)
    # The winner, or one within rounding of it.
    chosen = sums.gather(1, image[:, None].long())[:, 0]
    torch.testing.assert_close(chosen, sums.max(1).values, rtol=0, atol=tolerance)
    assert image.dtype == torch.int32


def test_label_image_where_nothing_is_drawn() -> None:
    scene = scenes.gaussians(3)
    scene["means"][:, 2] -= 10
    for splats in (scenes.splats(scene), Splats(*(tensor[:0] for tensor in scenes.splats(scene)))):
        labels = torch.full((len(splats.means),), 7)
        image, share, alpha = label_image(splats, labels, scenes.camera())
        assert not image.any() and not share.any() and not alpha.any()


def test_winning_label_agrees_with_label_image() -> None:
    scene = scenes.gaussians(300)
    labels = torch.randint(0, 9, (300,), generator=torch.Generator().manual_seed(6)) * 1000
    image, share, _ = label_image(scenes.splats(scene), labels, scenes.camera())
    winner, winner_share = weights_of(scene, all_pixels()).winning_label(labels)
    torch.testing.assert_close(winner_share, share.flatten(), rtol=1e-5, atol=1e-6)
    assert (winner == image.flatten()).float().mean() > 0.999


def test_winning_label_without_weights() -> None:
    empty = {name: tensor[:0] for name, tensor in scenes.gaussians(1).items()}
    winner, share = weights_of(empty, some_pixels()).winning_label(torch.zeros(0, dtype=torch.int64))
    assert torch.equal(winner, torch.zeros(220, dtype=torch.int64)) and not share.any()


# -- masks -------------------------------------------------------------------------------------------------------------


@on_devices
@pytest.mark.parametrize("finer", [1, 2, 3])
def test_masks_hold_the_weights_of_their_pixels(device: str, finer: int) -> None:
    """Masks in squares, so that pixels are shared where they are finer; one is nowhere."""
    scene, pixels = scenes.gaussians(300), all_pixels()
    rows, columns = np.mgrid[: finer * scenes.HEIGHT, : finer * scenes.WIDTH]
    labels = (rows // 7 + columns // 7) % 6 * (rows // 7 % 2)
    labels[labels == 4] = 0
    splats, camera = scenes.splats(scene, device), scenes.camera_to(scenes.camera(), device)
    found = mask_weights(splats, camera, labels.astype(np.int32))
    inside = np.stack([labels == m for m in range(1, 6)]).reshape(5, scenes.HEIGHT, finer, scenes.WIDTH, finer)
    share = torch.from_numpy(inside.mean((2, 4))).reshape(5, -1)
    expected = share @ exact_weights(scene)
    dense = torch.zeros(5, 300)
    dense[found.mask, found.gaussian] = torch.from_numpy(found.weight)
    torch.testing.assert_close(dense.double(), expected, rtol=0, atol=20 * TOLERANCE[device])
    order = found.mask.astype(np.int64) * 300 + found.gaussian
    assert (np.diff(order) > 0).all() and not (found.mask == 3).any()
    strong = mask_weights(splats, camera, labels.astype(np.int32), min_weight=1.0)
    assert np.array_equal(strong.weight, found.weight[found.weight > 1.0]) and len(strong.weight) < len(found.weight)
    same = weights_of(scene, pixels, device).of_masks(labels.astype(np.int32))
    assert np.array_equal(same.mask, found.mask) and np.array_equal(same.gaussian, found.gaussian)
    np.testing.assert_allclose(same.weight, found.weight, rtol=1e-4, atol=1e-5)


def test_sums_over_masks_do_not_depend_on_threads() -> None:
    splats = scenes.splats(scenes.gaussians(5000))
    labels = (torch.arange(scenes.HEIGHT * scenes.WIDTH) % 5).reshape(scenes.HEIGHT, scenes.WIDTH).int().numpy()
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(mask_weights(splats, scenes.camera(), labels))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)


@on_devices
@pytest.mark.parametrize("shape", [(scenes.HEIGHT, scenes.WIDTH - 1), (scenes.WIDTH, scenes.HEIGHT), (1, 1)])
def test_masks_of_another_size_are_refused(device: str, shape: tuple[int, int]) -> None:
    splats, camera = scenes.splats(scenes.gaussians(5), device), scenes.camera_to(scenes.camera(), device)
    with pytest.raises(ValueError, match="no multiple"):
        mask_weights(splats, camera, np.ones(shape, np.int32))


@on_devices
def test_masks_must_be_numbered(device: str) -> None:
    """A code as large as an int32 holds would take memory for two thousand million masks."""
    splats, camera = scenes.splats(scenes.gaussians(5), device), scenes.camera_to(scenes.camera(), device)
    labels = np.zeros((scenes.HEIGHT, scenes.WIDTH), np.int32)
    labels[0, 0] = np.iinfo(np.int32).max
    with pytest.raises(ValueError, match="numbered from 1 on, one is 2147483647"):
        mask_weights(splats, camera, labels)


# -- parts -------------------------------------------------------------------------------------------------------------


@on_devices
def test_parts_of_the_weights(device: str) -> None:
    weights = weights_of(scenes.gaussians(300), some_pixels(), device)
    whole = dense(weights)
    assert torch.equal(dense(weights.between(30, 170)), whole[30:170])
    assert weights.between(5, 5).shape == (0, 300)
    strong = weights.above(0.1)
    assert torch.equal(dense(strong), torch.where(whole > 0.1, whole, 0)) and 0 < len(strong.val) < len(weights.val)
    gaussians, compact = strong.between(30, 40).compact()
    gaussians = gaussians.cpu()
    assert torch.equal(gaussians, (dense(strong)[30:40] > 0).any(0).nonzero()[:, 0])
    assert torch.equal(dense(compact), dense(strong)[30:40][:, gaussians])


@pytest.mark.parametrize("dim", [1, 3, 4, 8, 12, 13, 16, 28, 32, 60])
def test_products_of_any_width(dim: int) -> None:
    weights = weights_of(scenes.gaussians(300), some_pixels())
    f = torch.randn(300, dim, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(weights.matmul(f), dense(weights) @ f)
