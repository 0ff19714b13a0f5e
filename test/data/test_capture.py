"""Which layout a directory is taken for."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from data.layouts import write

from lift_ros.data.capture import COLMAP_MODELS, LAYOUTS, find_layout, open_capture
from lift_ros.errors import ConfigError, DatasetError

# of each layout the files it is told by; and where they are empty, and all there is, what the error says
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
ERRORS = {
    "nerfstudio, instant-ngp": r"cannot read .*/transforms\.json",
    "rosbag2": r"cannot read .* as a rosbag2 recording .*: Invalid bag metadata",
    "LERF-Mask": r"looks like COLMAP, but .*/images is missing",
    "COLMAP, Mip-NeRF 360": r"looks like COLMAP, but .*/images is missing",
    "Replica by NICE-SLAM": r"looks like Replica as rendered by NICE-SLAM, but .*/traj\.txt is missing",
    "Replica by Semantic-NeRF": r"looks like Replica as rendered by Semantic-NeRF, but .*/rgb/rgb_0\.png is missing",
    "TUM RGB-D": r"/rgb\.txt lists no images",
    "7-Scenes": r"looks like 7-Scenes, but .*/seq-01/frame-<n>\.pose\.txt are missing",
    "Messy Rooms": r"/metadata\.json needs 'camera'",
    "ScanNet, Panoptic Lifting": r"looks like ScanNet, but .*/intrinsic/intrinsic_color\.txt is missing",
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_each_layout_is_told_from_the_others(tmp_path, layout):
    assert find_layout(tmp_path) is None
    for name in MARKERS[layout.name]:
        write(tmp_path / name, "")
    matching = [other.name for other in LAYOUTS if other.matches(tmp_path)]
    assert matching[0] == layout.name
    assert matching[1:] == (["COLMAP, Mip-NeRF 360"] if layout.name == "LERF-Mask" else [])  # which it is, too
    with pytest.raises(DatasetError, match=ERRORS[layout.name]):
        open_capture(tmp_path)


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        (["images/0.jpg", "object_mask/0.png"], "LERF-Mask", r"looks like LERF-Mask, but .*/sparse/0 is missing"),
        (["images/0.jpg", "test_mask/0/apple.png"], "LERF-Mask", r"looks like LERF-Mask, but .*/sparse/0 is missing"),
        (["sparse/0/cameras.bin", "images/0.jpg", "test_mask/0/apple.png"], "LERF-Mask", r"sparse/0/images\.bin or"),
        (["sparse/0/images.bin", "images/0.jpg", "object_mask/0.png"], "LERF-Mask", r"sparse/0/cameras\.bin or"),
        (["color/0.png", "instance/0.npy"], "Messy Rooms", r"looks like Messy Rooms, but .*/metadata\.json is missing"),
        (["color/0.png", "detic_semantic/0.npy"], "Messy Rooms", r"Messy Rooms, but .*/metadata\.json is missing"),
        (["color/0.png", "instance/0.png", "pose/0.txt"], "ScanNet, Panoptic Lifting", r"intrinsic_color\.txt is"),
        (["color/0.png", "intrinsic/intrinsic_color.txt"], "ScanNet, Panoptic Lifting", r"/pose is missing"),
    ],
)
def test_what_an_incomplete_capture_lacks_is_named(tmp_path, files, name, message):
    for file in files:
        write(tmp_path / file, "")
    assert find_layout(tmp_path).name == name
    with pytest.raises(DatasetError, match=message):
        open_capture(tmp_path)


def test_what_was_converted_goes_before_what_it_was_made_from(tmp_path):
    for names in MARKERS.values():
        for name in names:
            write(tmp_path / name, "")
    assert find_layout(tmp_path).name == "nerfstudio, instant-ngp"


def test_a_listing_left_over_beside_what_was_made_of_it(tmp_path):
    """By Panoptic Lifting's preprocess_itw.py."""
    for folder in ("color", "pose", "intrinsic"):
        write(tmp_path / folder / "0000.jpg", "")
    listing = {"frames": [{"file_path": "0000.jpg"}]}
    write(tmp_path / "transforms.json", json.dumps(listing))
    assert find_layout(tmp_path).name == "ScanNet, Panoptic Lifting"
    assert find_layout(tmp_path / "transforms.json").name == "nerfstudio, instant-ngp"  # as it is named
    for path in ("color/0000.jpg", "color/0000", "color\\0000.jpg"):  # as the reader of listings takes them
        write(tmp_path / "transforms.json", json.dumps({"frames": [*listing["frames"], {"file_path": path}]}))
        assert find_layout(tmp_path).name == "nerfstudio, instant-ngp"
    write(tmp_path / "transforms.json", "{")
    assert find_layout(tmp_path).name == "nerfstudio, instant-ngp"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("scene0000_00.sens", r"scene0000_00\.sens is a scan of ScanNet as released; export it"),
        ("frame-000000.color.jpg", r"frame-000000\.color\.jpg is of ScanNet's SensReader in C\+\+; export"),
        ("seq-01.zip", r"seq-01\.zip is a packed sequence of 7-Scenes; unpack"),
        ("transforms_train.json", r"name the file to open, .*/transforms_train\.json: Blender scenes"),
        ("drive.bag", r"drive\.bag is a recording of ROS 1; convert it: rosbags-convert --src"),
        ("cameras.bin", r"cameras\.bin is of a model by COLMAP; move its files to sparse/0/, beside images/"),
        ("cameras.txt", r"cameras\.txt is of a model by COLMAP; move"),
        ("sparse/1/cameras.bin", r"(sparse/1 is a model by COLMAP, and sparse/0/|cameras\.bin is of a model)"),
        ("associations.txt", r"associations\.txt pairs the images of .*, but rgb\.txt, which lists them, is missing"),
    ],
)
def test_what_has_to_be_done_first_is_said(tmp_path, file, message):
    write(tmp_path / "scene" / file, "")
    with pytest.raises(DatasetError, match=message) as error:
        open_capture(tmp_path / "scene")
    assert str(error.value).startswith(f"{tmp_path / 'scene'} is not a capture: ")
    if not file.endswith(".json"):
        with pytest.raises(DatasetError, match=message):
            open_capture(tmp_path / "scene" / file)
    write(tmp_path / "scene/made of it/rgb.txt", "")
    with pytest.raises(DatasetError, match=r"made of it looks like one of TUM RGB-D"):
        open_capture(tmp_path / "scene")


