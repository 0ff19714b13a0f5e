"""How much is trained, of what, and how fast."""

from __future__ import annotations

import pytest

from lift_ros.mapping.config import MappingConfig
from lift_ros.mapping.schedule import ANNEAL_TO, STEPS_AT_ONCE, STILL, Schedule


def schedule(lifting: bool = True) -> Schedule:
    return Schedule(MappingConfig(photometric_steps=4, lifting_steps=12, max_backlog=2), lifting)


def all_of(owed: Schedule) -> list[tuple[str, int]]:
    """All that is done until nothing is owed."""
    done = []
    while (piece := owed.next())[1]:
        done.append(piece)
    return done


def test_the_kind_of_which_more_is_owed_is_next_in_short_pieces():
    owed = schedule()
    assert owed.next()[1] == 0 and owed.add_keyframe() == 0
    assert all_of(owed) == [("lifting", 5), ("lifting", 5), ("photometric", 4), ("lifting", 2)]
    assert STEPS_AT_ONCE == 5 and owed.owed("lifting") == owed.owed("photometric") == 0


def test_pieces_are_as_short_as_asked():
    owed = schedule(lifting=False)
    owed.add_keyframe()
    assert [owed.next(1), owed.next(2), owed.next(2)] == [("photometric", 1), ("photometric", 2), ("photometric", 1)]


def test_what_is_beyond_the_backlog_is_skipped():
    owed = schedule()
    assert [owed.add_keyframe() for _ in range(4)] == [0, 0, 16, 16]
    assert (owed.owed("photometric"), owed.owed("lifting")) == (8, 24)
    assert all_of(owed) and owed.add_keyframe() == 0


def test_embeddings_that_there_are_not_owe_nothing():
    owed = schedule(lifting=False)
    assert [owed.add_keyframe() for _ in range(3)] == [0, 0, 4]
    assert all_of(owed) == [("photometric", 5), ("photometric", 3)]


def test_at_the_end_one_kind_is_trained_after_the_other_and_comes_to_rest():
    owed = schedule()
    owed.add_keyframe()
    assert not owed.ending and not owed.settling
    assert STILL == 0.5 and owed.rate("photometric") == owed.rate("lifting") == 1
    rates = {}
    for kind, steps in (("photometric", 16), ("lifting", 8)):
        owed.end_with(kind, steps)
        rates[kind], settling, count = [], [], 0
        while (piece := owed.next())[1]:
            assert piece[0] == kind and owed.ending
            rates[kind].append(owed.rate(kind))
            settling.append(owed.settling)
            count += piece[1]
        assert count == 20 and settling == [False, True, True, True]  # what was owed, and so many more
        assert rates[kind][-1] == pytest.approx(ANNEAL_TO)
    assert rates["photometric"] == pytest.approx([ANNEAL_TO**share for share in (0.25, 0.5, 0.75, 1)])
    assert rates["lifting"] == pytest.approx([ANNEAL_TO**share for share in (0, 0, 0.5, 1)])
    owed.go_on()
    assert not owed.ending and not owed.settling and owed.next()[1] == 0
    owed.add_keyframe()
    assert owed.next() == ("lifting", 5) and owed.rate("lifting") == 1
