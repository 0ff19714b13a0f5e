"""Objects persist: through labels that change at every step, through growth, merges, splits and a saved state."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from lifting.views import evidence, grouped, line

from lift_ros.errors import LiftError, MapFileError
from lift_ros.evidence.mask_evidence import MaskEvidence
from lift_ros.objects.config import ObjectsConfig
from lift_ros.objects.registry import ObjectEvent, ObjectRegistry, Track
from lift_ros.scene.neighbours import Neighbours

SIZE = 20  # Gaussians of a group; groups follow each other on a line
APART, TOGETHER = [[0], [1], [2]], [[0, 1], [2]]  # masks over three groups


def registry(count: int, **options) -> ObjectRegistry:
    """One that knows of ``count`` Gaussians and no objects."""
    made = ObjectRegistry(ObjectsConfig(**{"min_views": 2, **options}))
    made.edit(np.full(count, -1))
    return made


def labels_of(objects: list[list[int]], seed: int = 0) -> np.ndarray:
    """(N,) a transient label of each object, which is a list of groups."""
    label = np.random.default_rng(seed).permutation(1000)
    of_group = {group: label[number] for number, groups in enumerate(objects) for group in groups}
    return np.repeat([of_group[group] for group in sorted(of_group)], SIZE)


def update(
    registry: ObjectRegistry,
    views: Sequence[MaskEvidence],
    objects: list[list[int]] = APART,
    seed: int = 0,
    stamp: float = 0.0,
) -> list[ObjectEvent]:
    labels = labels_of(objects, seed)
    return registry.update(labels, line(len(labels)), views, stamp + np.arange(len(views)))


def groups_of(registry: ObjectRegistry) -> list[int]:
    """Id of each group, all of whose Gaussians must have it."""
    rows = registry.ids.reshape(-1, SIZE)
    assert (rows == rows[:, :1]).all()
    return rows[:, 0].tolist()


def grown(objects: ObjectRegistry, more: int) -> None:
    """``more`` Gaussians that belong to nothing yet."""
    count = len(objects.ids)
    objects.edit(np.append(np.arange(count), np.full(more, -1)))


def seen(mask: list[int], gaussian: list[int], weight: list[float]) -> MaskEvidence:
    arrays = np.array(mask, np.int32), np.array(gaussian, np.int32), np.array(weight, np.float32)
    return MaskEvidence(*arrays, np.ones(max(mask) + 1, np.float32))


def test_new_gaussians_join_the_object_of_their_mask_at_once():
    objects = registry(2 * SIZE)
    views = [grouped([[0], [1]], SIZE)] * 2
    update(objects, views, [[0], [1]])
    grown(objects, 3)
    a, b, first, second, third = 0, SIZE, 2 * SIZE, 2 * SIZE + 1, 2 * SIZE + 2
    objects.adopt(seen([0, 0, 1, 1, 1, 2], [a, first, b, first, second, third], [3.0, 2.0, 3.0, 1.0, 2.0, 1.0]))
    assert objects.ids[[first, second]].tolist() == objects.ids[[a, b]].tolist()  # the first shows more in a's mask
    assert objects.ids[third] == 0  # its mask shows nothing that is known
    assert objects.ids[[a, b]].tolist() == [1, 2]
    assert sorted(objects.tracks) == [1, 2]


@pytest.mark.parametrize(
    "weights",
    [[3.0, 1.0, 1.0], [0.4, 0.0, 2.0]],
    ids=["two objects in one mask", "too little of it known"],
)
def test_a_mask_that_tells_little_gives_no_object(weights: list[float]):
    objects = registry(2 * SIZE)
    update(objects, [grouped([[0], [1]], SIZE)] * 2, [[0], [1]])
    grown(objects, 1)
    objects.adopt(seen([0, 0, 0], [0, SIZE, 2 * SIZE], weights))
    assert objects.ids[-1] == 0


def test_what_may_become_an_object_is_not_adopted_by_another_meanwhile():
    """Two views of three show the second group: it is not published yet, but known to be something else."""
    objects = registry(2 * SIZE, min_views=3)
    update(objects, [grouped([[0], [1]], SIZE)] * 2 + [grouped([[0]], SIZE)], [[0], [1]])
    assert groups_of(objects) == [1, 0]
    grown(objects, 2)
    mostly_first = seen([0, 0, 0], [0, SIZE, 2 * SIZE], [9.0, 1.0, 1.0])
    mostly_second = seen([0, 0, 0], [0, SIZE, 2 * SIZE + 1], [1.0, 9.0, 1.0])
    for view in (mostly_first, mostly_second):
        objects.adopt(view)
    assert objects.ids[[0, SIZE, 2 * SIZE, 2 * SIZE + 1]].tolist() == [1, 0, 1, 0]
    objects.edit(np.arange(2 * SIZE))
    objects.adopt(seen([0, 0], [0, SIZE], [9.0, 1.0]))
    assert groups_of(objects) == [1, 0]


def test_what_was_adopted_is_asked_again_at_the_next_update():
    objects = registry(2 * SIZE)
    update(objects, [grouped([[0], [1]], SIZE)] * 2, [[0], [1]])
    grown(objects, SIZE)
    new = np.arange(2 * SIZE, 3 * SIZE)
    merged = seen([0] * (SIZE + 1), [0, *new], [10.0] + [1.0] * SIZE)
    objects.adopt(merged)
    assert (objects.ids[new] == objects.ids[0]).all()
    update(objects, [grouped(APART, SIZE)] * 3, APART)
    assert groups_of(objects) == [1, 2, 3]


def test_objects_are_born_with_what_is_known_of_them():
    objects = registry(3 * SIZE)
    hides_the_third = grouped([[0], [1]], SIZE)
    hides_the_third.gaussian[:] %= 2 * SIZE
    events = update(objects, [grouped(APART, SIZE), hides_the_third, grouped(APART, SIZE)], stamp=100.0)
    assert events == [ObjectEvent("birth", 1), ObjectEvent("birth", 2), ObjectEvent("birth", 3)]
    first, second, third = (objects.tracks[i] for i in groups_of(objects))
    assert first == Track(first.id, 100.0, 102.0, 3, 1.0)
    assert (third.first_seen, third.last_seen, third.views) == (100.0, 102.0, 2)
    assert second.confidence == 1.0


def test_confidence_is_the_mean_iou_with_the_best_masks():
    objects = registry(2 * SIZE, min_views=1)
    # one view holds both groups in one mask, IoU 1/2 each, the others hold them apart
    views = [grouped([[0], [1]], SIZE)] * 3 + [grouped([[0, 1]], SIZE)]
    update(objects, views, objects=[[0], [1]])
    assert [track.confidence for track in objects.tracks.values()] == pytest.approx([7 / 8, 7 / 8])


def test_ids_survive_new_labels():
    objects = registry(3 * SIZE)
    views = [grouped(APART, SIZE)] * 2
    update(objects, views)
    ids = groups_of(objects)
    for seed in range(1, 6):
        assert update(objects, views, seed=seed) == []
        assert groups_of(objects) == ids


def test_ids_survive_growth():
    """Each group starts with 8 Gaussians and ends with 20; a fourth appears."""
    objects = registry(3 * 8, min_gaussians=4)
    views = [grouped(APART, 8)] * 2
    objects.update(np.repeat([0, 1, 2], 8), line(24), views, [0.0, 1.0])
    small = objects.ids[::8].tolist()

    origin = np.full(4 * SIZE, -1)
    for group in range(3):
        origin[group * SIZE : group * SIZE + 8] = np.arange(group * 8, group * 8 + 8)
    objects.edit(origin)
    assert (objects.ids > 0).sum() == 24
    views = [view.follow(torch.from_numpy(origin)) for view in views] + [grouped([[0], [1], [2], [3]], SIZE)] * 2
    events = update(objects, views, objects=[[0], [1], [2], [3]])
    assert groups_of(objects) == [*small, 4]
    assert events == [ObjectEvent("birth", 4)]


def test_pruned_and_split_gaussians_keep_their_object():
    objects = registry(3 * SIZE)
    update(objects, [grouped(APART, SIZE)] * 2)
    ids = objects.ids.copy()
    origin = np.array([3, 25, 25, -1, 59])
    objects.edit(origin)
    assert objects.ids.tolist() == [ids[3], ids[25], ids[25], 0, ids[59]]


def test_two_objects_turn_out_to_be_one():
    objects = registry(3 * SIZE)
    views = [grouped(APART, SIZE)] * 2
    update(objects, views)
    a, b, c = groups_of(objects)
    views += [grouped(TOGETHER, SIZE)] * 6
    events = update(objects, views, TOGETHER)
    assert groups_of(objects) in ([a, a, c], [b, b, c])
    kept = groups_of(objects)[0]
    assert events == [ObjectEvent("merge", kept, (a + b - kept,))]
    assert set(objects.tracks) == {kept, c}
    assert objects.tracks[kept].first_seen == 0.0


def test_an_object_turns_out_to_be_two():
    objects = registry(3 * SIZE)
    views = [grouped(TOGETHER, SIZE)] * 2
    update(objects, views, TOGETHER)
    a, _, c = groups_of(objects)
    assert set(objects.tracks) == {a, c} == {1, 2}
    views += [grouped(APART, SIZE)] * 6
    events = update(objects, views)
    assert sorted(groups_of(objects)) == [1, 2, 3]
    assert groups_of(objects)[2] == c and a in groups_of(objects)[:2]
    assert events == [ObjectEvent("split", a, (3,))]


def test_the_larger_half_keeps_the_id():
    objects = registry(3 * SIZE)
    views = [grouped([[0, 1, 2]], SIZE)] * 2
    update(objects, views, [[0, 1, 2]])
    update(objects, views + [grouped(TOGETHER, SIZE)] * 8, TOGETHER)
    assert groups_of(objects) == [1, 1, 2]


def test_ids_of_what_is_gone_are_not_given_again():
    objects = registry(3 * SIZE)
    update(objects, [grouped(APART, SIZE)] * 2)
    last = groups_of(objects)[2]
    assert last == 3

    objects.edit(np.arange(2 * SIZE))
    views = [grouped([[0], [1]], SIZE)] * 2
    assert update(objects, views, objects=[[0], [1]]) == [ObjectEvent("retire", last)]
    assert last not in objects.tracks

    objects.edit(np.concatenate([np.arange(2 * SIZE), np.full(SIZE, -1)]))
    assert update(objects, [grouped(APART, SIZE)] * 2) == [ObjectEvent("birth", 4)]
    assert groups_of(objects)[2] == 4


def test_an_object_does_not_take_over_the_id_of_one_it_barely_shares():
    """Object 2 becomes part of 1, but for two Gaussians, which a much larger new object swallows: that is not 2."""
    objects = registry(3 * SIZE)
    update(objects, [grouped(APART, SIZE)] * 2)
    a, b, c = groups_of(objects)
    ids = objects.ids.copy()
    ids[2 * SIZE :] = 0  # the third group is not known yet,
    ids[2 * SIZE : 2 * SIZE + 2] = b  # but for a frayed border
    rows = objects.rows() | {"gaussian.object_id": ids}
    objects.load_state(rows, {"next_id": 4, "tracks": [vars(objects.tracks[i]) for i in (a, b)]})
    events = update(objects, [grouped(TOGETHER, SIZE)] * 8, TOGETHER)
    kept = groups_of(objects)[0]
    assert groups_of(objects)[2] == 4
    assert events == [ObjectEvent("merge", kept, (a + b - kept,)), ObjectEvent("birth", 4)]


def test_a_few_gaussians_of_an_object_that_is_out_of_view_are_not_its_identity():
    """Three groups become known from one side of the room; then views of the other side show two more, the first of
    which takes a few Gaussians of the last known one along."""
    objects = registry(5 * SIZE)
    near = line(5 * SIZE)
    one = np.repeat([0, 1, 2, -1, -1], SIZE)
    objects.update(one, near, [grouped([[0], [1], [2], [3, 4]], SIZE)] * 2, [0.0, 1.0])
    objects.ids[3 * SIZE :] = 0
    other = np.repeat([-1, -1, -1, 3, 4], SIZE)
    other[3 * SIZE - 2 : 3 * SIZE] = 3
    shown = grouped([[0, 1, 2], [3], [4]], SIZE)
    views = [shown.without(np.arange(5 * SIZE) < 3 * SIZE - 2)] * 2
    events = objects.update(other, near, views, [2.0, 3.0])
    assert [event.type for event in events] == ["birth", "birth"]
    assert len(set(objects.ids[SIZE // 2 :: SIZE].tolist())) == 5  # five groups, five objects


def test_small_objects_and_glimpses_are_not_published():
    means = torch.arange(3 * SIZE)[:, None] * torch.tensor([[1.0, 0, 0]])
    means[SIZE:] += 1000  # group 0 is an island
    islands = Neighbours.of(means, k=2)
    objects = registry(3 * SIZE, min_gaussians=SIZE + 1)
    objects.update(np.repeat([0, 1], (SIZE, 2 * SIZE)), islands, [grouped([[0], [1, 2]], SIZE)] * 2, [0.0, 1.0])
    assert groups_of(objects) == [0, 1, 1]

    objects = registry(3 * SIZE, min_views=3)
    glimpse = grouped([[0], [1]], SIZE)
    update(objects, [grouped(APART, SIZE)] * 2 + [glimpse] * 4)
    assert groups_of(objects) == [1, 2, 0]
    first = registry(3 * SIZE, min_views=3)
    assert update(first, [grouped(APART, SIZE)]) == [] and groups_of(first) == [0, 0, 0]  # nothing confirms them
    update(first, [grouped(APART, SIZE), glimpse])
    assert groups_of(first) == [1, 2, 0]  # at the beginning, two will do
    both = [grouped(APART, SIZE)] * 2
    early = registry(3 * SIZE, min_views=3)
    update(early, both)
    assert update(early, [*both, glimpse]) == [] and groups_of(early) == [1, 2, 3]  # and what is published stays
    alone = registry(3 * SIZE, min_views=1)
    update(alone, [grouped(APART, SIZE)])
    assert groups_of(alone) == [1, 2, 3]


def test_what_masks_hardly_agree_on_is_not_published_but_stays_for_less():
    """In the views that disagree, groups 0 to 4 lie in one mask: IoU 0.2 with what is decoded as an object."""
    groups = [[0], [1], [2], [3], [4]]
    agree, disagree = grouped(groups, SIZE), grouped([[0, 1, 2, 3, 4]], SIZE)
    unsure = [agree] * 2 + [disagree] * 8  # mean IoU 0.36
    objects = registry(5 * SIZE, min_confidence=0.5)
    update(objects, unsure, groups)
    assert groups_of(objects) == [0] * 5 and objects.tracks == {}
    update(objects, [agree] * 5, groups)
    assert update(objects, unsure, groups) == []
    assert groups_of(objects) == [1, 2, 3, 4, 5]
    update(objects, [disagree] * 10, groups)
    assert objects.tracks == {}


def test_an_object_that_comes_back_has_the_id_that_it_had():
    groups = [[0], [1], [2]]
    agree, disagree = grouped(groups, SIZE), grouped([[0, 1, 2]], SIZE)
    objects = registry(3 * SIZE, min_confidence=0.9)
    update(objects, [agree] * 3, groups)
    before = groups_of(objects)
    lost = update(objects, [disagree] * 3, groups)
    assert [event.type for event in lost] == ["retire"] * 3
    objects.edit(np.concatenate([np.full(SIZE, -1), np.arange(3 * SIZE)]))  # the scene goes on changing
    found = update(objects, [agree.follow(torch.from_numpy(np.arange(-SIZE, 3 * SIZE)))] * 3, [[3], *groups])
    assert sorted(event.id for event in found) == sorted(before)
    assert groups_of(objects)[1:] == before


def test_an_object_that_comes_back_in_pieces_keeps_its_id():
    objects = registry(3 * SIZE, min_gaussians=4)
    views, near, whole = [grouped(APART, SIZE)] * 2, line(3 * SIZE), labels_of(APART)
    update(objects, views)
    before, usual = groups_of(objects), objects.config
    objects.config = replace(usual, min_confidence=10.0)
    update(objects, views)
    assert objects.tracks == {}
    objects.config = replace(usual, min_confidence=0.01)
    some, larger_half = whole.copy(), whole.copy()
    some[8:SIZE] = -1
    larger_half[:6] = 1000
    for labels in (some, larger_half, whole):
        objects.update(labels, near, views, [0.0, 1.0])
    assert groups_of(objects) == before


def lost(groups: int) -> ObjectRegistry:
    """Knows of one object of that many groups, 1, which was lost."""
    objects = registry(groups * SIZE, min_gaussians=4)
    views = [grouped([list(range(groups))], SIZE)] * 2
    update(objects, views, [list(range(groups))])
    usual = objects.config
    objects.config = replace(usual, min_confidence=10.0)
    update(objects, views, [list(range(groups))])
    assert objects.tracks == {}
    objects.config = replace(usual, min_confidence=0.01)
    return objects


@pytest.mark.parametrize("frayed", [0, 1, 4])
def test_what_an_object_did_not_bring_along_when_it_came_back_does_not_take_its_id(frayed):
    """However much of it there is, where it is found as something else, with a few of the object's Gaussians."""
    objects, views = lost(3), [grouped([[0], [1, 2]], SIZE)] * 2
    for labels in ([5, -1, -1], [5, 7, 7]):
        of = np.repeat(labels, SIZE)
        of[SIZE - frayed : SIZE] = of[SIZE]
        events = objects.update(of, line(3 * SIZE), views, [0.0, 1.0])
        assert objects.ids[: SIZE - frayed].tolist() == [1] * (SIZE - frayed) and events[-1].id == max(objects.tracks)
    assert objects.ids[SIZE:].tolist() == [2] * (2 * SIZE)


