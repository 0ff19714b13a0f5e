"""Which layout a directory is taken for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from data.layouts import write

from lift_ros.data.capture import LAYOUTS, find_layout, open_capture
from lift_ros.errors import DatasetError

MARKERS = {
    "nerfstudio, instant-ngp": ["transforms.json"],
    "rosbag2": ["metadata.yaml"],
    "LERF-Mask": ["sparse/0/cameras.bin", "object_mask/0.png"],
    "COLMAP, Mip-NeRF 360": ["sparse/0/images.txt"],
    "Replica by NICE-SLAM": ["results/frame000000.jpg"],
    "Replica by Semantic-NeRF": ["traj_w_c.txt"],
    "TUM RGB-D": ["rgb.txt"],
    "7-Scenes": ["seq-01/frame-000000.color.png"],
    "Messy Rooms": ["color/0.png", "metadata.json"],
    "ScanNet, Panoptic Lifting": ["color/0.jpg", "pose/0.txt"],
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_each_layout_is_told_from_the_others(tmp_path, layout):
    assert find_layout(tmp_path) is None
    for name in MARKERS[layout.name]:
        write(tmp_path / name, "")
    matching = [other.name for other in LAYOUTS if other.matches(tmp_path)]
    assert matching[0] == layout.name
    assert matching[1:] == (["COLMAP, Mip-NeRF 360"] if layout.name == "LERF-Mask" else [])  # which it is, too
    with pytest.raises(DatasetError):  # what the files hold is nothing
        open_capture(tmp_path)


def test_what_was_converted_goes_before_what_it_was_made_from(tmp_path):
    for names in MARKERS.values():
        for name in names:
            write(tmp_path / name, "")
    assert find_layout(tmp_path).name == "nerfstudio, instant-ngp"


def test_a_message_names_all_layouts(tmp_path):
    with pytest.raises(DatasetError) as error:
        open_capture(tmp_path)
    for layout in LAYOUTS:
        assert layout.name in str(error.value) and layout.marker in str(error.value)


def test_the_documentation_lists_all_layouts_in_order():
    text = (Path(__file__).parents[2] / "docs/datasets.md").read_text()
    places = [text.index(f"\n| {layout.name}") for layout in LAYOUTS]
    assert places == sorted(places)


@pytest.mark.parametrize(("opened", "near"), [("scene", "scene/0"), ("scene/0/extra", "scene/0")])
def test_a_capture_nearby_is_named(tmp_path, opened, near):
    write(tmp_path / "scene/0/rgb.txt", "")
    (tmp_path / "scene/0/extra").mkdir()
    with pytest.raises(DatasetError, match=rf"{re.escape(str(tmp_path / near))} looks like one of TUM RGB-D"):
        open_capture(tmp_path / opened)
