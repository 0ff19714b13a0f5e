"""Whole captures through the mapper: what is done when."""

from __future__ import annotations

import shutil
from dataclasses import replace
from unittest.mock import patch

import cv2
import numpy as np

from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import UPDATE_EVERY, map_capture, write_results
from lift_ros.masks.recorded import CaptureMasks
from lift_ros.options import with_values


def test_objects_are_updated_as_often_when_keyframes_give_way(demo_room):
    """With 5 kept there are 5 from then on, after every keyframe."""
    updates = {}
    for kept in (UPDATE_EVERY, 400):
        values = {"mapping.image_width": 64, "mapping.photometric_steps": 1, "mapping.device": "cpu"}
        config = with_values(Config(), values)
        config = replace(config, mapping=replace(config.mapping, max_keyframes=kept))  # fewer than users may have
        with (
            open_capture(demo_room.capture) as capture,
            patch.object(Mapper, "update_objects", autospec=True, side_effect=Mapper.update_objects) as update,
        ):
            mapper = Mapper(config, CaptureMasks(capture, "L0"), capture.world_frame)
            map_capture(capture, mapper, photometric_steps=0)
        assert mapper.stats.taken > UPDATE_EVERY
        updates[kept] = update.call_count - mapper.stats.taken // UPDATE_EVERY
    assert updates == {UPDATE_EVERY: 1, 400: 1}  # and once at the end


def test_a_label_image_of_noise_costs_its_frame_and_not_the_map(demo_room, tmp_path):
    """A mask for each of its ids would take more memory than there is."""
    shutil.copytree(demo_room.capture, tmp_path / "capture")
    path = min((tmp_path / "capture" / "masks_L0").glob("*.png"))
    labels = cv2.imread(str(path), -1)
    cv2.imwrite(str(path), np.arange(1, labels.size + 1).reshape(labels.shape).astype(np.uint16))
    config = with_values(Config(), {"mapping.image_width": 64, "mapping.photometric_steps": 1, "mapping.device": "cpu"})
    with open_capture(tmp_path / "capture") as capture:
        mapper = Mapper(config, CaptureMasks(capture, "L0"), capture.world_frame)
        assert map_capture(capture, mapper, photometric_steps=0) == {"masks_too_many": 1}
    assert mapper.stats.keyframes and mapper.snapshot.tracks


def test_objects_that_16_bits_cannot_name_are_not_drawn_as_others(demo_room, tmp_path):
    """After 65535 objects, on a map that has grown for long."""
    config = with_values(Config(), {"mapping.image_width": 96, "mapping.photometric_steps": 2, "mapping.device": "cpu"})
    with open_capture(demo_room.capture) as capture:
        mapper = Mapper(config, CaptureMasks(capture, "L0"), capture.world_frame)
        mapper._registry._next_id = 65_534
        map_capture(capture, mapper, photometric_steps=0)
        write_results(capture, mapper, tmp_path / "out")
    ids = {track.id for track in mapper.snapshot.tracks}
    drawn = {int(i) for path in (tmp_path / "out" / "labels").iterdir() for i in np.unique(cv2.imread(str(path), -1))}
    assert max(ids) > 65_535
    assert {0, 65_534, 65_535} >= drawn and drawn & ids