def test_an_object_that_came_back_small_grows_under_its_id():
    objects = lost(5)
    views = [grouped([[0], [1, 2, 3, 4]], SIZE)] * 2
    objects.update(np.repeat([5, -1, -1, -1, -1], SIZE), line(5 * SIZE), views, [0.0, 1.0])
    before = np.flatnonzero(objects.ids == 1)
    # 60 new Gaussians, beside those that are back
    objects.edit(np.concatenate([np.arange(SIZE), np.full(3 * SIZE, -1), np.arange(SIZE, 5 * SIZE)]))
    views = [grouped([[0, 1, 2, 3], [4, 5, 6, 7]], SIZE)] * 2
    events = objects.update(np.repeat([5] * 4 + [-1] * 4, SIZE), line(8 * SIZE), views, [2.0, 3.0])
    assert len(before) == SIZE and events == [] and groups_of(objects) == [1] * 4 + [0] * 4


def test_no_two_objects_have_one_id():
    """Object 3 comes back with some of its Gaussians; the others, by then of another object, never claim its id."""
    objects = registry(4 * SIZE)
    objects.ids = np.repeat([1, 2, 4, 4], SIZE)
    objects.tracks = {i: Track(i, 0.0, 1.0, 2, 1.0) for i in (1, 2, 4)}
    objects._next_id = 5
    objects._former = np.repeat([0, 3, 0, 3], SIZE)
    groups = [[0], [1], [2], [3]]
    objects.update(labels_of(groups), line(4 * SIZE), [grouped(groups, SIZE)] * 2, [0.0, 1.0])
    ids = groups_of(objects)
    assert ids[:2] == [1, 2] and sorted(ids[2:]) == [3, 4]
    assert not (objects._former == 3).any()
    update(objects, [grouped([[0], [1, 2, 3]], SIZE)] * 2, objects=[[0], [1, 2, 3]])
    assert len(set(groups_of(objects))) == 2


