"""Labels that follow the edges of the picture."""

from __future__ import annotations

import numpy as np
import pytest

from lift_ros.render import edges, follow_edges

SIZE = (120, 160)


def literal(labels: np.ndarray, image: np.ndarray, depth: np.ndarray | None, passes: int) -> np.ndarray:
    """The filter pixel by pixel, over the whole image: only pixels near borders can change."""
    height, width = labels.shape
    scale = min(width / 640, 1)
    radius, distance = max(round(edges.RADIUS * scale), 2), max(edges.DISTANCE * scale, 1.0)
    for _ in range(passes):
        before = labels.copy()
        for y in range(height):
            for x in range(width):
                votes: dict[int, float] = {int(before[y, x]): 0.0}
                for v in range(max(y - radius, 0), min(y + radius, height - 1) + 1):
                    for u in range(max(x - radius, 0), min(x + radius, width - 1) + 1):
                        unlike = ((u - x) ** 2 + (v - y) ** 2) / distance**2
                        known = depth is not None and depth[y, x] > 0 and depth[v, u] > 0
                        sigma = edges.COLOR if known else edges.COLOR_ALONE
                        unlike += ((image[v, u].astype(float) - image[y, x]) ** 2).sum() / sigma**2
                        if known:
                            unlike += (depth[v, u] / depth[y, x] - 1) ** 2 / edges.DEPTH**2
                        vote = np.exp(-unlike / 2) if unlike < 2 * 12 else 0.0
                        votes[int(before[v, u])] = votes.get(int(before[v, u]), 0.0) + vote
                labels[y, x] = max(votes, key=lambda label: votes[label])
    return labels


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True labels (H, W), image and depth of a disc before a wall."""
    height, width = SIZE
    y, x = np.mgrid[:height, :width]
    inside = (x - 80) ** 2 + (y - 60) ** 2 < 35**2
    rng = np.random.default_rng(0)
    color = np.where(inside[..., None], (180, 60, 50), (90, 110, 150)) + rng.normal(0, 5, (height, width, 3))
    depth = np.where(inside, 1.0, 1.5) * (1 + rng.normal(0, 0.002, SIZE))
    return np.where(inside, 7, 0).astype(np.int32), color.clip(0, 255).astype(np.uint8), depth.astype(np.float32)


def off_by(truth: np.ndarray, pixels: int) -> np.ndarray:
    return np.roll(truth, pixels, axis=1)


@pytest.mark.parametrize("with_depth", [True, False, "holes"])
def test_is_its_definition(with_depth: bool | str) -> None:
    truth, image, depth = scene()
    labels = off_by(truth, 1)[30:70, 30:90].copy()
    image, depth = image[30:70, 30:90].copy(), depth[30:70, 30:90].copy() if with_depth else None
    if with_depth == "holes":
        depth[np.random.default_rng(1).random(depth.shape) < 0.3] = 0
    found = follow_edges(labels, image, depth)
    assert (found != literal(labels.copy(), image, depth, edges.PASSES)).mean() < 1e-3  # votes that are all but equal


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2, 17), (33, 9), (4, 640)])
def test_is_its_definition_at_any_size(size: tuple[int, int]) -> None:
    """Narrower than vectors, with borders in corners and last columns, and with the window of a wide image."""
    rng = np.random.default_rng(5)
    labels = rng.integers(-2, 3, size).astype(np.int32)
    image, depth = rng.integers(0, 60, (*size, 3), np.uint8), rng.uniform(1, 1.02, size).astype(np.float32)
    depth.flat[::7], depth.flat[::11] = np.nan, np.inf
    known = np.where(np.isfinite(depth), depth, 0)
    expected = literal(labels.copy(), image, known, edges.PASSES)
    assert (follow_edges(labels, image, known) != expected).mean() < 1e-3
    assert np.isin(follow_edges(labels, image, depth), labels).all()


@pytest.mark.parametrize("signs", ["both", "depth", "colour", "no depth image"])
def test_borders_move_to_the_edge(signs: str) -> None:
    truth, image, depth = scene()
    truth, image, depth = (np.kron(a, np.ones((4, 4) + (1,) * (a.ndim - 2), a.dtype)) for a in (truth, image, depth))
    if signs == "depth":
        image = np.full_like(image, 128)
    if signs == "colour":
        depth = np.ones_like(depth)
    labels = off_by(truth, 2)
    found = follow_edges(labels, image, None if signs == "no depth image" else depth)
    assert found.dtype == np.int32
    assert (found != truth).sum() < 0.35 * (labels != truth).sum()


def test_without_an_edge_borders_stay() -> None:
    truth, image, depth = scene()
    found = follow_edges(truth, np.full_like(image, 100), np.ones_like(depth))
    assert (found != truth).sum() < 0.02 * (truth > 0).sum()


def test_unknown_depth_leaves_it_to_colour() -> None:
    truth, image, depth = scene()
    labels = off_by(truth, 1)
    found = follow_edges(labels, image, np.zeros_like(depth))
    assert (found != truth).sum() < (labels != truth).sum()


def test_no_new_labels_and_far_from_borders_nothing_changes() -> None:
    rng = np.random.default_rng(3)
    image, depth = rng.integers(0, 255, (*SIZE, 3), np.uint8), rng.uniform(1, 2, SIZE).astype(np.float32)
    labels = np.zeros(SIZE, np.int32)
    labels[:60] = 2**31 - 1
    found = follow_edges(labels, image, depth)
    assert set(np.unique(found)) <= {0, 2**31 - 1}
    assert np.array_equal(found[:50], labels[:50]) and np.array_equal(found[70:], labels[70:])


def test_among_many_labels_a_pixel_that_is_like_no_other_keeps_its_own() -> None:
    """More labels than compete for the pixels of a vector: what is left out must be of others."""
    rng = np.random.default_rng(4)
    labels = rng.permutation(60 * 80).reshape(60, 80).astype(np.int32)
    image = np.zeros((60, 80, 3), np.uint8)
    image[::2, :, 0], image[:, ::2, 1], image[1::4, :, 2], image[:, 1::4, 2] = 255, 255, 255, 255
    depth = rng.permutation(np.geomspace(1, 1e9, labels.size)).reshape(labels.shape).astype(np.float32)
    assert np.array_equal(follow_edges(labels, image, depth), labels)


def test_input_is_left_alone_and_need_not_be_contiguous() -> None:
    truth, image, depth = scene()
    labels = off_by(truth, 2)
    copy = labels.copy()
    found = follow_edges(labels[:, ::-1], image[:, ::-1], depth[:, ::-1])
    assert np.array_equal(labels, copy)
    assert (found[:, ::-1] == follow_edges(labels, image, depth)).mean() > 0.999


def test_sizes_must_agree() -> None:
    truth, image, depth = scene()
    with pytest.raises(ValueError, match="one size"):
        follow_edges(truth[:-1], image, depth)
    with pytest.raises(ValueError, match="one size"):
        follow_edges(truth, image, depth[:, :-1])


def test_the_one_label_that_cannot_be_is_refused() -> None:
    truth, image, depth = scene()
    truth[3, 4] = -(2**31)
    with pytest.raises(ValueError, match="greater than"):
        follow_edges(truth, image, depth)
