"""What the demo's contact sheet shows."""

from __future__ import annotations

import pytest

from lift_ros.data.rosbag import BagCapture
from lift_ros.demo.generate import TRUTH_TOPIC
from lift_ros.demo.report import Comparison
from lift_ros.errors import LiftError
from lift_ros.visualization import write_label_png


def test_passes_that_labelled_no_frame_in_common_are_shown_side_by_side(demo_room, tmp_path):
    passes = {"labels out": tmp_path / "even", "labels out, map finished": tmp_path / "odd"}
    for directory in passes.values():
        directory.mkdir()
    with BagCapture(demo_room.bag) as bag:
        for index, frame in enumerate(bag.frames):
            write_label_png(
                list(passes.values())[index % 2] / f"{frame.name}.png", bag.recorded_labels(TRUTH_TOPIC, frame)
            )
        found = Comparison.of(bag, passes)
        assert [score.views for score in found.scores.values()] == [8, 4, 4]
        assert len(found.columns) == 7 and all(len(column) == 4 for column in found.columns)
        times = [[float(title.split(", ")[-1].split()[0]) for title, _ in column] for column in found.columns]
        assert all(max(column) - min(column) < 0.4 for column in times) and times == sorted(times)
        for path in passes["labels out"].iterdir():
            path.unlink()
        with pytest.raises(LiftError, match="no label images"):
            Comparison.of(bag, passes)