def test_a_message_names_all_layouts(tmp_path):
    with pytest.raises(DatasetError) as error:
        open_capture(tmp_path)
    for layout in LAYOUTS:
        assert layout.name in str(error.value) and layout.marker in str(error.value)


def test_the_documentation_lists_all_layouts_in_order():
    text = (Path(__file__).parents[2] / "docs/datasets.md").read_text()
    places = [text.index(f"\n| {layout.name}") for layout in LAYOUTS]
    assert places == sorted(places)


@pytest.mark.parametrize("model", COLMAP_MODELS)
def test_the_capture_of_a_model_is_named(tmp_path, model):
    write(tmp_path / "scene" / model / "images.txt", "")
    with pytest.raises(DatasetError, match=rf"{re.escape(str(tmp_path / 'scene'))} looks like one of COLMAP"):
        open_capture(tmp_path / "scene" / model)


@pytest.mark.parametrize("depth", [0, -1.0, math.nan])
def test_depth_that_is_no_bound(tmp_path, depth):
    with pytest.raises(ConfigError, match="--max-depth must be positive"):
        open_capture(tmp_path, max_depth=depth)


@pytest.mark.parametrize(("opened", "near"), [("scene", "scene/0"), ("scene/0/extra", "scene/0")])
def test_a_capture_nearby_is_named(tmp_path, opened, near):
    write(tmp_path / "scene/0/rgb.txt", "")
    (tmp_path / "scene/0/extra").mkdir()
    with pytest.raises(DatasetError, match=rf"{re.escape(str(tmp_path / near))} looks like one of TUM RGB-D"):
        open_capture(tmp_path / opened)
