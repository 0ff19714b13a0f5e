"""Pictures for people: label colours, overlays, contact sheets. Images are (H, W, 3) uint8 RGB."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

GOLDEN_RATIO = (5**0.5 - 1) / 2  # multiples of it, modulo 1, stay far from all earlier ones
SHADES = np.array([[0.85, 1.0], [0.55, 0.95], [1.0, 0.7]], np.float32)  # saturation and value
PALETTE_SIZE = 2**16  # ids that are published fit into 16 bits
BOUNDARY = (255, 255, 255)
PAPER, INK = 255, (0, 0, 0)
MARGIN, CAPTION_HEIGHT = 6, 22  # pixels


def label_colors(labels: ArrayLike) -> NDArray[np.uint8]:
    """Colours (..., 3) of integer labels (...): always the same for one label, far apart for near ones, 0 black."""
    labels = np.asarray(labels)
    if not labels.size:  # which OpenCV refuses
        return np.zeros((*labels.shape, 3), np.uint8)
    hue = (labels.astype(np.float64) * GOLDEN_RATIO % 1.0).astype(np.float32)
    hsv = np.concatenate([360 * hue[..., None], SHADES[labels % len(SHADES)]], axis=-1)
    rgb = cv2.cvtColor(hsv.reshape(-1, 1, 3), cv2.COLOR_HSV2RGB).reshape(hsv.shape)
    colors = (255 * rgb).round().astype(np.uint8)
    colors[labels == 0] = 0
    return colors


def colorize(labels: NDArray) -> NDArray[np.uint8]:
    """(H, W) label image -> (H, W, 3) picture in label colours."""
    if labels.min() >= 0 and labels.max() < PALETTE_SIZE:
        return _palette()[labels]
    ids, index = np.unique(labels, return_inverse=True)
    return label_colors(ids)[index.reshape(labels.shape)]


@cache
def _palette() -> NDArray[np.uint8]:
    return label_colors(np.arange(PALETTE_SIZE))  # looking colours up is five times faster than sorting an image's ids


def boundaries(labels: NDArray) -> NDArray[np.bool_]:
    """(H, W) bool: pixels whose right or lower neighbour carries another label."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] = labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def overlay(image: NDArray[np.uint8], labels: NDArray, alpha: float = 0.5) -> NDArray[np.uint8]:
    """The image with its labels (H, W) in colour on top, outlined in white; where they are 0 it stays as it is.

    Args:
        alpha: opacity of the colours, in [0, 1].
    """
    if labels.shape != image.shape[:2]:
        raise ValueError(f"labels are {labels.shape}, the image {image.shape[:2]}")
    blend = cv2.addWeighted(image, 1 - alpha, colorize(labels), alpha, 0)
    blend = np.where((labels != 0)[..., None], blend, image)
    blend[boundaries(labels)] = BOUNDARY
    return blend


def contact_sheet(rows: Sequence[Sequence[tuple[str, NDArray[np.uint8]]]], tile_width: int = 320) -> NDArray[np.uint8]:
    """One picture of rows of captioned images.

    Args:
        rows: rows of (caption, image); rows may differ in length, images in size. Captions are ASCII, as OpenCV's
            fonts are, and shrink to fit.
        tile_width: width each image is scaled to, in pixels.
    """
    strips = [[_tile(caption, image, tile_width) for caption, image in row] for row in rows]
    if not any(strips):
        raise ValueError("a contact sheet needs an image")
    width = max(len(strip) for strip in strips) * (tile_width + MARGIN) + MARGIN
    heights = [max((tile.shape[0] for tile in strip), default=0) + MARGIN for strip in strips]
    sheet = np.full((sum(heights) + MARGIN, width, 3), PAPER, np.uint8)
    top = MARGIN
    for strip, height in zip(strips, heights, strict=True):
        for column, tile in enumerate(strip):
            left = MARGIN + column * (tile_width + MARGIN)
            sheet[top : top + tile.shape[0], left : left + tile_width] = tile
        top += height
    return sheet


def _tile(caption: str, image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    shrinks = width < image.shape[1]
    scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
    tile = np.full((CAPTION_HEIGHT + height, width, 3), PAPER, np.uint8)
    tile[CAPTION_HEIGHT:] = scaled
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5
    (text_width, _), _ = cv2.getTextSize(caption, font, size, 1)
    size *= min(1.0, (width - 4) / max(text_width, 1))
    cv2.putText(tile, caption, (2, CAPTION_HEIGHT - 7), font, size, INK, 1, cv2.LINE_AA)
    return tile


def write_png(path: Path | str, image: NDArray) -> None:
    """Write (H, W, 3) uint8 RGB, or (H, W) uint8 or uint16 grey.

    Raises:
        ValueError: another shape or type. OSError: the file cannot be written.
    """
    if (image.ndim, image.dtype.name) not in [(3, "uint8"), (2, "uint8"), (2, "uint16")]:
        raise ValueError(f"a PNG holds (H, W, 3) uint8 or (H, W) uint8 or uint16, got {image.shape} {image.dtype}")
    _, data = cv2.imencode(".png", image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    Path(path).write_bytes(data)  # imwrite would say neither that it failed nor why


def write_label_png(path: Path | str, labels: NDArray) -> None:
    """Write an (H, W) integer label image as 16-bit grey.

    Raises:
        ValueError: a label does not fit into 16 bits. OSError: the file cannot be written.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise ValueError(f"labels must fit into 16 bits, got {low} to {high}")
    write_png(path, labels.astype(np.uint16))
