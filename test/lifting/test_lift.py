"""View consensus as a whole: objects from masks that disagree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from lifting.tiles import CELLS, Tiles, accuracy, shuffled, tiles
from lifting.views import evidence, grouped, line

from lift_ros.evaluation.corruption import LEVELS, corrupt_masks
from lift_ros.evidence.linkage import DOUBT
from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.lifting import lift
from lift_ros.lifting.config import LiftConfig
from lift_ros.lifting.consensus import vote
from lift_ros.lifting.lift import Lift
from lift_ros.masks.base import Patches
from lift_ros.render import BlendWeights
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


# -- wholes and clicks -------------------------------------------------------------------------------------------------


def click(count: int, *gaussians: int) -> BlendWeights:
    """Each click shows one of ``count`` Gaussians."""
    return BlendWeights(torch.arange(len(gaussians) + 1), torch.tensor(gaussians), torch.ones(len(gaussians)), count)


def nested(world: Tiles, wrong: bool = False) -> list[MaskEvidence]:
    """What masks of objects, and of wholes over them, say; ``wrong``: of places that are not theirs."""
    rng, found = np.random.default_rng(0), []
    for camera in world.cameras:
        masks = world.nested_masks(camera, rng)
        patches, weights = Patches.of(shuffled(masks, rng) if wrong else masks), world.weights(camera)
        found.append(MaskEvidence.of(weights, patches.label_image()))
        found[-1].wholes = MaskEvidence.of(weights, patches.label_image(largest=True))
    return found


@pytest.fixture(scope="module")
def world() -> Tiles:
    return tiles(views=8)


def test_wholes_are_what_the_largest_masks_hold(world):
    near = Neighbours.of(world.scene.means)
    decoded = fresh(len(world.scene)).decode([], nested(world), near)
    assert accuracy(decoded.labels, world.objects) > 0.95 and accuracy(decoded.wholes, world.wholes) > 0.95
    assert accuracy(fresh(len(world.scene)).decode([], nested(world, wrong=True), near).wholes, world.wholes) < 0.5


def test_masks_that_do_not_overlap_make_no_wholes():
    assert fresh(3 * SIZE).decode([], [grouped(APART, SIZE)] * 2, line(3 * SIZE)).wholes is None


def test_views_whose_masks_do_not_overlap_have_a_say_about_wholes():
    """Three of ten views know the parts 0 and 1 of one whole; as many hold them in one mask, or in two."""
    both = grouped(APART, SIZE)
    both.wholes = grouped(TOGETHER, SIZE)

    def wholes(others: list[MaskEvidence]) -> int:
        method = fresh(3 * SIZE, same_object_rate=0.6)
        return len(set(method.decode([], [both] * 3 + others, line(3 * SIZE)).wholes.tolist()))

    assert wholes([grouped(TOGETHER, SIZE)] * 3 + [grouped(APART, SIZE)] * 3) == 2
    assert wholes([grouped(APART, SIZE)] * 6) == 3


def test_a_whole_is_not_given_up_for_a_narrow_majority():
    both, apart = grouped(APART, SIZE), grouped(APART, SIZE)
    both.wholes = grouped(TOGETHER, SIZE)
    found = []
    for hysteresis in (0.1, 0.0):
        method = fresh(3 * SIZE, hysteresis=hysteresis, same_object_rate=0.5)
        for views in (11, 9):
            wholes = method.decode([], [both] * views + [apart] * (20 - views), line(3 * SIZE)).wholes
        found.append(len(set(wholes.tolist())))
    assert found == [2, 3]


def test_a_click_selects_what_masks_hold_together_as_often_as_asked():
    """Groups 0 and 1 share a mask in 6 of 20 views, 2 shares one with both in 2 of these. A view that shows 100 pixels
    of a group counts a tenth.
    """
    views = [grouped([[0, 1, 2]], SIZE)] * 2 + [grouped(TOGETHER, SIZE)] * 4 + [grouped(APART, SIZE)] * 14
    method = fresh(3 * SIZE + 1, same_object_rate=0.5)
    method.decode([], views, line(3 * SIZE + 1))
    scores = method.similarity(click(3 * SIZE + 1, 0))
    expected = [[1.0] * SIZE, [0.6 / (2 + DOUBT)] * SIZE, [0.4 / (4 + DOUBT)] * SIZE, [-1.0]]
    assert scores.tolist() == pytest.approx(sum(expected, []), abs=1e-3)
    several = method.similarity(click(3 * SIZE + 1, 0, 2 * SIZE, 3 * SIZE))  # the last shows nothing that masks know
    assert several.tolist() == pytest.approx(sum([expected[0], expected[1], expected[0], expected[3]], []), abs=1e-3)
    assert (method.similarity(click(3 * SIZE + 1, 3 * SIZE)) == -1).all()


def test_the_threshold_of_a_click_goes_from_a_part_to_the_whole(world):
    method = fresh(len(world.scene))
    method.decode([], nested(world), Neighbours.of(world.scene.means))
    for which in (0, 300, 500):
        scores = method.similarity(click(len(world.scene), which))
        for threshold, truth in ((0.3, world.objects), (0.09, world.wholes)):
            chosen = scores > threshold
            assert (chosen == (truth == truth[which])).float().mean() > 0.97


def test_what_the_largest_masks_hold_is_joined_after_the_objects():
    """Groups 0 and 1 share a mask in 6 of 20 views, in each the largest mask holds 0 and 2, and never 1."""
    together, apart = grouped(TOGETHER, SIZE), grouped(APART, SIZE)
    together.wholes = apart.wholes = grouped([[0, 2], [1]], SIZE)
    method = fresh(3 * SIZE, same_object_rate=0.25)
    labels = method.decode([], [together] * 6 + [apart] * 14, line(3 * SIZE)).labels
    scores = method.similarity(click(3 * SIZE, 0))
    assert torch.equal(scores > 0.25, labels == labels[0]) and labels[SIZE] == labels[0] != labels[2 * SIZE]
    assert 0 < scores[2 * SIZE] < 0.25


def test_a_click_on_what_votes_moved_selects_the_object_that_it_is_now(monkeypatch):
    def moved(labels: np.ndarray, *rest: object) -> tuple[np.ndarray, np.ndarray]:
        labels, share = vote(labels, *rest)
        labels[SIZE - 1] = labels[2 * SIZE]
        return labels, share

    monkeypatch.setattr(lift, "vote", moved)
    method = fresh(3 * SIZE)
    labels = method.decode([], [grouped(APART, SIZE)] * 2, line(3 * SIZE)).labels
    for which in (SIZE - 1, 2 * SIZE, 0):
        assert torch.equal(method.similarity(click(3 * SIZE, which)) > 0.3, labels == labels[which])


def test_what_no_mask_shows_any_more_can_be_clicked_on():
    """Groups 0 and 1 are one object; later half of it is seen, later nothing."""
    method, near = fresh(3 * SIZE), line(3 * SIZE)
    before = method.decode([], [grouped(TOGETHER, SIZE)] * 3 + [grouped(APART, SIZE)] * 3, near).labels
    for masks in ([[0], [2]], [[2]], [[2]]):
        views = [grouped(masks, SIZE).without(np.arange(3 * SIZE) == 0)] * 2
        method.decode([], views, near)
        for which in (0, SIZE - 1, 2 * SIZE - 1, 2 * SIZE):
            assert torch.equal(method.similarity(click(3 * SIZE, which)) > 0.3, before == before[which])
    method.decode([], [grouped([], SIZE)], near)  # nothing at all
    assert torch.equal(method.similarity(click(3 * SIZE, 0)) > 0.3, before == before[0])


def test_of_very_many_parts_the_largest_are_joined(monkeypatch):
    """Memory grows with the square of those that are."""
    masks = [grouped([[0, 1], [2], [3]], SIZE)] * 3
    kept = np.ones(4 * SIZE, bool)
    kept[2 * SIZE + 10 : 3 * SIZE] = False  # group 2 is the smallest
    views = [view.without(~kept) for view in masks]
    labels = []
    for most in (lift.MAX_PARTS, 3):
        monkeypatch.setattr(lift, "MAX_PARTS", most)
        method = fresh(4 * SIZE)
        labels.append(method.decode([], [grouped([[0], [1], [2], [3]], SIZE), *views], line(4 * SIZE)).labels)
    assert torch.equal(*labels) and labels[0][0] == labels[0][SIZE] != labels[0][3 * SIZE]


def test_what_is_out_of_sight_costs_no_more_with_every_update():
    """Groups 1 and 2 were seen once; the parts that stand for them are as many after every update."""
    method, near = fresh(3 * SIZE), line(3 * SIZE)
    before = method.decode([], [grouped(APART, SIZE)] * 2, near).labels
    highest = []
    for _ in range(4):
        method.decode([], [grouped([[0]], SIZE)] * 2, near)
        highest.append(int(method.state()["gaussian.lift.part"].max()))
    assert highest == [3] * 4
    assert torch.equal(method.similarity(click(3 * SIZE, SIZE)) > 0.3, before == before[SIZE])


@pytest.mark.parametrize("how", ["a file", "an edit"])
def test_a_whole_is_remembered_over(how):
    """As long as a narrow majority is against it."""
    both, apart = grouped(APART, SIZE), grouped(APART, SIZE)
    both.wholes = grouped(TOGETHER, SIZE)
    method = fresh(3 * SIZE, hysteresis=0.1, same_object_rate=0.5)
    method.decode([], [both] * 11 + [apart] * 9, line(3 * SIZE))
    if how == "a file":
        state = method.state()
        method = fresh(3 * SIZE, hysteresis=0.1, same_object_rate=0.5)
        method.load_state(state)
    else:
        method.edit(torch.arange(3 * SIZE), torch.zeros(3 * SIZE, 3))
    wholes = method.decode([], [both] * 9 + [apart] * 11, line(3 * SIZE)).wholes
    assert len(set(wholes.tolist())) == 2


def test_clicks_and_wholes_outlast_a_file_and_edits(world):
    count, near = len(world.scene), Neighbours.of(world.scene.means)
    method = fresh(count)
    before = method.decode([], nested(world), near).wholes
    scores = method.similarity(click(count, 300))
    loaded = fresh(count)
    loaded.load_state(method.state())
    assert torch.equal(loaded.similarity(click(count, 300)), scores)
    assert torch.equal(loaded.decode([], nested(world), near).wholes, before)

    origin = torch.randperm(count, generator=torch.Generator().manual_seed(0))[: count // 2]
    where = int((origin == origin.min()).nonzero()[0])
    few = method.similarity(click(count, int(origin.min())))
    method.edit(torch.cat([origin, torch.tensor([-1])]), torch.zeros(len(origin) + 1, 3))
    assert torch.equal(method.similarity(click(len(origin) + 1, where)), torch.cat([few[origin], torch.tensor([-1.0])]))


def test_a_method_that_has_decoded_nothing_knows_no_parts():
    assert fresh(4).similarity(click(4, 0)).tolist() == [-1] * 4


def test_nothing_to_go_by():
    assert fresh(5).decode([], [], line(5)).labels.tolist() == [-1] * 5
    assert fresh(0).decode([], [grouped([], 1)], line(0)).labels.tolist() == []
    assert (fresh(5).decode([], [grouped([], 1)], line(5)).labels == -1).all()
