"""Image metrics against hand-worked values and scikit-image."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn import metrics

from lift_ros.evaluation import boundary_iou, depth_l1, mask_iou, psnr, ssim


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
    error = depth_l1(depth, truth)
    assert error.l1 == pytest.approx((0.5 + 0.1) / 2)
    assert error.coverage == pytest.approx(2 / 3)
    assert np.isnan(depth_l1(np.zeros((1, 5)), truth).l1)


def test_mask_and_boundary_iou_of_shifted_squares_by_hand():
    a, b = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    a[10:20, 10:20] = True
    b[10:20, 11:21] = True
    assert mask_iou(a, b) == pytest.approx(90 / 110)
    # bands one pixel wide, 36 px each: both top and bottom rows overlap in 9 px, the sides not at all
    assert boundary_iou(a, b, dilation_ratio=0.0) == pytest.approx(18 / (36 + 36 - 18))
    # 0.035 of the diagonal of 56.6 px: two pixels wide, 64 px each. The top and bottom bands share 2 x 9 px each and
    # the side bands, in the six rows between them, one column each
    assert boundary_iou(a, b, dilation_ratio=0.035) == pytest.approx((36 + 12) / (128 - 48))


def blobs(seed: int, shape: tuple[int, int] = (60, 75)) -> np.ndarray:
    """A mask of several parts, with holes, that touches the image's border."""
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 4) > 0


def test_mask_iou_agrees_with_scikit_learn():
    a, b = blobs(0), blobs(0) ^ (blobs(1) & blobs(2))
    expected = metrics.jaccard_score(b.ravel(), a.ravel())
    assert 0.3 < expected < 0.9
    assert mask_iou(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("ratio", [0.0, 0.02, 0.05])
def test_boundary_iou_against_its_definition(ratio):
    """Cheng et al. 2021: (G_d & G) & (P_d & P) over their union, where G_d & G are the pixels of G within d of its
    contour: as published, those that d erosions by a 3x3 square take, where there is nothing beyond the image."""

    def band(mask: np.ndarray) -> np.ndarray:
        d = max(1, round(ratio * np.sqrt(mask.shape[0] ** 2 + mask.shape[1] ** 2)))
        return mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=d, border_value=0)

    a, b = blobs(0), blobs(0) ^ (blobs(1) & blobs(2))
    for one, other in ((a, b), (a, np.roll(a, 2, 1)), (b, ~a)):
        first, second = band(one), band(other)
        assert boundary_iou(one, other, ratio) == pytest.approx((first & second).sum() / (first | second).sum())
    assert boundary_iou(a, b, 1.0) == pytest.approx(mask_iou(a, b))  # all of a mask is near its contour


def test_the_image_border_is_a_contour():
    full = np.ones((20, 20), bool)
    inner = full.copy()
    inner[8:12, 8:12] = False
    # one-pixel bands: the image's border (76 px) is in both, the 20 px around the hole only in one
    assert boundary_iou(full, inner, dilation_ratio=0.0) == pytest.approx(76 / (76 + 20))


def test_empty_masks_agree():
    empty = np.zeros((8, 8), bool)
    assert mask_iou(empty, empty) == boundary_iou(empty, empty) == 1.0
    assert boundary_iou(empty, ~empty) == 0.0
