"""View consensus as a whole: objects from masks that disagree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from lifting.tiles import CELLS, accuracy, tiles
from lifting.views import evidence, grouped, line

from lift_ros.evaluation.corruption import LEVELS, corrupt_masks
from lift_ros.lifting import lift
from lift_ros.lifting.config import LiftConfig
from lift_ros.lifting.evidence import MaskEvidence
from lift_ros.lifting.lift import Lift
from lift_ros.scene.neighbours import Neighbours

SIZE = 20  # Gaussians of a group; groups follow each other on a line
APART, TOGETHER = [[0], [1], [2]], [[0, 1], [2]]  # masks over three groups


def fresh(count: int, **options) -> Lift:
    """One that knows of ``count`` Gaussians."""
    method = Lift(LiftConfig(**options))
    method.edit(torch.full((count,), -1), torch.zeros(count, 3))
    return method


def groups_of(method: Lift, views: Sequence[MaskEvidence]) -> list[int]:
    """Label of each group, all of whose Gaussians must have it."""
    labels = method.decode([], views, line(3 * SIZE)).labels.reshape(-1, SIZE)
    assert (labels == labels[:, :1]).all()
    return labels[:, 0].tolist()


@pytest.mark.parametrize(("masks", "objects"), [(APART, 3), (TOGETHER, 2), ([[0, 1, 2]], 1)])
def test_what_masks_hold_is_an_object(masks, objects):
    labels = groups_of(fresh(3 * SIZE), [grouped(masks, SIZE)] * 2)
    assert len(set(labels)) == objects and min(labels) >= 0


def test_one_view_in_ten_does_not_join_two_objects():
    apart, together = [grouped(APART, SIZE)], [grouped(TOGETHER, SIZE)]
    assert len(set(groups_of(fresh(3 * SIZE), 9 * apart + together))) == 3
    assert len(set(groups_of(fresh(3 * SIZE), 4 * apart + 6 * together))) == 2


@pytest.mark.parametrize(("hysteresis", "changes"), [(0.1, False), (0.0, True)])
def test_a_decision_is_not_reversed_by_a_narrow_majority(hysteresis, changes):
    def after(first: int, second: int) -> list[int]:
        """Labels once ``first``, then ``second`` of 20 views hold groups 0 and 1 in one mask."""
        method = fresh(3 * SIZE, hysteresis=hysteresis, same_object_rate=0.4)
        for together in (first, second):
            labels = groups_of(method, [grouped(TOGETHER, SIZE)] * together + [grouped(APART, SIZE)] * (20 - together))
        return labels

    apart_then_nearly, together_then_hardly = after(6, 9), after(10, 7)
    assert (apart_then_nearly[0] == apart_then_nearly[1]) == changes
    assert (together_then_hardly[0] != together_then_hardly[1]) == changes
    assert len(set(after(6, 14)[:2])) == 1 and len(set(after(14, 2)[:2])) == 2  # a clear one does


def test_what_glimpses_link_does_not_go_over_to_the_other_object(monkeypatch):
    """A table (40 Gaussians) and a box (50) on it; all near views show but one half of the box."""
    table, box, half = np.arange(90) < 40, np.arange(90) >= 40, np.arange(90) >= 60

    def view(pixels: float, *masks: np.ndarray) -> MaskEvidence:
        return evidence(pixels * np.stack(masks))

    first, second, both = view(10, table, box & ~half), view(10, table, box & half), view(2, table, box)
    views, method = [first] * 4 + [second] * 3 + [both] * 4, fresh(90)
    before = method.decode([], views, line(90)).labels
    assert len(set(before[:40].tolist())) == len(set(before[40:].tolist())) == 1 and before[0] != before[40]
    monkeypatch.setattr(lift, "local_parts", lambda *_: np.zeros(90, np.int64))
    after = method.decode([], views, line(90)).labels
    assert len(set(after[:40].tolist())) == len(set(after[40:].tolist())) == 1 and after[0] != after[40]


def test_a_small_object_that_touches_a_large_one_is_found():
    """15 Gaussians on a floor of 100."""
    table = np.zeros((2, 115), np.float32)
    table[0, :100] = table[1, 100:] = 10
    labels = fresh(115).decode([], [evidence(table)] * 3, line(115)).labels
    assert len(set(labels[:100].tolist())) == len(set(labels[100:].tolist())) == 1
    assert labels[0] != labels[100]


def test_objects_that_were_taken_out_of_a_floor_together_are_two(monkeypatch):
    """Chains of glimpses linked both to it. Ten views show the first of them, three of these the second as well."""
    monkeypatch.setattr(lift, "local_parts", lambda *_: np.zeros(140, np.int64))
    table = np.zeros((3, 140), np.float32)
    table[0, :100] = table[1, 100:120] = table[2, 120:] = 10
    views = [evidence(table)] * 3 + [evidence(table[:2])] * 7
    labels = fresh(140).decode([], views, line(140)).labels
    assert [len(set(part.tolist())) for part in labels.split([100, 20, 20])] == [1, 1, 1]
    assert len(set(labels.tolist())) == 3


def test_what_lies_in_no_mask_is_no_object():
    """A wall of 40 Gaussians without a mask, around an object."""
    table = np.zeros((1, 60), np.float32)
    table[0, 20:40] = 10
    labels = fresh(60).decode([], [evidence(table)] * 3, line(60)).labels
    assert (labels[20:40] == labels[30]).all() and labels[30] >= 0
    assert (labels[:20] == -1).all() and (labels[40:] == -1).all()


def test_confidence_is_the_share_of_the_votes():
    """Gaussian 9 lies half in the one mask, half in the other; the view that holds all in one mask has no vote."""
    table = np.zeros((2, 20), np.float32)
    table[0, :9] = table[1, 10:] = 10
    table[0, 9], table[1, 9] = 6, 4
    over_both = evidence(np.full((1, 20), 10.0))
    decoded = fresh(20).decode([], [evidence(table)] * 9 + [over_both], line(20))
    assert decoded.confidence.tolist() == pytest.approx([1.0] * 9 + [0.6] + [1.0] * 10)
    assert len(set(decoded.labels[:10].tolist())) == 1


def test_corrupt_masks_still_give_the_objects():
    """Masks split, merged, dropped and frayed at level L1. A part of the views makes them fail if they are shuffled."""
    world = tiles(views=12)
    neighbours = Neighbours.of(world.scene.means)

    def found(shuffled: bool) -> torch.Tensor:
        rng = np.random.default_rng(0)
        views = []
        for camera in world.cameras:
            masks = corrupt_masks(world.masks(camera, rng).astype(np.uint16), LEVELS["L1"], rng)
            if shuffled:
                masks = rng.permutation(masks.reshape(-1)).reshape(masks.shape)
            views.append(MaskEvidence.of(world.weights(camera), masks.astype(np.int32)))
        return fresh(len(world.scene)).decode([], views, neighbours).labels

    labels = found(shuffled=False)
    assert accuracy(labels, world.objects) > 0.9
    assert len(labels.unique()) == CELLS
    assert torch.equal(labels, found(shuffled=False))
    assert accuracy(found(shuffled=True), world.objects) < 0.5


def test_nothing_to_go_by():
    assert fresh(5).decode([], [], line(5)).labels.tolist() == [-1] * 5
    assert fresh(0).decode([], [grouped([], 1)], line(0)).labels.tolist() == []
    assert (fresh(5).decode([], [grouped([], 1)], line(5)).labels == -1).all()
