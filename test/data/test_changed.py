"""Captures whose frames are not used as they are stored."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from lift_ros.data import open_capture
from lift_ros.data.changed import WithoutDepth
from lift_ros.errors import DatasetError


def test_a_capture_without_its_depth(demo_room, monkeypatch):
    with open_capture(demo_room.capture) as capture:
        blind = WithoutDepth(capture)
        assert capture.has_depth and not blind.has_depth
        assert len(blind) == len(capture) and blind.recorded_names == capture.recorded_names
        for seen, listed in zip(blind.frames, capture.frames, strict=True):
            assert seen.depth is None and listed.depth is not None
            assert seen.name == listed.name and np.array_equal(seen.image, listed.image)
        assert np.array_equal(blind.recorded_labels("L0", seen), capture.recorded_labels("L0", listed))
        masks = [np.ones((2, 2), np.int32)]
        monkeypatch.setattr(capture, "overlapping_masks", lambda name, frame: masks)
        assert blind.overlapping_masks("L0", seen) is masks


def test_depth_that_is_not_asked_for_need_not_be_there(demo_room, tmp_path):
    room = tmp_path / "room"
    shutil.copytree(demo_room.capture, room)
    for image in (room / "depth").iterdir():
        image.write_bytes(b"not a picture")
    with open_capture(room) as capture:
        with pytest.raises(DatasetError, match="8 x depth_unreadable"):
            list(capture.frames)
        assert len(list(WithoutDepth(capture).frames)) == len(capture)


def test_a_bag_without_its_depth(demo_room):
    with open_capture(demo_room.bag) as capture:
        frame = next(iter(WithoutDepth(capture).frames))
        assert frame.depth is None and next(iter(capture.frames)).depth is not None


def test_closing_it_closes_the_capture(demo_room, monkeypatch):
    with open_capture(demo_room.bag) as capture:
        closed = []
        monkeypatch.setattr(capture, "close", lambda: closed.append(capture))
        with WithoutDepth(capture):
            assert not closed
        assert closed == [capture]
        monkeypatch.undo()
