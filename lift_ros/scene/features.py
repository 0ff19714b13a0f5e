"""Points triangulated from features matched between frames of known pose."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lift_ros.frame import Frame

MAX_FEATURES = 1000
MATCH_RATIO = 0.8  # nearest over second nearest descriptor distance (Lowe 2004)
MIN_MATCHES = 20  # of two frames, to tell how far features moved
MIN_PARALLAX = 1.5  # degrees; below, depth is mostly noise


class Features(NamedTuple):
    """``pixels`` (k, 2) of the features, in the pixel convention of ``Camera``; ``descriptors`` (k, 128)."""

    pixels: NDArray[np.float64]
    descriptors: NDArray[np.float32]


def detect(image: NDArray[np.uint8], ignored: NDArray[np.bool_] | None = None) -> Features:
    """SIFT features of an (H, W, 3) RGB image, none at pixels that are ``ignored`` (H, W)."""
    allowed = None if ignored is None else (~ignored).astype(np.uint8)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # on the small images of a robot the default contrast threshold leaves plain walls without a feature
    found, descriptors = cv2.SIFT_create(MAX_FEATURES, contrastThreshold=0.015).detectAndCompute(gray, allowed)
    if not found:
        return Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    return Features(np.array([keypoint.pt for keypoint in found]) + 0.5, descriptors)


def triangulate(
    a: Frame, features_a: Features, b: Frame, features_b: Features, max_error: float = 1.5
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """World points seen by both frames, and their (m, 2) pixels in ``a``.

    Matches are kept if they are mutual and distinct, lie on each other's epipolar line, see their point from directions
    at least ``MIN_PARALLAX`` apart, have it in front of both cameras, and reproject within ``max_error`` pixels. No
    threshold is a length, so the unit of the poses does not matter.

    Returns:
        (m, 3) points, (m, 2) pixels.
    """
    nothing = np.zeros((0, 3)), np.zeros((0, 2))
    pairs = _match(features_a.descriptors, features_b.descriptors)
    if not len(pairs):
        return nothing
    pixels_a, pixels_b = features_a.pixels[pairs[:, 0]], features_b.pixels[pairs[:, 1]]
    T_b_a = np.linalg.inv(b.T_world_camera) @ a.T_world_camera
    near_line = epipolar_error(a, b, pixels_a, pixels_b) < max_error
    pixels_a, pixels_b = pixels_a[near_line], pixels_b[near_line]
    if not len(pixels_a):
        return nothing
    P_a, P_b = a.camera.K @ np.eye(3, 4), b.camera.K @ T_b_a[:3]
    homogeneous = cv2.triangulatePoints(P_a, P_b, pixels_a.T, pixels_b.T).T
    with np.errstate(divide="ignore", invalid="ignore"):
        in_a = homogeneous[:, :3] / homogeneous[:, 3:]
    in_b = in_a @ T_b_a[:3, :3].T + T_b_a[:3, 3]
    to_b = in_a - np.linalg.inv(T_b_a)[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = (in_a * to_b).sum(1) / (np.linalg.norm(in_a, axis=1) * np.linalg.norm(to_b, axis=1))
    good = np.isfinite(in_a).all(axis=1) & (in_a[:, 2] > 0) & (in_b[:, 2] > 0)
    good &= cosine < np.cos(np.radians(MIN_PARALLAX))
    for frame, points, pixels in ((a, in_a, pixels_a), (b, in_b, pixels_b)):
        with np.errstate(invalid="ignore"):
            good &= np.linalg.norm(frame.camera.project(points)[0] - pixels, axis=1) < max_error
    return in_a[good] @ a.T_world_camera[:3, :3].T + a.T_world_camera[:3, 3], pixels_a[good]


def shift(a: Frame, features_a: Features, b: Frame, features_b: Features) -> float | None:
    """Median distance in pixels between features of ``b`` and where ``a`` would show them if they were infinitely far
    away: how much of their motion is not that of the camera's turning. None where too few match to tell.
    """
    pairs = _match(features_a.descriptors, features_b.descriptors)
    pixels_a, pixels_b = features_a.pixels[pairs[:, 0]], features_b.pixels[pairs[:, 1]]
    rays = np.hstack([pixels_a, np.ones((len(pairs), 1))]) @ np.linalg.inv(a.camera.K).T
    R_b_a = b.T_world_camera[:3, :3].T @ a.T_world_camera[:3, :3]
    expected, z = b.camera.project(rays @ R_b_a.T)
    if (z > 0).sum() < MIN_MATCHES:
        return None
    return float(np.median(np.linalg.norm(expected - pixels_b, axis=1)[z > 0]))


def epipolar_error(a: Frame, b: Frame, pixels_a: NDArray, pixels_b: NDArray) -> NDArray[np.float64]:
    """(m,) Sampson distance in pixels of matched (m, 2) pixels; infinite where the cameras share their centre."""
    T_b_a = np.linalg.inv(b.T_world_camera) @ a.T_world_camera
    x, y, z = T_b_a[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ T_b_a[:3, :3]
    F = np.linalg.inv(b.camera.K).T @ essential @ np.linalg.inv(a.camera.K)
    ones = np.ones((len(pixels_a), 1))
    h_a, h_b = np.hstack([pixels_a, ones]), np.hstack([pixels_b, ones])
    line_b, line_a = h_a @ F.T, h_b @ F
    slope = line_b[:, 0] ** 2 + line_b[:, 1] ** 2 + line_a[:, 0] ** 2 + line_a[:, 1] ** 2
    return np.where(slope > 0, np.abs((h_b * line_b).sum(axis=1)) / np.sqrt(np.maximum(slope, 1e-300)), np.inf)


def _match(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.int64]:
    """(m, 2) indices of mutual nearest neighbours that pass the ratio test."""
    if len(a) < 2 or len(b) < 2:
        return np.zeros((0, 2), np.int64)
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    backward = {m.queryIdx: m.trainIdx for m in matcher.match(b, a)}
    kept = [
        (first.queryIdx, first.trainIdx)
        for first, second in matcher.knnMatch(a, b, k=2)
        if first.distance < MATCH_RATIO * second.distance and backward[first.trainIdx] == first.queryIdx
    ]
    return np.array(kept, np.int64).reshape(-1, 2)
