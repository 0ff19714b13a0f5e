from __future__ import annotations

import pytest
import torch
from render.scenes import DEVICES
from skimage.metrics import structural_similarity

from lift_ros.scene.ssim import ssim


def images(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(30, 37, 3, generator=generator, dtype=dtype)
    return a, (a + 0.2 * torch.rand(30, 37, 3, generator=generator, dtype=dtype)).clamp(0, 1)


@pytest.mark.parametrize("device", DEVICES)
def test_is_that_of_scikit_image(device):
    a, b = images()
    expected = structural_similarity(
        a.numpy(),
        b.numpy(),
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
    )
    assert ssim(a.to(device), b.to(device)).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("device", DEVICES)
def test_gradient_is_the_derivative(device):
    a, b = (image[:16, :15].to(device) for image in images())
    a.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ssim(x, b), (a,))


def test_black_images_are_equal_and_have_finite_gradients():
    black = torch.zeros(20, 20, 3, requires_grad=True)
    value = ssim(black, torch.zeros(20, 20, 3))
    value.backward()
    assert value.item() == pytest.approx(1)
    assert torch.isfinite(black.grad).all()


def test_too_small_images_are_refused():
    with pytest.raises(ValueError, match="11x11"):
        ssim(torch.zeros(10, 20, 3), torch.zeros(10, 20, 3))
