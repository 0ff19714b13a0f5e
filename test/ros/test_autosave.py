"""When a map is saved by itself, and under which name what was there before is kept."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rclpy.logging import get_logger

from lift_ros.config import Config
from lift_ros.errors import MapFileError
from lift_ros.mapping.map_files import load_map, resolve_map_name
from lift_ros.mapping.mapper import Mapper
from lift_ros.masks.topic import TopicSegmenter
from lift_ros.options import with_values
from lift_ros.ros import autosave as module
from lift_ros.ros.autosave import Autosave


@pytest.fixture
def mapper() -> Mapper:
    """One with a few Gaussians, that has begun to train."""
    made = Mapper(with_values(Config(), {"mapping.device": "cpu"}), TopicSegmenter())
    made.add_sparse_cloud(np.random.default_rng(0).uniform(-1, 1, (50, 3)), np.full((50, 3), 90, np.uint8))
    made.update_objects()
    made.stats = replace(made.stats, steps=1)
    return made


def begun(path: Path) -> Autosave:
    made = Autosave(path, get_logger("autosave"))
    made.begin()
    return made


def going_on(path: Path) -> Autosave:
    """One of a node that loaded the map that is there."""
    made = begun(path)
    made.begins_with(path)
    return made


def test_what_another_map_is_kept_under_is_a_name_that_can_be_loaded(mapper, tmp_path):
    """However long the name is."""
    path = resolve_map_name(tmp_path, "x" * 100)
    for _ in range(3):
        assert begun(path).save(mapper)  # by a node that knows nothing of the map before
    names = {found.name for found in tmp_path.iterdir()}
    assert len(names) == 3
    for name in names:
        assert len(load_map(resolve_map_name(tmp_path, name)).scene["means"]) == 50


def test_after_a_save_that_failed_the_next_is_not_tried_at_once(mapper, tmp_path, monkeypatch):
    """It may take long, and the log would be full of it."""
    monkeypatch.setattr(module, "PERIOD", 0.0)
    saves = begun(tmp_path / "left")
    assert saves.due(mapper)
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "mine.txt").touch()
    monkeypatch.setattr(module, "PERIOD", 300.0)
    assert not saves.save(mapper)
    assert not saves.due(mapper)


def test_a_map_that_has_not_grown_since_it_was_loaded_is_not_saved_in_between(mapper, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PERIOD", 0.0)
    saves = begun(tmp_path / "left")
    assert saves.due(mapper)
    mapper.stats = replace(mapper.stats, steps=0)
    assert not saves.due(mapper)


def test_the_map_that_a_session_began_with_is_kept_until_the_next_has_saved(mapper, tmp_path):
    """Its poses may have been wrong, and the map with them."""
    path = tmp_path / "kitchen"
    mapper.save(path)
    for session in range(2):
        saves = going_on(path)
        first = (path / "map.yaml").read_bytes()
        for stamp in (10.0 * session + 1, 10.0 * session + 2):
            mapper.stats = replace(mapper.stats, stamp=stamp)  # so that maps differ
            assert saves.save(mapper)
        assert {found.name for found in tmp_path.iterdir()} == {"kitchen", "kitchen.before"}
        assert (tmp_path / "kitchen.before" / "map.yaml").read_bytes() == first


def test_maps_with_long_names_that_begin_alike_are_each_kept(mapper, tmp_path):
    for end in ("kitchen", "cellar"):
        path = resolve_map_name(tmp_path, 70 * "x" + end)
        mapper.stats = replace(mapper.stats, stamp=mapper.stats.stamp + 1)  # so that maps differ
        mapper.save(path)
        assert going_on(path).save(mapper)
    assert len({(found / "map.yaml").read_bytes() for found in tmp_path.glob("x*.before")}) == 2


def test_a_map_is_not_saved_where_the_one_before_it_would_be_kept(tmp_path):
    with pytest.raises(MapFileError, match="ends in '.before'"):
        begun(tmp_path / "kitchen.before")


def test_a_session_that_maps_nothing_leaves_the_map_as_it_is(mapper, tmp_path):
    path = tmp_path / "kitchen"
    mapper.save(path)
    saves = going_on(path)
    before = path.stat()
    mapper.stats = replace(mapper.stats, steps=0)
    saves.end(mapper)
    assert path.stat() == before and len(list(tmp_path.iterdir())) == 1


def test_a_session_that_only_removes_an_object_saves_the_map_without_it(mapper, tmp_path):
    path = tmp_path / "left"
    begun(path).save(mapper)
    mapper.stats = replace(mapper.stats, steps=0)
    saves = going_on(path)
    before = path.stat().st_ino
    saves.end(mapper)
    assert path.stat().st_ino == before
    mapper.stats = replace(mapper.stats, removed=1)
    saves = going_on(path)
    saves.end(mapper)
    assert path.stat().st_ino != before


def test_a_save_that_fails_costs_nothing_of_what_was_kept(mapper, tmp_path):
    path = tmp_path / "kitchen"
    mapper.save(path)
    for _ in range(2):
        saves = going_on(path)
        assert saves.save(mapper)
    kept = (tmp_path / "kitchen.before" / "map.yaml").read_bytes()
    saves = going_on(path)
    mapper.damaged = True
    assert not saves.save(mapper)
    assert (tmp_path / "kitchen.before" / "map.yaml").read_bytes() == kept


def test_the_map_of_a_mapper_that_hangs_is_saved_and_left_to_it(mapper, tmp_path):
    saves = begun(tmp_path / "left")
    saves.rescue(mapper)
    assert not saves.error and len(load_map(tmp_path / "left").scene["means"]) == 50
    mapper.save(tmp_path / "later")
    assert len(load_map(tmp_path / "later").objects) == len(load_map(tmp_path / "left").objects)


def test_a_lock_that_a_mapper_holds_while_it_hangs_does_not_stop_the_end(mapper, tmp_path, monkeypatch):
    release = threading.Event()

    class Locked(TopicSegmenter):
        @property
        def name(self) -> str:
            release.wait()
            return "locked"

    monkeypatch.setattr(module, "RESCUE_TIMEOUT", 0.2)
    mapper.segmenter = Locked()
    saves = begun(tmp_path / "left")
    try:
        saves.rescue(mapper)
        assert "map not saved" in saves.error and not (tmp_path / "left").exists() and saves.rescuing
        saves.rescue(mapper)  # as where the node is destroyed, too
        assert [thread.name for thread in threading.enumerate()].count("rescue") == 1
    finally:
        release.set()
        for thread in threading.enumerate():
            if thread.name == "rescue":
                thread.join(30.0)
    assert not saves.rescuing and (tmp_path / "left").exists()
