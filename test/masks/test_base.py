"""Masks and label images."""

from __future__ import annotations

import numpy as np
import pytest

from lift_ros.masks.base import Masks, Patches, Prompts, ids_in


def test_label_image_and_back():
    labels = np.array([[0, 7, 7], [3, 3, 0]], np.uint16)
    masks = Masks.from_label_image(labels)
    assert len(masks) == 2
    np.testing.assert_array_equal(masks.masks[0], labels == 3)
    np.testing.assert_array_equal(masks.label_image(), [[0, 2, 2], [1, 1, 0]])


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.uint32])
def test_ids_are_all_that_an_image_holds_each_once(kind):
    labels = np.array([[0, 7, 7, 3], [3, 3, 0, 7], [7, 65535, 0, 0]], kind)
    for image in (labels, labels.T, labels[:, ::2], labels[:0], labels * 0):
        assert ids_in(image).tolist() == sorted(set(image.ravel().tolist()) - {0})


def test_small_masks_lie_on_large_ones():
    whole = np.ones((4, 4), bool)
    part = np.zeros((4, 4), bool)
    part[1, 1] = True
    labels = Masks(np.stack([part, whole])).label_image()
    assert labels[1, 1] == 1
    assert labels[0, 0] == 2


def test_no_masks():
    for masks in (Masks.empty(3, 5), Masks.from_label_image(np.zeros((3, 5), np.uint16))):
        assert masks.masks.shape == (0, 3, 5)
        np.testing.assert_array_equal(masks.label_image(), np.zeros((3, 5)))


def test_patches_are_the_masks_and_back():
    rng = np.random.default_rng(0)
    masks = rng.random((5, 12, 16)) < 0.4
    patches = Patches.of(masks)
    assert np.array_equal(patches.inside[patches.index].transpose(2, 0, 1), masks)
    assert not patches.inside[0].any() and len(np.unique(patches.inside, axis=0)) == len(patches.inside)
    assert np.array_equal(patches.label_image(), Masks(masks).label_image())


def test_patches_of_another_size_are_what_most_of_a_pixel_shows():
    masks = np.zeros((2, 4, 6), bool)
    masks[0, :, :3] = masks[1, :, 2:4] = True  # they overlap in column 2
    small = Patches.of(masks).resized(2, 3)
    assert small.inside[small.index][0].tolist() == [
        [True, False],
        small.inside[small.index[0, 1]].tolist(),
        [False] * 2,
    ]
    assert small.inside[small.index[0, 1]].tolist() in ([True, True], [False, True])
    patches = Patches.of(masks)
    assert patches.resized(4, 6) is patches


@pytest.mark.parametrize("masks", [np.zeros((0, 3, 4), bool), np.ones((1, 3, 4), bool), np.zeros((2, 3, 4), bool)])
def test_patches_of_no_or_full_masks(masks):
    patches = Patches.of(masks)
    assert np.array_equal(patches.inside[patches.index].transpose(2, 0, 1), masks) and not patches.inside[0].any()


def test_prompts_at_another_size():
    explained = np.array([[True, False], [False, False]])
    prompts = Prompts(np.array([[0.5, 0.5], [1.5, 1.0]], np.float32), explained).resized(4, 6)
    np.testing.assert_allclose(prompts.points, [[1.5, 1.0], [4.5, 2.0]])
    np.testing.assert_array_equal(prompts.explained, np.repeat(np.repeat(explained, 2, 0), 3, 1))
    assert prompts.resized(4, 6) is prompts
    with pytest.raises(ValueError, match="no size"):
        Prompts(np.zeros((0, 2), np.float32)).resized(4, 6)
