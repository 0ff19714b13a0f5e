"""Image metrics against hand-worked values and scikit-image."""

import numpy as np
import pytest
from sklearn import metrics

from lift_ros.evaluation.images import depth_l1, mask_iou, psnr, ssim


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    smooth = np.cumsum(np.cumsum(rng.normal(size=(40, 53, 3)), 0), 1)
    reference = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    noisy = np.clip(reference + rng.normal(scale=12, size=reference.shape), 0, 255).astype(np.uint8)
    return noisy, reference


def test_psnr_by_hand():
    a, b = np.zeros((4, 4, 3)), np.full((4, 4, 3), 0.1)
    assert psnr(a, b) == pytest.approx(20.0)
    assert psnr(np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)) == pytest.approx(0.0)
    assert psnr(b, b) == float("inf")


def test_ssim_of_constant_images_by_hand():
    a, b = np.full((20, 20), 0.2), np.full((20, 20), 0.6)
    assert ssim(a, b) == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4))


def test_psnr_and_ssim_agree_with_scikit_image(images):
    reference_metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    noisy, reference = images
    assert psnr(noisy, reference) == pytest.approx(reference_metrics.peak_signal_noise_ratio(reference, noisy))
    expected = reference_metrics.structural_similarity(
        noisy, reference, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert 0.3 < expected < 0.95
    assert ssim(noisy, reference) == pytest.approx(expected, abs=1e-6)
    assert ssim(noisy[..., 0], reference[..., 0]) != pytest.approx(expected, abs=1e-6)


def test_float_and_8_bit_images_score_the_same(images):
    noisy, reference = images
    assert psnr(noisy, reference / 255.0) == pytest.approx(psnr(noisy, reference))


def test_size_errors(images):
    with pytest.raises(ValueError, match="differ in size"):
        psnr(images[0], images[1][:-1])
    with pytest.raises(ValueError, match="11x11"):
        ssim(np.zeros((10, 20)), np.zeros((10, 20)))


def test_depth_l1_by_hand():
    truth = np.array([[1.0, 2.0, 0.0, np.nan, 4.0]])
    depth = np.array([[1.5, 0.0, 7.0, 1.0, 3.9]])
    assert depth_l1(depth, truth) == pytest.approx((0.5 + 0.1) / 2)
    assert np.isnan(depth_l1(np.zeros((1, 5)), truth))


def test_mask_iou_by_hand():
    a, b = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    a[10:20, 10:20] = True
    b[10:20, 11:21] = True
    assert mask_iou(a, b) == pytest.approx(90 / 110)
    assert mask_iou(~a & a, ~b & b) == 1.0  # empty masks agree


def test_mask_iou_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    a, b = rng.random((60, 75)) < 0.6, rng.random((60, 75)) < 0.7
    expected = metrics.jaccard_score(b.ravel(), a.ravel())
    assert 0.3 < expected < 0.9
    assert mask_iou(a, b) == pytest.approx(expected)
