"""From the masks of a keyframe to the pixels that train embeddings."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.lifting.base import LiftingView
from lift_ros.masks.base import Patches
from lift_ros.render import BlendWeights

MIN_ALPHA = 0.5  # below, the blended embedding is mostly that of nothing, and its signs are noise
BATCH_PIXELS = 512  # of a step, at least
LARGEST_BATCH = 2048  # losses grow with pixels times masks
PIXELS_A_MASK = 32  # of a step on average, at least: else small masks are a pixel or two, and their codes never settle
MIN_WEIGHT = 0.003  # those below are half of all, and a hundredth of their sum
MIN_MASK_PIXELS = 12  # fewer pixels say nothing of a mask's mean embedding


def border_pairs(labels: NDArray[np.int32], gap: int = 3) -> NDArray[np.int64]:
    """(B, 2) flat indices of pixels ``gap`` apart that lie in two different masks (0 is none), each pair both ways."""
    height, width = labels.shape
    flat = np.arange(height * width).reshape(height, width)
    found = []
    for dy, dx in ((0, gap), (gap, 0), (gap, gap), (gap, -gap)):
        x0, x1 = max(-dx, 0), width - max(dx, 0)
        here = (slice(0, height - dy), slice(x0, x1))
        there = (slice(dy, height), slice(x0 + dx, x1 + dx))
        border = (labels[here] != labels[there]) & (labels[here] > 0) & (labels[there] > 0)
        found.append(np.stack([flat[here][border], flat[there][border]], axis=1))
    pairs = np.concatenate(found)
    return np.concatenate([pairs, pairs[:, ::-1]])


def _sample(
    pixels_of: list[NDArray[np.int64]],
    anywhere: NDArray[np.int64],
    pairs: NDArray[np.int64],
    share: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels (P,) of a batch, ascending: ``anywhere``, ``share`` of each of ``pixels_of`` (the masks), and the
    ``pairs`` (B, 2); and which of them the pairs are (B, 2).
    """
    even = [rng.choice(pixels, min(share, len(pixels)), replace=False) for pixels in pixels_of]
    chosen, position = np.unique(np.concatenate([anywhere, *even, pairs.reshape(-1)]), return_inverse=True)
    return chosen, position[len(position) - pairs.size :].reshape(-1, 2)


def sample_view(patches: Patches, weights: BlendWeights, count: int, rng: np.random.Generator) -> LiftingView:
    """Choose about ``count`` pixels of a keyframe: half anywhere, a quarter spread evenly over the masks, so that small
    ones are heard, and a quarter facing each other across borders (UniC-Lift's hard samples).

    So what the papers sum over pixels, areas included, counts small masks and borders for more than their share. Each
    batch, about ``BATCH_PIXELS`` or ``PIXELS_A_MASK`` for each mask, is a sample like that, with pixels of all masks:
    where half the masks at a time gave twice as many each, Unified-Lift lost 7 points on a room of 50 objects. Small
    masks give the same pixels to several batches where they have no others. Weights up to ``MIN_WEIGHT`` are left out,
    and the others stay as they are.

    Args:
        patches: the masks of the (H, W) image.
        weights: (H * W, N) blend weights of all pixels, row by row.
    """
    labels = patches.label_image()
    flat = labels.reshape(-1)
    values, number = np.unique(flat, return_inverse=True)
    pixels_of = [np.flatnonzero(number == k) for k, value in enumerate(values) if value > 0]
    pixels_of = [pixels for pixels in pixels_of if len(pixels) >= MIN_MASK_PIXELS]
    mask_of = np.full(len(flat), -1, np.int64)
    for k, pixels in enumerate(pixels_of):
        mask_of[pixels] = k
    solid = weights.alpha().cpu().numpy() >= MIN_ALPHA
    mask_of[~solid] = -1

    pairs = border_pairs(labels)
    pairs = pairs[(mask_of[pairs] >= 0).all(axis=1)]
    pairs = pairs[rng.permutation(len(pairs))[: count // 8]]
    anywhere = rng.choice(len(flat), min(count // 2, len(flat)), replace=False)
    wanted = min(max(BATCH_PIXELS, PIXELS_A_MASK * len(pixels_of)), LARGEST_BATCH)
    batches = max(round(min(count, len(flat)) / wanted), 1)
    share = max(count // batches // 4 // max(len(pixels_of), 1), 1)
    samples = [
        _sample(pixels_of, some, facing, share, rng)
        for some, facing in zip(np.array_split(anywhere, batches), np.array_split(pairs, batches), strict=True)
    ]
    ends = np.cumsum([len(chosen) for chosen, _ in samples])
    chosen = np.concatenate([chosen for chosen, _ in samples])
    rows = np.concatenate([end - len(chosen) + rows for end, (chosen, rows) in zip(ends, samples, strict=True)])
    device = weights.val.device
    by_area = patches.inside[:, np.argsort(patches.area, kind="stable")]
    inside = by_area[patches.index.reshape(-1)[chosen]] & solid[chosen, None]
    return LiftingView(
        weights.rows(torch.from_numpy(chosen).to(device)).above(MIN_WEIGHT),
        torch.from_numpy(mask_of[chosen]).to(device),
        len(pixels_of),
        torch.from_numpy(inside).to(device),
        torch.from_numpy(rows).to(device),
        tuple(ends.tolist()),
    )


def view_of_objects(ids: torch.Tensor, count: int, rng: np.random.Generator) -> LiftingView:
    """What a loaded map knows, in the form of a keyframe to decode with: each pixel shows one Gaussian, in the mask of
    its object.

    Args:
        ids: (N,) int64 object of each Gaussian, 0 for none.
        count: most pixels; objects have the same number of them, as far as they have Gaussians.
    """
    owner = ids.cpu().numpy()
    objects = np.unique(owner[owner > 0])
    share = max(count // max(len(objects), 1), 1)
    members = [rng.permutation(np.flatnonzero(owner == i))[:share] for i in objects.tolist()]
    gaussians = torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *members])).to(ids.device)
    masks = torch.from_numpy(np.repeat(np.arange(len(objects)), [len(some) for some in members])).to(ids.device)
    rows = torch.arange(len(masks) + 1, device=ids.device)
    inside = masks[:, None] == torch.arange(len(objects), device=ids.device)
    weights = BlendWeights(rows, gaussians, torch.ones(len(masks), device=ids.device), len(ids))
    return LiftingView(weights, masks, len(objects), inside, rows.new_zeros(0, 2))
