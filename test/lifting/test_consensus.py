"""View consensus on evidence small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lifting.views import evidence, grouped, line, partition

from lift_ros.evidence.counts import part_agreement, purity
from lift_ros.lifting.consensus import (
    cut_impure,
    cut_known,
    expel_strangers,
    local_parts,
    vote,
)
from lift_ros.scene.neighbours import Neighbours

# -- pieces ------------------------------------------------------------------------------------------------------------


def test_touching_gaussians_are_a_piece_if_masks_hardly_ever_part_them():
    whole = grouped([[0, 1], [2]], 4)
    parted = grouped([[0], [1], [2]], 4)
    views = [whole] * 3 + [parted]
    assert partition(local_parts(line(12), views, [0.7], 2)[:7]) == {frozenset(range(7))}
    pieces = local_parts(line(12), views, [0.8], 2)
    assert partition(pieces[[0, 1, 2, 5, 6, 9, 10]]) == {frozenset({0, 1, 2}), frozenset({3, 4}), frozenset({5, 6})}


def test_what_lies_between_pieces_links_none():
    """Gaussian 5 lies now in the one mask, now in the other, on its own."""
    left = evidence([[5] * 6 + [0] * 5, [0] * 6 + [5] * 5])
    right = evidence([[5] * 5 + [0] * 6, [0] * 5 + [5] * 6])
    pieces = local_parts(line(11), [left, right], [0.5], 2)
    assert pieces[0] == pieces[10]  # at half of the views, it does
    pieces = local_parts(line(11), [left, right], [0.9], 2)
    assert partition(pieces[[0, 1, 2, 3, 7, 8, 9, 10]]) == {frozenset(range(4)), frozenset(range(4, 8))}
    assert (pieces == pieces[5]).sum() == 1


def test_what_is_left_over_is_tried_at_the_next_rate():
    """The right half is cut in two in every other view, elsewhere each time."""
    views = [evidence([[5] * 6 + [0] * 6, [0] * 6 + [5] * 6])] * 2
    views += [evidence([[5] * 6 + [0] * 6, [0] * 6 + [5, 0] * 3, [0] * 6 + [0, 5] * 3])] * 2
    sure, both = (local_parts(line(12), views, rates, 3) for rates in ([0.9], [0.9, 0.5]))
    assert len(set(sure[:4].tolist())) == 1 and len(set(sure[7:].tolist())) == 5
    assert np.array_equal(sure[:4], both[:4]) and len(set(both[7:].tolist()) - {both[0]}) == 1


def test_pieces_need_views_and_touch():
    view = evidence([[5, 5, 5, 5, 5, 0]])
    far = Neighbours.of(torch.tensor([[x, 0, 0] for x in (0.0, 1, 2, 9, 10, 11)]), k=2)
    assert partition(local_parts(far, [view], [0.5], 2)) == {frozenset({0, 1, 2}), frozenset({3, 4}), frozenset({5})}
    assert local_parts(line(4), [], [0.5], 2).tolist() == [-1] * 4


def test_a_glimpse_of_a_gaussian_says_nothing_of_its_mask():
    sees, glimpses = evidence([[5, 5]]), evidence([[5, 0.2], [0, 0.09]])
    assert len(partition(local_parts(line(2), [sees, glimpses, glimpses, glimpses], [0.9], 2))) == 1


# -- agreement ---------------------------------------------------------------------------------------------------------


def test_agreement_is_the_chance_that_two_parts_lie_in_one_mask():
    """Parts of two Gaussians each. Mask 0 holds part 0 and a quarter of part 1, mask 1 the rest of part 1."""
    view = evidence([[600, 600, 400, 0], [0, 0, 400, 800]])
    agreed, seen = part_agreement(np.array([0, 0, 1, 1]), 2, [view])
    assert np.allclose(agreed, [[1, 0.1], [0.1, 0.1**2 + 0.9**2]])  # 0.25^2 : 0.75^2 = 0.1 : 0.9
    assert np.allclose(seen, 1)  # both show 1000 pixels or more


def test_views_count_by_what_they_show():
    parts = np.array([0, 1, 2])
    near = evidence([[1200, 500, 0], [0, 0, 1600]])  # part 1 shows 500 pixels: half a say
    far = evidence([[200, 200, 0], [0, 0, 3.0]])  # a fifth of a say, and part 2 is too small to have one
    agreed, seen = part_agreement(parts, 3, [near, far])
    assert np.allclose(seen, [[1.2, 0.7, 1.0], [0.7, 0.7, 0.5], [1.0, 0.5, 1.0]])
    assert np.allclose(agreed, [[1.2, 0.7, 0.0], [0.7, 0.7, 0.0], [0.0, 0.0, 1.0]])


def test_gaussians_of_no_part_have_no_say():
    view = evidence([[1000, 240]])
    agreed, seen = part_agreement(np.array([0, -1]), 1, [view])
    assert agreed.tolist() == seen.tolist() == [[1.0]]
    agreed, seen = part_agreement(np.array([-1, -1]), 0, [view])
    assert agreed.shape == seen.shape == (0, 0)


# -- merging -----------------------------------------------------------------------------------------------------------


def test_gaussians_that_share_no_mask_with_their_part_leave_it():
    """Of ten Gaussians of one part, the last has a mask of its own in two of three views, and is the floor's in one."""
    apart, together = np.zeros((2, 12)), np.zeros((2, 12))
    apart[0, :9] = apart[1, 9] = 10
    together[0, :10] = 10
    apart[1, 10] = together[1, 10] = 10  # part 1
    views = [evidence(apart), evidence(together), evidence(apart)]
    parts = np.array([0] * 10 + [1, -1])
    # in a third of its views the whole part is in its mask, else a tenth: 0.4
    expelled = expel_strangers(parts, 2, views, 0.45)
    assert expelled.tolist() == [0] * 9 + [2, 1, -1]
    assert np.array_equal(expel_strangers(parts, 2, views, 0.35), parts)


