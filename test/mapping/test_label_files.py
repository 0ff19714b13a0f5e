"""Label images that are written of a whole capture."""

from __future__ import annotations

import cv2
import numpy as np

from lift_ros.config import Config
from lift_ros.data import open_capture
from lift_ros.mapping.mapper import Mapper
from lift_ros.mapping.offline import frame_labels, map_capture, write_results
from lift_ros.masks.recorded import CaptureMasks
from lift_ros.options import with_values

LAST = 65_534  # id that 16 bits can name: 65535 is read as no label


def test_an_object_whose_id_stands_for_no_label_has_none(demo_room, tmp_path):
    config = with_values(Config(), {"mapping.image_width": 96, "mapping.photometric_steps": 2, "mapping.device": "cpu"})
    with open_capture(demo_room.capture) as capture:
        mapper = Mapper(config, CaptureMasks(capture, "L0"), capture.world_frame)
        mapper._registry._next_id = LAST - 1
        map_capture(capture, mapper, photometric_steps=0)
        write_results(capture, mapper, tmp_path / "out")
        known = {frame.name: frame_labels(mapper, frame) for frame in capture.frames}
    assert {LAST, LAST + 1, LAST + 2} <= {int(i) for labels in known.values() for i in np.unique(labels)}
    for name, labels in known.items():
        drawn = cv2.imread(str(tmp_path / "out" / "labels" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(drawn, np.where(labels <= LAST, labels, 0))