def test_a_merger_that_is_taken_back_leaves_both_ids():
    objects = registry(3 * SIZE)
    update(objects, [grouped(APART, SIZE)] * 2)
    before = groups_of(objects)
    (merged,) = update(objects, [grouped(TOGETHER, SIZE)] * 2, TOGETHER)
    (back,) = update(objects, [grouped(APART, SIZE)] * 2)
    assert groups_of(objects) == before
    assert back == ObjectEvent("split", merged.id, merged.others)


def test_objects_of_one_label_that_do_not_touch_are_two():
    """Two objects that no view shows together may get the same code."""
    objects = registry(2 * SIZE)
    means = torch.arange(2 * SIZE)[:, None] * torch.tensor([[1.0, 0, 0]])
    means[SIZE:] += 1000
    first, second = grouped([[0]], SIZE), grouped([[1]], SIZE)
    views = [first, second] * 3
    objects.update(np.zeros(2 * SIZE, int), Neighbours.of(means, k=2), views, np.arange(6.0))
    assert sorted(groups_of(objects)) == [1, 2]


@pytest.mark.parametrize(("together", "objects_there"), [(6, 1), (4, 1), (2, 2), (0, 2)])
def test_objects_of_one_label_that_do_not_touch_are_one_where_most_masks_hold_them(together: int, objects_there: int):
    """The legs of a chair are one part of it, whose pieces are each too small a share of its masks to be objects."""
    count = 3 * SIZE
    objects = registry(count, min_confidence=0.6)
    means = torch.arange(count)[:, None] * torch.tensor([[1.0, 0, 0]])
    means[SIZE:] += 1000
    means[2 * SIZE :] += 1000
    labels = np.repeat([0, 0, 1], SIZE)
    views = [grouped([[0, 1], [2]], SIZE)] * together + [grouped([[0], [1], [2]], SIZE)] * (6 - together)
    objects.update(labels, Neighbours.of(means, k=2), views, np.arange(6.0))
    one, two, other = groups_of(objects)
    assert (one == two) == (objects_there == 1) and one > 0 and other not in (0, one, two)
    assert len(objects.tracks) == objects_there + 1