def test_strangers_of_different_parts_stay_apart():
    table = np.zeros((3, 10))
    table[0, :4] = table[1, 5:9] = table[2, [4, 9]] = 10
    expelled = expel_strangers(np.repeat([0, 1], 5), 2, [evidence(table)], 0.4)
    assert expelled.tolist() == [0] * 4 + [2] + [1] * 4 + [3]


def test_unseen_gaussians_are_no_strangers():
    assert expel_strangers(np.array([0, 0, 0]), 1, [evidence([[5, 5, 0]])], 0.9).tolist() == [0, 0, 0]
    assert expel_strangers(np.array([0, -1]), 1, [], 0.9).tolist() == [0, -1]
    assert expel_strangers(np.array([-1, -1]), 0, [evidence([[5, 5]])], 0.9).tolist() == [-1, -1]


# -- cutting -----------------------------------------------------------------------------------------------------------


def test_a_part_that_masks_divide_is_cut_where_they_do():
    """Ten Gaussians are one part; two of three views see 0-5 and 6-9 in two masks, the third all in one."""
    halves = np.zeros((2, 12))
    halves[0, :6] = halves[1, 6:10] = 10
    halves[0, 10:] = 0
    other = np.zeros((1, 12))
    other[0, 10:] = 10  # a part of its own
    divides = evidence(np.vstack([halves, other]))
    whole = evidence(np.vstack([halves.sum(0, keepdims=True), other]))
    parts = np.array([0] * 10 + [1] * 2)
    cut = cut_impure(parts, 2, [divides, whole, divides], 0.7, 2)
    assert partition(cut) == {frozenset(range(6)), frozenset(range(6, 10)), frozenset({10, 11})}
    assert cut.max() == 2 and (cut[:6] == 0).all()  # the largest piece keeps the number
    # purity (0.52 + 0.52 + 1) / 3 = 0.68
    assert np.array_equal(cut_impure(parts, 2, [divides, whole, divides], 0.65, 2), parts)
    assert np.array_equal(cut_impure(parts, 2, [divides, whole, divides], 0.7, 5), parts)
    assert np.array_equal(parts, [0] * 10 + [1] * 2)


