"""Prompts from a rendered label image."""

from __future__ import annotations

import numpy as np
import pytest

from lift_ros.masks.prompting import make_prompts, most_interior_pixel


def rendered(labels: np.ndarray, share: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    full = np.full(labels.shape, share, np.float32)
    return labels, full, np.full(labels.shape, 0.98, np.float32)


def test_one_point_inside_each_visible_object():
    labels = np.zeros((60, 80), np.uint32)
    labels[5:25, 5:25] = 4_000_000_000
    labels[30:50, 20:70] = 12
    labels[0:2, 60:70] = 9  # too small
    prompts = make_prompts(*rendered(labels))
    assert prompts.points.shape == (2, 2)
    column, row = prompts.points.astype(int).T
    np.testing.assert_array_equal(labels[row, column], (12, 4_000_000_000))
    np.testing.assert_allclose(prompts.points[1], (15, 15), atol=1)
    np.testing.assert_array_equal(prompts.explained, labels > 0)


def test_point_of_a_ring_lies_on_the_ring():
    y, x = np.mgrid[:80, :80]
    radius = np.hypot(y - 40, x - 40)
    labels = ((radius > 20) & (radius < 35)).astype(np.uint32)
    (column, row) = make_prompts(*rendered(labels)).points[0].astype(int)
    assert labels[row, column] == 1


def test_all_one_object():
    prompts = make_prompts(*rendered(np.full((40, 60), 5, np.uint32)))
    assert prompts.explained.all()
    np.testing.assert_allclose(prompts.points, [[30, 20]], atol=12)


def test_nothing_known():
    prompts = make_prompts(*rendered(np.zeros((40, 60), np.uint32)))
    assert prompts.points.shape == (0, 2)
    assert not prompts.explained.any()


def test_weak_labels_explain_nothing():
    labels = np.ones((40, 60), np.uint32)
    assert not make_prompts(*rendered(labels, share=0.4)).explained.any()
    see_through = make_prompts(labels, np.ones((40, 60), np.float32), np.full((40, 60), 0.3, np.float32))
    assert not see_through.explained.any()
    assert len(see_through.points) == 0


def test_silhouettes_between_objects_are_not_news_but_gaps_are():
    labels = np.ones((60, 80), np.uint32)
    labels[:, 20:22] = 0
    labels[20:40, 50:70] = 0
    prompts = make_prompts(*rendered(labels))
    assert prompts.explained[:, 20:22].all()
    assert not prompts.explained[25:35, 55:65].any()


def test_most_interior_pixel_counts_the_border_as_outside():
    assert most_interior_pixel(np.ones((5, 9), bool))[0] == 2


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="differ in size"):
        make_prompts(np.zeros((4, 4), int), np.zeros((4, 4)), np.zeros((4, 5)))


def test_what_is_ignored_is_not_asked_about():
    labels = np.zeros((60, 80), np.uint32)
    labels[20:40, 20:60] = 12
    ignored = np.zeros(labels.shape, bool)
    ignored[:, 30:] = True
    prompts = make_prompts(*rendered(labels), ignored)
    assert prompts.explained[:, 30:].all() and not prompts.explained[:10, :20].any()
    assert prompts.points.shape == (1, 2) and 20 < prompts.points[0, 0] < 30  # in what is left of the object
    whole = np.ones(labels.shape, bool)
    assert len(make_prompts(*rendered(labels), whole).points) == 0
