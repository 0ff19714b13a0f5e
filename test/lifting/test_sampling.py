"""What is sampled of a keyframe: pairs across borders, a fair share of pixels for every mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from lifting.tiles import patches_of, tiles

from lift_ros.lifting.base import Batch
from lift_ros.lifting.sampling import (
    BATCH_PIXELS,
    LARGEST_BATCH,
    MIN_MASK_PIXELS,
    MIN_WEIGHT,
    PIXELS_A_MASK,
    border_pairs,
    sample_view,
    view_of_objects,
)
from lift_ros.render import BlendWeights


def patches(height: int = 40, width: int = 52, seed: int = 0) -> np.ndarray:
    """(H, W) int32, irregular masks with speckle, some pixels 0."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 5, (5, 6)).astype(np.uint8)
    labels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.int32)
    noise = rng.random(labels.shape) < 0.1
    labels[noise] = rng.integers(0, 7, noise.sum())
    return labels


@pytest.mark.parametrize("gap", [1, 3])
def test_border_pairs_are_all_pairs_of_two_masks_a_gap_apart(gap):
    labels = patches(12, 15)
    height, width = labels.shape
    expected = set()
    for y in range(height):
        for x in range(width):
            for dy in (-gap, 0, gap):
                for dx in (-gap, 0, gap):
                    v, u = y + dy, x + dx
                    inside = 0 <= v < height and 0 <= u < width
                    if inside and labels[y, x] > 0 and labels[v, u] > 0 and labels[y, x] != labels[v, u]:
                        expected.add((y * width + x, v * width + u))
    pairs = [tuple(pair) for pair in border_pairs(labels, gap).tolist()]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected


def opaque(pixels: int, alpha: float = 0.9) -> BlendWeights:
    """Pixel u shows Gaussian u only."""
    return BlendWeights(torch.arange(pixels + 1), torch.arange(pixels), torch.full((pixels,), alpha), pixels)


def shown(view) -> np.ndarray:
    """Pixels of a view of ``opaque``."""
    return view.weights.col.numpy()


def test_sampled_pixels_keep_their_masks_and_weights():
    labels = patches()
    view = sample_view(patches_of(labels), opaque(labels.size), 600, np.random.default_rng(0))
    pixels = shown(view)
    assert len(np.unique(pixels)) == len(pixels) <= 600
    masks = view.masks.numpy()
    assert view.mask_count == len(np.unique(masks[masks >= 0]))
    flat = labels.reshape(-1)
    # the numbers are new, the partition is that of the labels
    assert len({(a, b) for a, b in zip(flat[pixels], masks, strict=True) if b >= 0}) == view.mask_count
    assert (masks[flat[pixels] == 0] == -1).all()


def test_small_masks_are_heard_and_slivers_are_not():
    labels = np.ones((80, 100), np.int32)
    labels[5:9, 5:10] = 2  # 20 pixels of 8000
    labels[50, 50 : 50 + MIN_MASK_PIXELS - 1] = 3
    view = sample_view(patches_of(labels), opaque(labels.size), 400, np.random.default_rng(0))
    assert view.mask_count == 2
    assert (labels.reshape(-1)[shown(view)[view.masks.numpy() == 1]] == 2).all()
    assert (view.masks == 1).sum() >= 19  # a share of 400 pixels by area would be one
    assert (view.masks[torch.from_numpy(labels.reshape(-1)[shown(view)] == 3)] == -1).all()


def test_pairs_point_at_sampled_pixels_that_face_each_other():
    labels = patches()
    view = sample_view(patches_of(labels), opaque(labels.size), 800, np.random.default_rng(0))
    assert 0 < len(view.pairs) <= 100
    allowed = {tuple(pair) for pair in border_pairs(labels).tolist()}
    pixels = shown(view)
    assert all((pixels[a], pixels[b]) in allowed for a, b in view.pairs.tolist())
    assert (view.masks[view.pairs] >= 0).all()