def apart(count: int) -> Neighbours:
    """Of groups that do not touch."""
    means = torch.arange(count * SIZE)[:, None] * torch.tensor([[1.0, 0, 0]])
    return Neighbours.of(means + 1000 * (torch.arange(count * SIZE) // SIZE)[:, None], k=2)


def test_a_glimpse_makes_nothing_one():
    objects = registry(2 * SIZE)
    spilt = seen([0] * (SIZE + 1), list(range(SIZE + 1)), [50.0] * SIZE + [0.5])  # a mask of the first, and a bit
    views = [grouped([[0]], SIZE)] * 20 + [grouped([[1]], SIZE)] * 20 + [spilt]
    objects.update(np.zeros(2 * SIZE, int), apart(2), views, np.arange(41.0))
    assert sorted(groups_of(objects)) == [1, 2]


def test_things_that_share_masks_in_pairs_only_are_not_all_one():
    count = 6
    objects = registry(count * SIZE, min_confidence=0.3)
    pairs = [[[0, 1], [2, 3], [4, 5]], [[0], [1, 2], [3, 4], [5]]]
    views = [grouped(masks, SIZE) for masks in pairs] * 6
    objects.update(np.zeros(count * SIZE, int), apart(count), views, np.arange(12.0))
    assert sorted(groups_of(objects)) == [1, 2, 3, 4, 5, 6]


def test_what_half_of_the_masks_hold_together_stays_what_it_was():
    together, alone = grouped([[0, 1]], SIZE), grouped([[0], [1]], SIZE)
    for first, ids in (([together] * 3, 1), ([alone] * 3, 2)):
        objects = registry(2 * SIZE)
        objects.update(np.zeros(2 * SIZE, int), apart(2), first, np.arange(3.0))
        assert len(set(groups_of(objects))) == ids
        for more in range(1, 4):
            views = [together] * (10 + more % 2) + [alone] * 10
            events = objects.update(np.zeros(2 * SIZE, int), apart(2), views, np.arange(float(len(views))))
            assert not events and len(set(groups_of(objects))) == ids


def test_parts_of_two_labels_under_one_mask_are_two_objects():
    objects = registry(4 * SIZE, min_confidence=0.3)
    views = [grouped([[0, 1, 2, 3]], SIZE)] * 4
    objects.update(np.repeat([0, 0, 1, 1], SIZE), apart(4), views, np.arange(4.0))
    a, b, c, d = groups_of(objects)
    assert a == b != c == d


def test_nothing_to_go_by():
    objects = registry(3 * SIZE)
    assert update(objects, []) == []
    empty = registry(0)
    assert empty.update(np.zeros(0, int), line(0), [grouped([], 1)], [0.0]) == []
    few = registry(3)
    assert few.update(np.zeros(3, int), line(3), [grouped([[0]], 3)] * 2, [0.0, 1.0]) == []
    assert few.ids.tolist() == [0, 0, 0]


def test_state_goes_through_json():
    objects = registry(3 * SIZE)
    views = [grouped(APART, SIZE)] * 2
    update(objects, views)
    objects.edit(np.arange(2 * SIZE))
    update(objects, [grouped([[0], [1]], SIZE)] * 2, objects=[[0], [1]])

    restored = ObjectRegistry(objects.config)
    restored.load_state(objects.rows(), json.loads(json.dumps(objects.state())))
    assert restored.tracks == objects.tracks
    assert update(restored, [grouped([[0], [1]], SIZE)] * 2, objects=[[0], [1]], seed=3) == []
    assert np.array_equal(restored.ids, objects.ids)
    restored.edit(np.concatenate([np.arange(2 * SIZE), np.full(SIZE, -1)]))
    assert update(restored, views) == [ObjectEvent("birth", 4)]  # 3 has been used


def saved_and_loaded(objects: ObjectRegistry) -> ObjectRegistry:
    restored = ObjectRegistry(objects.config)
    rows = {name: row.copy() for name, row in objects.rows().items()}
    restored.load_state(rows, json.loads(json.dumps(objects.state())))
    return restored


def test_what_was_lost_before_saving_comes_back_with_the_id_that_it_had():
    objects = registry(3 * SIZE)
    update(objects, [grouped(APART, SIZE)] * 2)
    update(objects, [grouped(TOGETHER, SIZE)] * 2, TOGETHER)
    (swallowed,) = {1, 2, 3} - set(groups_of(objects))
    restored = saved_and_loaded(objects)
    for each in (objects, restored):
        (back,) = update(each, [grouped(APART, SIZE)] * 2)
        assert back.others == (swallowed,) and groups_of(each) == [1, 2, 3]


def test_what_was_to_become_an_object_before_saving_is_adopted_by_none_after():
    objects = registry(2 * SIZE, min_views=3)
    update(objects, [grouped([[0], [1]], SIZE)] * 2 + [grouped([[0]], SIZE)], [[0], [1]])
    restored = saved_and_loaded(objects)
    for each in (objects, restored):
        each.adopt(seen([0, 0], [0, SIZE], [9.0, 1.0]))
        assert groups_of(each) == [1, 0]


def test_views_of_a_loaded_map_count_once():
    """Loaded evidence stands for keyframes that are gone: their number and times are those that were saved."""
    objects = registry(3 * SIZE)
    update(objects, [grouped(APART, SIZE)] * 5, stamp=10.0)
    restored = ObjectRegistry(ObjectsConfig(min_views=2))
    restored.load_state(objects.rows(), objects.state())
    prior = [MaskEvidence.of_objects(objects.ids)] * 2
    only_two = grouped([[0], [1]], SIZE)

    def later(views: Sequence[MaskEvidence]) -> None:
        stamps = [50.0, 50.0, *(60.0 + np.arange(len(views)))]
        restored.update(labels_of(APART), line(3 * SIZE), [*prior, *views], stamps, loaded=2)

    later([])
    assert restored.tracks == objects.tracks
    later([only_two] * 3)
    first, _, third = (restored.tracks[i] for i in groups_of(restored))
    assert (first.first_seen, first.last_seen, first.views) == (10.0, 62.0, 8)
    assert (third.first_seen, third.last_seen, third.views) == (10.0, 14.0, 5)
    seen = dict(restored.tracks)
    later([])  # those keyframes were let go of
    assert restored.tracks == seen


def test_a_loaded_map_stays_as_sure_of_its_objects_as_its_views_were():
    """Four views hold object 0 in a mask twice its size, and one since then in one of its own; none shows 1 again."""
    objects = registry(2 * SIZE, min_confidence=0.1)
    update(objects, [grouped([[0, 1]], SIZE)] * 4, [[0], [1]])
    assert [objects.tracks[i].confidence for i in groups_of(objects)] == pytest.approx([0.5, 0.5])
    restored = saved_and_loaded(objects)
    prior = [MaskEvidence.of_objects(objects.ids)] * 2
    labels = np.where(objects.ids > 0, objects.ids, -1)
    for views, expected in (([], 0.5), ([grouped([[0]], SIZE)], (4 * 0.5 + 1) / 5), ([], (4 * 0.5 + 1) / 5)):
        stamps = [50.0, 50.0, *(60.0 + np.arange(len(views)))]
        restored.update(labels, line(2 * SIZE), [*prior, *views], stamps, loaded=2)
        first, second = groups_of(restored)
        assert restored.tracks[first].confidence == pytest.approx(expected)
        assert restored.tracks[second].confidence == pytest.approx(0.5)


def test_a_state_that_lacks_an_object_is_refused():
    rows = dict.fromkeys(ObjectRegistry(ObjectsConfig()).rows(), np.zeros(2, np.int64))
    rows["gaussian.object_id"] = np.array([0, 7])
    with pytest.raises(MapFileError, match="does not list: .7"):
        ObjectRegistry(ObjectsConfig()).load_state(rows, {"next_id": 8, "tracks": []})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"next_id": 1}, "would have the id 1, but there are ids up to 3"),
        ({"next_id": None}, "cannot be read"),
        ({"tracks": [{"id": 1, "confidential": 0.5}]}, "cannot be read"),
        ({"tracks": [{"views": 1}]}, "cannot be read"),
    ],
)
def test_a_state_that_makes_no_sense_is_refused(change, message):
    objects = registry(3 * SIZE)
    update(objects, [grouped(APART, SIZE)] * 2)
    state = json.loads(json.dumps(objects.state())) | change
    with pytest.raises(MapFileError, match=message):
        ObjectRegistry(ObjectsConfig()).load_state(objects.rows(), state)


