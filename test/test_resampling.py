"""Smaller label and depth images."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest

from lift_ros.resampling import any_of, median_depth, most_frequent


def disc(size: int, x: float, y: float, radius: float) -> np.ndarray:
    """(size, size) bool, a disc whose centre may lie between pixels."""
    at = np.arange(size) + 0.5
    return (at[None, :] - x) ** 2 + (at[:, None] - y) ** 2 < radius**2


def centroid(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_each_pixel_takes_a_label_that_most_of_its_block_has(factor: int) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (6 * factor, 7 * factor), np.uint16)
    small = most_frequent(labels, 6, 7)
    assert small.dtype == labels.dtype
    for row in range(6):
        for column in range(7):
            block = labels[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            count = Counter(block.reshape(-1).tolist())
            assert count[int(small[row, column])] == max(count.values())


@pytest.mark.parametrize("shrink", [most_frequent, median_depth])
def test_nothing_is_shifted(shrink) -> None:
    """A nearest neighbour of 2 x 2 pixels moves everything by half a pixel."""
    offsets = []
    for x, y in np.random.default_rng(1).uniform(40, 60, (40, 2)):
        image = np.where(disc(100, x, y, 25), 1, 2).astype(np.float32)
        offsets.append(centroid(shrink(image, 50, 50) == 1) * 2 - (x, y))
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.05
    taken = [disc(100, x, 50, 25)[::2, ::2] for x in (50,)]
    assert np.abs(centroid(taken[0]) * 2 - 50).max() > 0.4  # that this can be told


def test_areas_are_kept() -> None:
    mask = disc(200, 100.3, 99.1, 40)
    assert abs(4 * most_frequent(mask.astype(np.int32), 100, 100).sum() / mask.sum() - 1) < 0.01


def test_depths_are_those_of_pixels_and_unknown_ones_do_not_count() -> None:
    depth = np.array([[0, 3, 5, 5], [1, 2, 0, 9], [0, 0, 7, 0], [0, 0, 0, 0]], np.float32)
    small = median_depth(depth, 2, 2)
    assert small.dtype == np.float32
    assert small[0, 0] == 2 and small[0, 1] == 5 and small[1, 0] == 0 and small[1, 1] == 7
    assert set(np.unique(median_depth(np.random.default_rng(0).choice(depth.ravel(), (30, 40)), 12, 20))) <= set(
        np.unique(depth)
    )


def test_larger_images_repeat_pixels() -> None:
    labels = np.arange(6).reshape(2, 3)
    assert np.array_equal(most_frequent(labels, 4, 6), labels.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(median_depth(labels.astype(np.float32), 2, 3), labels)


@pytest.mark.parametrize("size", [(30, 40), (37, 53), (120, 160)])
def test_a_pixel_that_any_true_one_contributes_to_is_true(size) -> None:
    """So that an image resized by area is the same everywhere else, whatever it shows there."""
    mask = disc(100, 40.3, 60.2, 20)
    images = [np.where(mask, value, 100).astype(np.uint8) for value in (0, 255)]
    small = [cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image in images]
    found = any_of(mask, *size)
    assert (small[0] == small[1])[~found].all()
    assert 0.12 < found.mean() < 0.2  # a disc of an eighth, and its border
    assert any_of(mask, 100, 100) is mask