def test_what_the_cutting_view_does_not_show_stays_with_the_largest_piece():
    table = np.zeros((2, 9))
    table[0, :3] = table[1, 3:7] = 10  # 7 and 8 are hidden
    cut = cut_impure(np.zeros(9, int), 1, [evidence(table)], 0.7, 2)
    assert partition(cut) == {frozenset({0, 1, 2}), frozenset({3, 4, 5, 6, 7, 8})}


def test_parts_cut_by_different_views_get_different_numbers():
    table = np.zeros((2, 8))
    table[0, :2] = table[1, 2:4] = 30
    first = evidence(table)
    second = evidence(np.roll(table, 4, axis=1))
    cut = cut_impure(np.array([0] * 4 + [1] * 4), 2, [first, second], 0.7, 2)
    assert partition(cut) == {frozenset({0, 1}), frozenset({2, 3}), frozenset({4, 5}), frozenset({6, 7})}


def literal_cut(parts: np.ndarray, tables: list[np.ndarray], pure_rate: float, min_size: int) -> set[frozenset[int]]:
    count = int(parts.max()) + 1
    pure, say, divided_by = purity(parts, count, [evidence(table) for table in tables])
    cut = parts.tolist()
    for k in range(count):
        if say[k] and pure[k] < pure_rate * say[k]:
            table = tables[divided_by[k]]
            strongest = np.where(table.any(0), table.argmax(0), -1)
            pieces = [np.flatnonzero((parts == k) & (strongest == m)) for m in range(len(table))]
            large = sorted((piece for piece in pieces if len(piece) >= min_size), key=lambda piece: -len(piece))
            for number, piece in enumerate(large[1:]):  # the largest stays
                for i in piece:
                    cut[i] = 1000 * (k + 1) + number
    return partition(np.array(cut))


@pytest.mark.parametrize("seed", range(3))
def test_impure_parts_are_cut_along_the_masks_of_one_view(seed):
    rng = np.random.default_rng(seed)
    tables = []
    for _ in range(6):
        table = np.zeros((5, 200))
        table[rng.integers(0, 5, 200), np.arange(200)] = rng.uniform(1, 4, 200)
        table[rng.integers(0, 5, 40), rng.integers(0, 200, 40)] += 1
        table[:, rng.random(200) < 0.3] = 0
        tables.append(table)
    parts = rng.integers(-1, 8, 200)
    cut = cut_impure(parts, 8, [evidence(table) for table in tables], 0.7, 4)
    assert partition(cut) == literal_cut(parts, tables, 0.7, 4) != partition(parts)
    assert (cut[parts < 0] == -1).all()


def test_every_part_may_have_its_own_rate():
    table = np.zeros((2, 8))
    table[0, [0, 1, 4, 5]] = table[1, [2, 3, 6, 7]] = 30
    parts = np.array([0] * 4 + [1] * 4)
    cut = cut_impure(parts, 2, [evidence(table)], np.array([0.4, 0.7]), 2)
    assert partition(cut) == {frozenset(range(4)), frozenset({4, 5}), frozenset({6, 7})}


def test_no_view_no_cut():
    assert cut_impure(np.zeros(3, int), 1, [], 0.7, 1).tolist() == [0, 0, 0]


def test_what_was_two_objects_is_two_parts_again():
    parts = np.array([0] * 8 + [1] * 4 + [-1] * 2)
    known = np.array([3, 3, 3, 3, 0, 7, 7, 5] + [7] * 4 + [3, 3])
    cut = cut_known(parts, 2, known, 2)
    assert partition(cut) == {
        frozenset({0, 1, 2, 3, 4, 7}),
        frozenset({5, 6}),
        frozenset(range(8, 12)),
        frozenset({12, 13}),
    }
    assert (cut[:5] == 0).all() and cut[5] == 2 and (cut[12:] == -1).all()
    assert np.array_equal(cut_known(parts, 2, known, 3), parts)
    assert np.array_equal(cut_known(parts, 2, np.zeros(14, int), 1), parts)


