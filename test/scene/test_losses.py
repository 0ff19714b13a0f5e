"""Losses of a view: by name, with their gradients, and the same as CUDA graphs."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from lift_ros.render import Rendering, Target
from lift_ros.scene.config import SceneConfig
from lift_ros.scene.losses import ViewLosses, by_torch, supervised, view_losses


def given(seed: int, height: int = 20, width: int = 24, device: str = "cpu") -> list[torch.Tensor]:
    """What was rendered, then what it should show, tensor by tensor."""
    g = torch.Generator().manual_seed(seed)
    image, true_image = torch.rand(2, height, width, 3, generator=g)
    alpha, depth, true_depth = torch.rand(3, height, width, generator=g)
    true_depth[:5] = 0
    gain, bias = 1 + 0.1 * torch.rand(3, generator=g), 0.1 * torch.rand(3, generator=g)
    return [
        t.to(device) for t in (image, alpha, 1 + depth, true_image, 1.1 * true_depth + (true_depth > 0), gain, bias)
    ]


def paired(tensors: Sequence[torch.Tensor | None]) -> tuple[Rendering, Target]:
    return Rendering(*tensors[:3]), Target(*tensors[3:])


def test_the_losses_are_those_of_the_exposed_image_and_of_the_known_depth() -> None:
    image, alpha, depth, true_image, true_depth, gain, bias = given(0)
    out, target = paired(given(0))
    losses, _ = view_losses(out, target, 0.2, 0.3)
    exposed = image * gain + alpha[..., None] * bias
    assert float(losses["l1"]) == pytest.approx(0.8 * float((exposed - true_image).abs().mean()))
    errors = [
        min(abs(float(d - t)) / float(t), 0.5) if t > 0 and a > 0.5 else 0.0
        for d, t, a in zip(depth.flatten(), true_depth.flatten(), alpha.flatten(), strict=True)
    ]
    assert float(losses["depth"]) == pytest.approx(0.3 * sum(errors) / len(errors))
    assert set(view_losses(out, target._replace(depth=None), 0.2, 0.3)[0]) == {"l1", "ssim"}


def test_the_gradients_are_those_of_the_sum() -> None:
    tensors = given(1)
    _, gradients = view_losses(*paired(tensors), 0.2, 0.3)
    step = 1e-2
    for which, gradient in enumerate(gradients):
        sums = []
        for sign in (1, -1):
            moved = list(tensors)
            moved[which] = tensors[which] + sign * step * gradient / gradient.norm()
            sums.append(float(sum(view_losses(*paired(moved), 0.2, 0.3)[0].values())))
        assert (sums[0] - sums[1]) / (2 * step) == pytest.approx(float(gradient.norm()), rel=0.03)


@pytest.mark.parametrize("size", [(11, 11), (11, 16), (12, 13), (27, 11), (41, 53), (48, 64)])
@pytest.mark.parametrize("with_depth", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_compiled_losses_are_those_of_torch(size: tuple[int, int], with_depth: bool, threads: int) -> None:
    tensors = given(2, *size)
    tensors[0][0, 0] = tensors[3][0, 0] = tensors[1][0, 0] = 0.0  # where both are black, L1 does not pull
    tensors[6] = torch.tensor([0.1, 0.0, -0.05])
    tensors[4][-1] = torch.nan
    tensors[4] = tensors[4] if with_depth else None
    before, others = torch.get_num_threads(), [None if t is None else t.double() for t in tensors]
    torch.set_num_threads(threads)
    try:
        losses, gradients = view_losses(*paired(tensors), 0.2, 0.3)
    finally:
        torch.set_num_threads(before)
    expected, expected_gradients = by_torch(*paired(others), 0.2, 0.3)
    assert {name: float(loss) for name, loss in losses.items()} == {
        name: pytest.approx(float(loss), rel=1e-5, abs=1e-7) for name, loss in expected.items()
    }
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-8)


def test_the_compiled_losses_of_equal_and_of_flat_images_are_finite() -> None:
    for value, wanted in ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.3, 0.7)):
        image, true_image = torch.full((20, 24, 3), value), torch.full((20, 24, 3), wanted)
        alpha, depth = torch.zeros(20, 24), torch.zeros(20, 24)
        target = Target(true_image, None, torch.ones(3), torch.zeros(3))
        losses, gradients = view_losses(Rendering(image, alpha, depth), target, 0.2, 0.3)
        expected = (2 * value * wanted + 1e-4) / (value**2 + wanted**2 + 1e-4)
        assert float(losses["ssim"]) == pytest.approx(0.2 * (1 - expected), abs=1e-4)
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


def test_images_that_are_too_small_or_of_another_size_are_refused() -> None:
    for size in ((10, 20), (20, 10), (5, 20), (20, 5)):
        with pytest.raises(ValueError, match="at least 11x11"):
            view_losses(*paired(given(0, *size)), 0.2, 0.3)
    tensors, others = given(0), given(0, 21, 24)
    for which in (0, 1, 2, 3, 4):
        mixed = [*tensors[:which], others[which], *tensors[which + 1 :]]
        with pytest.raises(ValueError, match="of one size"):
            view_losses(*paired(mixed), 0.2, 0.3)
    for which, other in (
        (3, tensors[3][..., :1]), (4, tensors[3]), (1, tensors[1][..., None]), (2, tensors[0]), (0, tensors[1])
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"\(H, W, 3\)"):
            view_losses(*paired([*tensors[:which], other, *tensors[which + 1 :]]), 0.2, 0.3)
    with pytest.raises(ValueError, match=r"\(H, W, 3\)"):
        view_losses(*paired([t.flatten() for t in tensors]), 0.2, 0.3)


@pytest.mark.parametrize("which", [0, 2, 3, 4])
def test_tensors_of_another_precision_are_compared_by_torch(which: int) -> None:
    tensors = given(4)
    expected, _ = view_losses(*paired(tensors), 0.2, 0.3)
    tensors[which] = tensors[which].double()
    losses, _ = view_losses(*paired(tensors), 0.2, 0.3)
    assert {name: float(loss) for name, loss in losses.items()} == {
        name: pytest.approx(float(loss), rel=1e-5) for name, loss in expected.items()
    }


def test_images_that_lie_in_memory_in_another_order_have_the_same_losses() -> None:
    tensors = given(3)
    expected, _ = view_losses(*paired(tensors), 0.2, 0.3)
    turned = [t.transpose(0, 1).contiguous().transpose(0, 1) if t.ndim > 1 else t for t in tensors]
    losses, _ = view_losses(*paired(turned), 0.2, 0.3)
    assert losses == expected


def test_a_rendering_is_supervised_by_the_gradients_it_is_given() -> None:
    leaves = [torch.rand(4, 5, 3), torch.rand(4, 5), torch.rand(4, 5)]
    out = Rendering(*(leaf.requires_grad_() for leaf in leaves))
    by_image, by_alpha = torch.rand(4, 5, 3), torch.rand(4, 5)
    total = supervised(out, {"l1": torch.tensor(0.25), "ssim": torch.tensor(0.5)}, (by_image, by_alpha, None))
    assert float(total.detach()) == 0.75
    found = torch.autograd.grad(2 * total, leaves, allow_unused=True)
    torch.testing.assert_close(found[0], 2 * by_image)
    torch.testing.assert_close(found[1], 2 * by_alpha)
    assert found[2] is None


def test_training_does_not_wait_for_symbols_to_be_loaded(tmp_path: Path) -> None:
    script = """
