"""Captures whose frames are not used as they are stored."""

from __future__ import annotations

import numpy as np

from lift_ros.data import open_capture
from lift_ros.data.changed import without_depth


def test_a_capture_without_its_depth(demo_room):
    with open_capture(demo_room.capture) as capture:
        blind = without_depth(capture)
        assert capture.has_depth and not blind.has_depth
        assert len(blind) == len(capture) and blind.recorded_names == capture.recorded_names
        for seen, listed in zip(blind.frames, capture.frames, strict=True):
            assert seen.depth is None and listed.depth is not None
            assert seen.name == listed.name and np.array_equal(seen.image, listed.image)
        assert np.array_equal(blind.recorded_labels("L0", seen), capture.recorded_labels("L0", listed))


def test_closing_it_closes_the_capture(demo_room, monkeypatch):
    with open_capture(demo_room.bag) as capture:
        closed = []
        monkeypatch.setattr(capture, "close", lambda: closed.append(capture))
        with without_depth(capture):
            assert not closed
        assert closed == [capture]
        monkeypatch.undo()