# -- strangers ---------------------------------------------------------------------------------------------------------


def test_a_small_object_among_the_floor_is_a_stranger_there():
    """Nine groups of floor and one vase under one label: pure (0.9^2 + 0.1^2 = 0.82), and yet not one object."""
    view = grouped([[0, 1, 2, 3, 4, 5, 6, 7, 8], [9]], per_group=2)
    parts = np.array([0] * 20)
    assert np.array_equal(cut_impure(parts, 1, [view], 0.7, 2), parts)
    assert expel_strangers(parts, 1, [view], 0.4).tolist() == [0] * 18 + [1] * 2


def test_no_stranger_where_most_views_hold_all_in_one_mask():
    apart, whole = grouped([[0, 1, 2], [3]], 3), grouped([[0, 1, 2, 3]], 3)
    parts = np.zeros(12, int)
    # the last group shares a mask with 1/4, 1 and 1 of the part
    assert expel_strangers(parts, 1, [apart, whole, whole], 0.4).tolist() == [0] * 12
    assert expel_strangers(parts, 1, [apart, apart, whole], 0.6).tolist() == [0] * 9 + [1] * 3


def test_unseen_gaussians_and_fragments_are_no_strangers():
    view = grouped([[0], [1]], 4)
    parts = np.array([0] * 7 + [-1] + [1])  # the last one is in no mask
    assert expel_strangers(parts, 2, [view], 0.4)[[7, 8]].tolist() == [-1, 1]


# -- voting ------------------------------------------------------------------------------------------------------------


def test_masks_move_a_border_to_where_they_have_it():
    """Gaussian 4 has label 0, but two of three views hold it in the mask of label 1."""
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
    here, there = np.zeros((2, 9)), np.zeros((2, 9))
    here[0, :5] = here[1, 5:] = 10
    there[0, :4] = there[1, 4:] = 10
    assert vote(labels, 2, [here_ := evidence(here), evidence(there), evidence(there)], 0.6)[0][4] == 1
    assert vote(labels, 2, [here_, here_, evidence(there)], 0.6)[0][4] == 0


def test_a_mask_over_several_objects_has_no_vote():
    labels = np.array([0, 0, 1, 1, 1])
    over_both = evidence([[10, 10, 10, 10, 10]])  # 60 % label 1
    assert np.array_equal(vote(labels, 2, [over_both], 0.6)[0], labels)
    assert vote(labels, 2, [over_both], 0.55)[0].tolist() == [1] * 5


def test_what_spills_over_is_no_majority():
    """Gaussian 2 lies in a mask of mixed labels, and its edge in that of a neighbour."""
    labels = np.array([0, 0, 1, 2, 2])
    mixed = [0, 0, 12, 10, 10]
    for spilled, expected in ((2, 1), (6, 0)):
        found, share = vote(labels, 3, [evidence([[10, 10, spilled, 0, 0], mixed])], 0.7)
        assert found.tolist() == [0, 0, expected, 2, 2]
        assert share[2] == (expected == 0) and share[0] == 1


def test_votes_give_labels_to_gaussians_without_one():
    labels = np.array([0, 0, 0, -1, -1])
    assert vote(labels, 1, [evidence([[10, 10, 10, 5, 0]])], 0.6)[0].tolist() == [0, 0, 0, 0, -1]


def test_without_votes_nothing_changes():
    labels = np.array([0, -1, 1])
    assert vote(labels, 2, [], 0.6)[0].tolist() == [0, -1, 1]
    assert vote(labels, 2, [grouped([], 1)], 0.6)[0].tolist() == [0, -1, 1]
    assert vote(np.array([-1, -1]), 0, [evidence([[1, 1]])], 0.6)[0].tolist() == [-1, -1]