import sys, torch
from lift_ros.camera import Camera, PosedCamera
from lift_ros.scene.config import SceneConfig
from lift_ros.scene.gaussians import GaussianScene, Seeds
from lift_ros.scene.trainer import PhotometricTrainer, TrainingView
scene = GaussianScene.empty()
n = 50
scene.append(Seeds(torch.rand(n, 3) + torch.tensor([0.0, 0.0, 2.0]), torch.rand(n, 4), torch.full((n, 3), 0.1),
                   torch.full((n,), 0.5), torch.rand(n, 3)))
camera = PosedCamera(Camera(24, 20, 20.0, 20.0, 12.0, 10.0), torch.eye(4))
view = TrainingView(camera, torch.zeros(20, 24, 3, dtype=torch.uint8), torch.full((20, 24), 2.0), 0)
assert PhotometricTrainer(scene, SceneConfig()).step(view)
assert "sympy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_losses_are_those_of_each_view() -> None:
    captured = ViewLosses(config := SceneConfig())
    for seed, size, measured in ((0, (20, 24), True), (1, (20, 24), True), (2, (30, 16), False), (3, (20, 24), True)):
        tensors = given(seed, *size, device="cuda")
        for wanted in (paired(tensors), paired([*tensors[:4], None, *tensors[5:]])):
            weight = config.depth_weight if measured else config.stereo_depth_weight
            losses, gradients = view_losses(*wanted, config.ssim_weight, weight)
            found, found_gradients = captured(*wanted, measured)
            assert {name: float(loss) for name, loss in found.items()} == {
                name: pytest.approx(float(loss), rel=1e-5) for name, loss in losses.items()
            }
            for one, other in zip(found_gradients, gradients, strict=True):
                assert torch.allclose(one, other, atol=1e-8)
