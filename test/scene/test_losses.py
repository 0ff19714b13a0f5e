"""Losses of a view: by name, with their gradients, and the same as CUDA graphs."""

import pytest
import torch

from lift_ros.scene.config import SceneConfig
from lift_ros.scene.losses import ViewLosses, view_losses


def given(seed: int, height: int = 20, width: int = 24, device: str = "cpu") -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    image, true_image = torch.rand(2, height, width, 3, generator=g)
    alpha, depth, true_depth = torch.rand(3, height, width, generator=g)
    true_depth[:5] = 0
    gain, bias = 1 + 0.1 * torch.rand(3, generator=g), 0.1 * torch.rand(3, generator=g)
    return [
        t.to(device) for t in (image, alpha, 1 + depth, gain, bias, true_image, 1.1 * true_depth + (true_depth > 0))
    ]


def test_the_losses_are_those_of_the_exposed_image_and_of_the_known_depth() -> None:
    image, alpha, depth, gain, bias, true_image, true_depth = given(0)
    losses, _ = view_losses(image, alpha, depth, gain, bias, true_image, true_depth, 0.2, 0.3)
    exposed = image * gain + alpha[..., None] * bias
    assert float(losses["l1"]) == pytest.approx(0.8 * float((exposed - true_image).abs().mean()))
    errors = [
        min(abs(float(d - t)) / float(t), 0.5) if t > 0 and a > 0.5 else 0.0
        for d, t, a in zip(depth.flatten(), true_depth.flatten(), alpha.flatten(), strict=True)
    ]
    assert float(losses["depth"]) == pytest.approx(0.3 * sum(errors) / len(errors))
    assert set(view_losses(image, alpha, depth, gain, bias, true_image, None, 0.2, 0.3)[0]) == {"l1", "ssim"}


def test_the_gradients_are_those_of_the_sum() -> None:
    tensors = given(1)
    _, gradients = view_losses(*tensors, 0.2, 0.3)
    step = 1e-2
    for which, gradient in enumerate(gradients):
        sums = []
        for sign in (1, -1):
            moved = list(tensors)
            moved[which] = tensors[which] + sign * step * gradient / gradient.norm()
            sums.append(float(sum(view_losses(*moved, 0.2, 0.3)[0].values())))
        assert (sums[0] - sums[1]) / (2 * step) == pytest.approx(float(gradient.norm()), rel=0.03)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_losses_are_those_of_each_view() -> None:
    captured = ViewLosses(config := SceneConfig())
    for seed, size, measured in ((0, (20, 24), True), (1, (20, 24), True), (2, (30, 16), False), (3, (20, 24), True)):
        tensors = given(seed, *size, device="cuda")
        for wanted in (tensors, [*tensors[:-1], None]):
            weight = config.depth_weight if measured else config.stereo_depth_weight
            losses, gradients = view_losses(*wanted, config.ssim_weight, weight)
            found, found_gradients = captured(*wanted, measured=measured)
            assert {name: float(loss) for name, loss in found.items()} == {
                name: pytest.approx(float(loss), rel=1e-5) for name, loss in losses.items()
            }
            for one, other in zip(found_gradients, gradients, strict=True):
                assert torch.allclose(one, other, atol=1e-8)
