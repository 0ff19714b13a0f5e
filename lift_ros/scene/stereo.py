"""Depth from neighbouring frames of known pose: plane sweep (Collins 1996) with semi-global smoothing.

Feature matches give some hundred points per frame; this gives most pixels a depth, in about 0.2 s on one core.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lift_ros.frame import Frame

MAX_WIDTH = 160  # of the images that are matched; the depth is then enlarged to the size of the frame
PLANES = (24, 96)  # least and greatest number
WINDOW = 7  # pixels of the correlation window
SMALL_STEP, LARGE_STEP = 0.08, 0.5  # penalties of semi-global matching: one plane, or more, to the next pixel
MIN_CORRELATION = 0.5  # of a depth to be trusted


class StereoDepth(NamedTuple):
    """``depth`` (H, W) z-depth, 0 where no neighbour looks; ``trusted`` (H, W) bool, where the images agree well.

    Elsewhere the depth is interpolated from the surroundings by the smoothness term.
    """

    depth: NDArray[np.float32]
    trusted: NDArray[np.bool_]

    @property
    def trusted_depth(self) -> NDArray[np.float32]:
        """(H, W) with 0 where the depth is not trusted: what training may be supervised with."""
        return np.where(self.trusted, self.depth, np.float32(0))


def sweep_depth(frame: Frame, neighbours: list[Frame], near: float, far: float) -> StereoDepth:
    """Depth of ``frame`` between ``near`` and ``far``, by correlation with ``neighbours``.

    The planes are spaced evenly in inverse depth, about a pixel apart in the neighbour that moves most. Per pixel and
    plane only the better half of the neighbours counts, so that those in which it is occluded do not.
    """
    if not 0 < near < far:
        raise ValueError(f"the range of depth must satisfy 0 < near < far, got {near} and {far}")
    small = frame.camera.at_width(MAX_WIDTH)
    size = (small.width, small.height)
    reference = _gray(frame, size)
    sources = [(_gray(other, size), *_plane_motion(frame, other, size)) for other in neighbours]
    inverse = _inverse_depths(sources, size, near, far)
    cost, seen = _cost_volume(reference, sources, inverse)
    smooth = _semi_global(cost, reference)
    best = smooth.argmin(axis=2)
    score = 1 - np.take_along_axis(cost, best[..., None], axis=2)[..., 0]
    depth = 1 / _refined(smooth, best, inverse)
    depth[~seen] = 0
    inside = (best > 0) & (best < len(inverse) - 1)
    trusted = seen & inside & (score > MIN_CORRELATION) & _agrees_around(depth)
    full = (frame.camera.width, frame.camera.height)
    depth = cv2.resize(depth.astype(np.float32), full, interpolation=cv2.INTER_NEAREST)
    trusted = cv2.resize(trusted.astype(np.uint8), full, interpolation=cv2.INTER_NEAREST).astype(bool)
    return StereoDepth(depth, trusted if frame.ignored is None else trusted & ~frame.ignored)


def _gray(frame: Frame, size: tuple[int, int]) -> NDArray[np.float32]:
    gray = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _plane_motion(frame: Frame, other: Frame, size: tuple[int, int]) -> tuple[NDArray, NDArray]:
    """A (3, 3) and b (3,): pixel p of ``frame`` at inverse depth q is seen by ``other`` at A p + q b, up to scale.

    In OpenCV's pixel convention, since it is OpenCV that warps.
    """
    half = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    K_a, K_b = half @ frame.camera.resized(*size).K, half @ other.camera.resized(*size).K
    T = np.linalg.inv(other.T_world_camera) @ frame.T_world_camera
    return K_b @ T[:3, :3] @ np.linalg.inv(K_a), K_b @ T[:3, 3]


def _inverse_depths(sources: list, size: tuple[int, int], near: float, far: float) -> NDArray[np.float64]:
    grid = np.stack(np.meshgrid(np.linspace(0, size[0], 5), np.linspace(0, size[1], 5)), axis=-1).reshape(-1, 2)
    grid = np.hstack([grid, np.ones((len(grid), 1))])
    shift = 0.0
    for _, A, b in sources:
        ends = [grid @ A.T + b / depth for depth in (near, far)]
        ahead = (ends[0][:, 2] > 0) & (ends[1][:, 2] > 0)
        pixels = [end[ahead, :2] / end[ahead, 2:] for end in ends]
        if ahead.any():
            shift = max(shift, float(np.median(np.linalg.norm(pixels[0] - pixels[1], axis=1))))
    return np.linspace(1 / far, 1 / near, int(np.clip(shift, *PLANES)))


def _cost_volume(
    reference: NDArray[np.float32], sources: list, inverse: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(H, W, D) one minus the normalised cross-correlation, in [0, 1], and (H, W) where any source looks at all."""
    h, w = reference.shape

    def mean(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return cv2.blur(x, (WINDOW, WINDOW))

    mu = mean(reference)
    variance = mean(reference * reference) - mu * mu
    counted = (len(sources) + 1) // 2
    cost = np.full((h, w, len(inverse)), 0.5, np.float32)
    seen = np.zeros((h, w), bool)
    ones = np.ones((h, w), np.float32)
    x, y = np.arange(w), np.arange(h)[:, None]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    e3 = np.array([0.0, 0.0, 1.0])
    for k, q in enumerate(inverse):
        scores = np.full((len(sources), h, w), -1.0, np.float32)
        for s, (source, A, b) in enumerate(sources):
            H = A + q * np.outer(b, e3)
            warped = cv2.warpPerspective(source, H, (w, h), flags=flags)
            inside = cv2.warpPerspective(ones, H, (w, h), flags=flags) > 0.99
            inside &= H[2, 0] * x + H[2, 1] * y + H[2, 2] > 0  # in front of the source
            mu_w = mean(warped)
            variance_w = mean(warped * warped) - mu_w * mu_w
            covariance = mean(reference * warped) - mu * mu_w
            # the constant is the variance of sensor noise: plain patches correlate with nothing
            correlation = covariance / np.sqrt((variance + 1e-4) * (variance_w + 1e-4))
            scores[s] = np.where(inside, correlation, -1)
        looking = (scores > -1).sum(axis=0)
        scores.sort(axis=0)
        best = np.maximum(scores[-counted:], 0)
        total = best.sum(axis=0) / np.minimum(np.maximum(looking, 1), counted)
        cost[..., k] = np.where(looking > 0, 1 - total, 1.0)
        seen |= looking > 0
    return cost, seen


def _semi_global(cost: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum of the path costs from left, right, above and below (Hirschmueller 2008, eq. 13).

    The penalty of a jump is lower across an edge of the image, where depth may jump as well.
    """
    total = np.zeros_like(cost)
    for axis in (0, 1):
        volume, image = (np.moveaxis(x, axis, 0) for x in (cost, reference))
        target = np.moveaxis(total, axis, 0)
        edge = np.abs(np.diff(image, axis=0))
        jump = np.maximum(LARGE_STEP / (1 + 20 * edge), 2 * SMALL_STEP)[..., None].astype(np.float32)
        for order in (1, -1):
            rows = range(len(volume))[::order]
            path = np.ascontiguousarray(volume[rows[0]])
            target[rows[0]] += path
            for before, row in zip(rows, rows[1:], strict=False):
                low = path.min(axis=1, keepdims=True)
                step = np.minimum(path, low + jump[min(before, row)])
                np.minimum(step[:, 1:], path[:, :-1] + SMALL_STEP, out=step[:, 1:])
                np.minimum(step[:, :-1], path[:, 1:] + SMALL_STEP, out=step[:, :-1])
                path = volume[row] + step - low
                target[row] += path
    return total


def _refined(cost: NDArray[np.float32], best: NDArray[np.int64], inverse: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse depth at the minimum of the parabola through the best plane and its two neighbours."""
    centre = np.clip(best, 1, len(inverse) - 2)
    left, middle, right = (np.take_along_axis(cost, (centre + k)[..., None], axis=2)[..., 0] for k in (-1, 0, 1))
    bend = left - 2 * middle + right
    offset = np.where(bend > 1e-6, 0.5 * (left - right) / np.maximum(bend, 1e-6), 0.0)
    offset = np.where(best == centre, np.clip(offset, -0.5, 0.5), 0.0)
    return inverse[best] + offset * (inverse[1] - inverse[0])


def _agrees_around(depth: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(H, W) whether a depth is close to the median of the pixels around it; single outliers are errors."""
    median = cv2.medianBlur(depth.astype(np.float32), 5)
    return np.abs(depth - median) < 0.05 * np.maximum(median, 1e-12)
