"""How well single images agree: colour, depth, masks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SSIM_SIGMA = 1.5  # an 11-tap window, as in Wang et al. 2004
SSIM_RADIUS = 5


def psnr(image: NDArray, reference: NDArray) -> float:
    """Peak signal-to-noise ratio in dB of two images, uint8 or float in [0, 1]; infinite where they are equal."""
    a, b = _unit_range(image, reference)
    mse = float(np.mean((a - b) ** 2))
    return float("inf") if mse == 0 else -10 * float(np.log10(mse))


def ssim(image: NDArray, reference: NDArray) -> float:
    """Structural similarity (Wang et al. 2004) of (H, W) or (H, W, C) images, uint8 or float in [0, 1].

    Gaussian window of 11 taps, sigma 1.5, K1 = 0.01, K2 = 0.03; mean over channels and over the pixels whose window
    lies inside the image, which therefore must be at least 11 pixels wide and high.
    """
    a, b = _unit_range(image, reference)
    if min(a.shape[:2]) <= 2 * SSIM_RADIUS:
        raise ValueError(f"SSIM needs images of at least 11x11 pixels, got {a.shape[1]}x{a.shape[0]}")
    inside = slice(SSIM_RADIUS, -SSIM_RADIUS)

    def mean(x: NDArray) -> NDArray:
        size = 2 * SSIM_RADIUS + 1
        return cv2.GaussianBlur(x, (size, size), SSIM_SIGMA)[inside, inside]

    c1, c2 = 0.01**2, 0.03**2
    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2, mean(a * b) - mu_a * mu_b
    score = (2 * mu_a * mu_b + c1) * (2 * cov + c2) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))
    return float(score.mean())


def depth_l1(depth: NDArray, truth: NDArray) -> float:
    """Mean absolute error of an (H, W) z-depth where it and the true one are known, in their unit; NaN where none are.

    Depth of 0, or that is not finite, is unknown.
    """
    if depth.shape != truth.shape:
        raise ValueError(f"depth is {depth.shape}, the ground truth {truth.shape}")
    both = np.isfinite(truth) & (truth > 0) & np.isfinite(depth) & (depth > 0)
    if not both.any():
        return float("nan")
    return float(np.abs(depth[both].astype(np.float64) - truth[both].astype(np.float64)).mean())


def mask_iou(mask: NDArray, truth: NDArray) -> float:
    """Intersection over union of two (H, W) boolean masks; 1 where both are empty."""
    if mask.shape != truth.shape or mask.ndim != 2:
        raise ValueError(f"masks must be (H, W) of one size, got {mask.shape} and {truth.shape}")
    a, b = mask.astype(bool), truth.astype(bool)
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def _unit_range(image: NDArray, reference: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if image.shape != reference.shape:
        raise ValueError(f"images differ in size: {image.shape} and {reference.shape}")

    def scaled(x: NDArray) -> NDArray[np.float64]:
        return x / 255.0 if x.dtype == np.uint8 else x.astype(np.float64)

    return scaled(image), scaled(reference)