def test_transparent_pixels_have_no_mask():
    labels = patches()
    weights = opaque(labels.size)
    weights.val[: labels.size // 2] = 0.4
    view = sample_view(patches_of(labels), weights, 800, np.random.default_rng(0))
    transparent = torch.from_numpy(shown(view) < labels.size // 2)
    assert (view.masks[transparent] == -1).all() and (view.masks[~transparent] >= 0).any()


def test_no_masks_no_pairs():
    view = sample_view(patches_of(np.zeros((20, 20), np.int32)), opaque(400), 100, np.random.default_rng(0))
    assert view.mask_count == 0 and len(view.pairs) == 0 and (view.masks == -1).all()


def test_more_pixels_than_there_are():
    labels = patches(10, 12)
    view = sample_view(patches_of(labels), opaque(120), 10_000, np.random.default_rng(0))
    assert len(view.masks) == 120


def test_the_same_draw_gives_the_same_view():
    world = tiles(views=1)
    labels = world.masks(world.cameras[0], np.random.default_rng(0))
    weights = world.weights(world.cameras[0])
    a, b = (sample_view(patches_of(labels), weights, 500, np.random.default_rng(2)) for _ in range(2))
    assert torch.equal(a.weights.val, b.weights.val) and torch.equal(a.masks, b.masks) and torch.equal(a.pairs, b.pairs)


def test_every_batch_is_a_sample_of_the_whole_image_of_its_own():
    """Half of it anywhere, the others on masks and borders; small masks are in each."""
    labels = np.ones((80, 100), np.int32)
    labels[:, 50:] = 2
    labels[5:9, 5:10] = 3  # 20 pixels of 8000
    view = sample_view(patches_of(labels), opaque(labels.size), 4 * BATCH_PIXELS, np.random.default_rng(0))
    assert len(view.ends) == 4 and view.ends[-1] == len(view.masks)
    pixels = np.split(shown(view), view.ends[:-1])
    for each, masks in zip(pixels, np.split(view.masks.numpy(), view.ends[:-1]), strict=True):
        assert (np.diff(each) > 0).all()  # none twice
        assert 0.7 * BATCH_PIXELS < len(each) <= BATCH_PIXELS
        assert (masks == 2).sum() == 20
    assert len(np.unique(np.concatenate(pixels))) > 0.8 * sum(map(len, pixels))  # they are not the same
    batch = np.searchsorted(view.ends, view.pairs.numpy(), side="right")
    assert (batch[:, 0] == batch[:, 1]).all() and set(batch[:, 0]) == {0, 1, 2, 3}


def test_of_many_masks_each_is_heard_in_every_batch():
    """Then batches are larger, and there are fewer."""
    labels = np.kron(np.arange(1, 65).reshape(8, 8), np.ones((12, 12), np.int32)).astype(np.int32)
    labels[:12, :12] = 2
    labels[:4, :4] = 1  # 16 pixels of 9216
    view = sample_view(patches_of(labels), opaque(labels.size), 16 * BATCH_PIXELS, np.random.default_rng(0))
    assert view.mask_count == 64 and len(view.ends) == 16 * BATCH_PIXELS / (PIXELS_A_MASK * 64)
    for masks in np.split(view.masks.numpy(), view.ends[:-1]):
        assert 0.7 * PIXELS_A_MASK * 64 < len(masks) <= PIXELS_A_MASK * 64
        assert np.bincount(masks, minlength=64).min() >= 7
    labels = np.arange(1, 257).reshape(16, 16).repeat(8, 0).repeat(8, 1).astype(np.int32)
    largest = sample_view(patches_of(labels), opaque(labels.size), 16 * BATCH_PIXELS, np.random.default_rng(0))
    assert len(largest.ends) == 16 * BATCH_PIXELS / LARGEST_BATCH  # and no larger, however many masks there are


def test_a_map_as_a_view_shows_every_object_alike():
    ids = torch.tensor([0, 7, 7, 7, 7, 3, 0, 9, 9])
    view = view_of_objects(ids, 7, np.random.default_rng(0))
    shown = view.weights.col
    assert len(shown) == len(view.masks) == 5 and view.mask_count == 3  # two of each, and all of the one that has one
    assert torch.equal(torch.tensor([3, 7, 9])[view.masks], ids[shown])
    assert torch.equal(view.inside.int().argmax(1), view.masks) and (view.inside.sum(1) == 1).all()
    assert (view.weights.alpha() == 1).all() and view.weights.gaussian_count == len(ids)
    assert view_of_objects(torch.zeros(4, dtype=torch.int64), 10, np.random.default_rng(0)).mask_count == 0


def test_small_weights_are_left_out():
    weights = opaque(400)
    faint = BlendWeights(
        torch.arange(401) * 2,
        torch.arange(800) // 2 + torch.arange(800) % 2 * 400,  # Gaussian 400 + u lies behind u
        torch.where(torch.arange(800) % 2 == 0, 0.9, MIN_WEIGHT).float(),
        800,
    )
    labels = np.ones((20, 20), np.int32)
    whole, kept = (sample_view(patches_of(labels), w, 100, np.random.default_rng(0)).weights for w in (weights, faint))
    assert kept.shape[1] == 800 and torch.equal(kept.col, whole.col) and torch.equal(kept.val, whole.val)
    assert torch.equal(kept.crow, whole.crow)


def test_a_keyframe_keeps_as_much_as_the_option_says():
    """Of each pixel 20 weights that count, as rooms have them, and as many that hardly do."""
    labels, pixels = patches(120, 160), 120 * 160
    gaussian = (torch.arange(pixels)[:, None] + torch.arange(40)) % pixels
    weight = torch.tensor([0.045] * 20 + [0.002] * 20).repeat(pixels)
    weights = BlendWeights(torch.arange(pixels + 1) * 40, gaussian.reshape(-1), weight, pixels)
    view = sample_view(patches_of(labels), weights, 8192, np.random.default_rng(0))
    assert 7000 < len(view.masks) <= 8192 and (view.weights.crow.diff() == 20).all()
    kept = [view.weights, *vars(view).values()]
    for rows in view.batches():  # what steps need of them, with the gradient, is kept as well
        batch = view.batch(rows, Batch.masked)
        kept += [batch.weights, batch.weights.transpose(), *vars(batch).values()]
    tensors = [each for some in kept for each in getattr(some, "__dict__", {"": some}).values()]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors if isinstance(t, torch.Tensor)}
    kibibytes = sum(storage.nbytes() for storage in storages.values()) / 1024
    assert kibibytes / len(view.masks) == pytest.approx(0.7, abs=0.15)