@pytest.mark.parametrize("fails", ["_identify", "_retire", "_describe"])
def test_an_update_that_fails_changes_nothing(monkeypatch, fails):
    objects, views = registry(3 * SIZE), [grouped(APART, SIZE)] * 2
    update(objects, views, TOGETHER)
    ids, rows, state = objects.ids.copy(), {k: v.copy() for k, v in objects.rows().items()}, objects.state()

    def out_of_memory(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(objects, fails, out_of_memory)
        update(objects, views, APART)
    assert objects.state() == state and (objects.ids == ids).all()
    assert all((objects.rows()[name] == row).all() for name, row in rows.items())
    assert {event.type for event in update(objects, views, APART)} == {"split"}


# -- wholes ------------------------------------------------------------------------------------------------------------


def update_wholes(objects: ObjectRegistry, wholes: list[int], views: Sequence[MaskEvidence]) -> list[ObjectEvent]:
    """``wholes``: of each of the three groups, in the numbers of the moment."""
    labels = labels_of(APART)
    return objects.update(labels, line(3 * SIZE), views, np.arange(len(views)), wholes=np.repeat(wholes, SIZE))


def parents_of(objects: ObjectRegistry) -> list[int]:
    return [objects.tracks[i].parent for i in groups_of(objects)]


def test_parts_of_one_whole_have_one_parent_that_persists():
    objects, views = registry(3 * SIZE), [grouped(APART, SIZE)] * 3
    events = update_wholes(objects, [8, 8, 3], views)
    a, b, c = groups_of(objects)
    whole = parents_of(objects)[0]
    assert parents_of(objects) == [whole, whole, 0] and whole not in (0, a, b, c)  # one part is no whole
    assert ObjectEvent("birth", whole) in events
    assert objects.tracks[whole] == Track(whole, 0.0, 2.0, 3, 1.0)
    assert not set(objects.ids.tolist()) & {whole}
    assert update_wholes(objects, [1, 1, 2], views) == []  # other numbers, the same wholes
    assert parents_of(objects) == [whole, whole, 0]
    update_wholes(objects, [4, 4, 4], views)
    assert parents_of(objects) == [whole] * 3


def test_a_whole_that_falls_apart_is_retired_and_its_parts_stay():
    objects, views = registry(3 * SIZE), [grouped(APART, SIZE)] * 3
    update_wholes(objects, [8, 8, 3], views)
    parts, whole = groups_of(objects), parents_of(objects)[0]
    assert update_wholes(objects, [0, 1, 2], views) == [ObjectEvent("retire", whole)]
    assert groups_of(objects) == parts and parents_of(objects) == [0, 0, 0]
    assert whole not in objects.tracks
    update_wholes(objects, [-1, -1, 2], views)  # what lies in no whole has none
    assert parents_of(objects) == [0, 0, 0]


@pytest.mark.parametrize("hidden", [[0], [0, 1]])
def test_wholes_outlast_views_that_show_their_parts(hidden):
    objects, views = registry(3 * SIZE), [grouped(APART, SIZE)] * 3
    update_wholes(objects, [8, 8, 3], views)
    parts, parents = groups_of(objects), parents_of(objects)
    rest = [view.without(np.isin(np.arange(3 * SIZE) // SIZE, hidden)) for view in views]
    assert update_wholes(objects, [8, 8, 3], rest) == []
    assert groups_of(objects) == parts and parents_of(objects) == parents and parents[0] in objects.tracks
    assert update_wholes(objects, [8, 8, 3], views) == []
    assert parents_of(objects) == parents


@pytest.mark.parametrize("named", ["part", "whole"])
def test_what_is_removed_is_forgotten_for_good(named):
    objects, views = registry(3 * SIZE), [grouped(APART, SIZE)] * 3
    update_wholes(objects, [8, 8, 3], views)
    (a, b, c), whole = groups_of(objects), parents_of(objects)[0]
    gone = objects.gaussians_of(a if named == "part" else whole)
    groups = [0] if named == "part" else [0, 1]
    assert np.array_equal(gone, np.isin(np.arange(3 * SIZE) // SIZE, groups))
    objects.edit(np.flatnonzero(~gone))
    removed = [a] if named == "part" else sorted([a, b, whole])
    assert objects.remove(removed[0] if named == "part" else whole) == [ObjectEvent("retire", i) for i in removed]
    assert sorted(objects.tracks) == sorted({a, b, c, whole} - set(removed))
    with pytest.raises(LiftError, match=f"no object {a}"):
        objects.gaussians_of(a)
    grown(objects, len(groups) * SIZE)  # it is still there: seen again, at the end
    order = [1, 2, 0] if named == "part" else [2, 0, 1]
    again = [grouped([[order.index(group)] for group in range(3)], SIZE)] * 3
    update(objects, again, [[order.index(group)] for group in range(3)])
    ids = dict(zip(order, groups_of(objects), strict=True))
    assert ids[2] == c and ids[0] not in (0, a, b, c, whole) and (named == "whole" or ids[1] == b)


def test_the_last_part_of_a_whole_takes_it_along():
    objects, views = registry(3 * SIZE), [grouped(APART, SIZE)] * 3
    update_wholes(objects, [8, 8, 3], views)
    (a, b, c), whole = groups_of(objects), parents_of(objects)[0]
    for part, left in ((a, {b, c, whole}), (b, {c})):
        objects.edit(np.flatnonzero(~objects.gaussians_of(part)))
        objects.remove(part)
        assert set(objects.tracks) == left


def test_wholes_survive_a_saved_state():
    objects, views = registry(3 * SIZE), [grouped(APART, SIZE)] * 3
    update_wholes(objects, [8, 8, 3], views)
    restored = ObjectRegistry(ObjectsConfig(min_views=2))
    restored.load_state(objects.rows(), json.loads(json.dumps(objects.state())))
    assert update_wholes(restored, [5, 5, 9], views) == []
    assert parents_of(restored) == parents_of(objects)


def test_look_alikes_that_do_not_touch_are_two_wholes():
    """Groups 0 and 1 lie next to each other, as do 2 and 3, far away; one code stands for both pairs."""
    objects, groups = registry(4 * SIZE), [[0], [1], [2], [3]]
    means = torch.arange(4 * SIZE)[:, None] * torch.tensor([[1.0, 0, 0]])
    means[2 * SIZE :] += 1000
    views = [grouped(groups, SIZE)] * 3
    labels = labels_of(groups)
    objects.update(labels, Neighbours.of(means, k=2), views, np.arange(3), wholes=np.zeros(4 * SIZE, int))
    a, b, c, d = parents_of(objects)
    assert a == b != c == d and 0 not in (a, c)


@pytest.mark.parametrize("held", [True, False])
def test_a_whole_whose_parts_do_not_touch_is_one_where_masks_hold_them_together(held):
    objects, views = registry(3 * SIZE), [grouped(APART, SIZE) for _ in range(3)]
    for view in views:
        view.wholes = grouped(TOGETHER if held else APART, SIZE)
    means = torch.arange(3 * SIZE)[:, None] * torch.tensor([[1.0, 0, 0]])
    means[SIZE:] += 1000
    objects.update(labels_of(APART), Neighbours.of(means, k=2), views, np.arange(3), wholes=np.repeat([0, 0, 1], SIZE))
    a, b, c = parents_of(objects)
    assert c == 0 and (a == b > 0 if held else a == b == 0)


def test_an_object_that_enough_views_showed_outlasts_them():
    """Views may be let go of; one that never had enough is not known for being there already."""
    objects = registry(3 * SIZE, min_views=3)
    whole, third_hidden = grouped(APART, SIZE), grouped([[0], [1]], SIZE)
    update(objects, [whole, whole, third_hidden, third_hidden])
    assert len(objects.tracks) == 2
    update(objects, [whole, whole, whole, third_hidden])
    ids = groups_of(objects)
    assert len(objects.tracks) == 3
    update(objects, [whole, third_hidden, third_hidden], stamp=50.0)
    assert groups_of(objects) == ids
    third = objects.tracks[ids[2]]
    assert (third.views, third.first_seen, third.last_seen) == (3, 0.0, 50.0)
    assert update(objects, [third_hidden] * 3) == []
    assert groups_of(objects) == ids and objects.tracks[ids[2]] == third  # none is left that could say otherwise


def test_last_seen_follows_a_clock_that_was_set_back():
    """As where a bag is played again: the latest keyframe is the last that was taken, whatever its stamp."""
    objects, whole, third_hidden = registry(3 * SIZE), grouped(APART, SIZE), grouped([[0], [1]], SIZE)
    views, stamps, labels = [whole, whole, third_hidden], np.array([1000.0, 1001.0, 10.0]), labels_of(APART)
    objects.update(labels, line(len(labels)), views[:2], stamps[:2])
    first, _, third = groups_of(objects)
    objects.update(labels, line(len(labels)), views, stamps)
    assert (objects.tracks[first].first_seen, objects.tracks[first].last_seen) == (1000.0, 10.0)
    assert (objects.tracks[third].first_seen, objects.tracks[third].last_seen) == (1000.0, 1001.0)
    objects.update(labels, line(len(labels)), views[1:], stamps[1:])  # the first was let go of
    assert (objects.tracks[first].first_seen, objects.tracks[first].last_seen) == (1000.0, 10.0)


def test_what_no_view_shows_of_an_object_stays_its_own():
    objects = registry(3 * SIZE, min_gaussians=10)
    update(objects, [grouped(APART, SIZE)] * 2)
    ids = groups_of(objects)
    # of the first object 5 Gaussians are still shown, of the second 15, of the third all, which turn out to be nothing
    shown = np.zeros((2, 3 * SIZE))
    shown[0, :5] = shown[1, SIZE : SIZE + 15] = 5
    shown[1, 2 * SIZE :] = 0.01
    labels = np.full(3 * SIZE, -1)
    labels[SIZE : SIZE + 15] = 0
    objects.update(labels, line(3 * SIZE), [evidence(shown)] * 2, [7.0, 8.0])
    assert groups_of(objects) == [*ids[:2], 0]
    assert (objects.ids[: 2 * SIZE] == np.repeat(ids[:2], SIZE)).all()
    assert set(objects.tracks) == set(ids[:2])


def test_what_no_view_shows_of_an_object_follows_what_it_becomes():
    objects = registry(3 * SIZE, min_gaussians=5)
    update(objects, [grouped(APART, SIZE)] * 2)
    first, second, _ = groups_of(objects)
    # all views see the first two as one, but for the last Gaussians of the second
    hidden = slice(2 * SIZE - SIZE // 3, 2 * SIZE)
    shown = np.zeros((2, 3 * SIZE))
    shown[0, : 2 * SIZE] = shown[1, 2 * SIZE :] = 5
    shown[0, hidden] = 0
    labels = np.repeat([0, 0, 1], SIZE)
    labels[hidden] = -1
    events = objects.update(labels, line(3 * SIZE), [evidence(shown)] * 2, [7.0, 8.0])
    assert [(event.type, event.id, event.others) for event in events] == [("merge", first, (second,))]
    assert (objects.ids[: 2 * SIZE] == first).all()


def test_what_no_view_shows_stays_as_sure_as_it_was_whatever_is_asked_of_it():
    objects = registry(3 * SIZE, min_confidence=0.0)
    update(objects, [grouped(APART, SIZE)] * 3)
    before = {i: replace(track) for i, track in objects.tracks.items()}
    third = groups_of(objects)[2]
    assert update(objects, [grouped([[0], [1]], SIZE)] * 3, stamp=50.0) == []
    assert objects.tracks[third] == before[third] and objects.tracks[third].confidence == 1.0


def test_a_lost_object_that_comes_back_as_two_gives_its_id_to_one_of_them():
    objects = lost(2)
    update(objects, [grouped([[0], [1]], SIZE)] * 3, [[0], [1]])
    assert sorted(groups_of(objects)) == [1, 2] and sorted(objects.tracks) == [1, 2]


def test_a_whole_was_seen_where_any_of_its_parts_was():
    objects = registry(3 * SIZE, min_views=1)
    views = [grouped([[0], [2]], SIZE), grouped([[1], [2]], SIZE), grouped(APART, SIZE), grouped([[2]], SIZE)]
    update_wholes(objects, [8, 8, 3], views)
    whole = objects.tracks[parents_of(objects)[0]]
    assert (whole.views, whole.first_seen, whole.last_seen) == (3, 0.0, 2.0)


def test_a_whole_is_as_sure_as_its_parts_by_their_size():
    """Of the larger part all masks agree, the smaller they hold in one twice its size."""
    size = 3 * SIZE
    objects = registry(size + 2 * SIZE, min_views=1)
    labels, table = np.repeat([0, 1, 2], [size, SIZE, SIZE]), np.zeros((2, size + 2 * SIZE))
    table[0, :size] = table[1, size:] = 5.0
    objects.update(
        labels, line(len(labels)), [evidence(table)] * 3, np.arange(3.0), wholes=np.repeat([8, 3], [size + SIZE, SIZE])
    )
    small = objects.tracks[int(objects.ids[size])]
    assert small.confidence == pytest.approx(0.5) and small.parent
    assert objects.tracks[small.parent].confidence == pytest.approx((3 * 1.0 + 1 * 0.5) / 4)


def test_a_new_object_that_has_something_of_several_came_out_of_none():
    """Of 20 Gaussians 8 were the first object's, 7 the second's, and 5 nobody's."""
    count = 2 * SIZE + 5
    objects = registry(count, min_gaussians=5)
    first, second = np.arange(count) < SIZE, np.arange(count) >= SIZE + 5
    before = np.select([first, second], [0, 1], -1)
    objects.update(before, line(count), [evidence(5.0 * np.stack([first, second]))] * 2, [0.0, 1.0])
    assert objects.ids[[0, SIZE, -1]].tolist() == [1, 0, 2]
    new = (np.arange(count) >= 12) & (np.arange(count) < 32)
    labels = np.select([new, first, second], [5, 0, 1], -1)
    views = [evidence(5.0 * np.stack([first & ~new, new, second & ~new]))] * 2
    assert objects.update(labels, line(count), views, [2.0, 3.0]) == [ObjectEvent("birth", 3)]


def test_what_a_lost_object_left_is_not_its_own_while_that_is_back():
    """It comes back with its first half; views that show nothing but the second half make that another object."""
    objects = lost(2)
    half = np.repeat([0, -1], SIZE)
    objects.update(half, line(2 * SIZE), [grouped([[0]], SIZE)] * 2, [0.0, 1.0])
    assert groups_of(objects) == [1, 0]
    rest = grouped([[0], [1]], SIZE).without(np.arange(2 * SIZE) < SIZE)
    objects.update(np.repeat([-1, 0], SIZE), line(2 * SIZE), [rest] * 2, [2.0, 3.0])
    assert groups_of(objects) == [1, 2] and sorted(objects.tracks) == [1, 2]


def test_a_part_whose_siblings_are_out_of_view_may_come_to_another_whole():
    groups = [[0], [1], [2], [3], [4]]
    objects, views = registry(5 * SIZE), [grouped(groups, SIZE)] * 3
    labels = labels_of(groups)

    def tell(wholes: list[int], views: Sequence[MaskEvidence]) -> list[int]:
        objects.update(labels, line(5 * SIZE), views, np.arange(len(views)), wholes=np.repeat(wholes, SIZE))
        return parents_of(objects)

    small, _, large, *_ = tell([1, 1, 2, 2, 2], views)
    assert 0 != small != large != 0
    rest = [view.without(np.arange(5 * SIZE) < SIZE) for view in views]
    assert tell([-1, 2, 2, 2, 2], rest) == [small, large, large, large, large]
