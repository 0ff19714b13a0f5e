"""ScanNet, captures that Panoptic Lifting preprocessed, and Messy Rooms."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from data.layouts import (
    H,
    W,
    assert_labels,
    files_below,
    pose,
    quaternion_xyzw,
    text,
    write,
    write_depth,
    write_labels,
    write_rgb,
)

from lift_ros.data import open_capture
from lift_ros.errors import ConfigError, DatasetError
from lift_ros.evaluation.masks import check_masks

K = np.array([[30.0, 0, 15.5, 0], [0, 31.0, 11.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
DEPTH_K = np.array([[15.0, 0, 7.5, 0], [0, 15.5, 5.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])  # half the size


def scannet(root: Path) -> Path:
    for index in (0, 2, 10):
        write_rgb(root / f"color/{index}.jpg", red=index)
        write_depth(root / f"depth/{index}.png", 1000 + index, size=(W // 2, H // 2))
        write(root / f"pose/{index}.txt", text(pose(index)))
        write_labels(root / f"instance-filt/{index}.png", 1 + index)
        write_labels(root / f"label-filt/{index}.png", 500 + index)
    write(root / "intrinsic/intrinsic_color.txt", text(K))
    write(root / "intrinsic/intrinsic_depth.txt", text(DEPTH_K))
    return root


def test_scannet(tmp_path):
    root = scannet(tmp_path)
    write(root / "pose/2.txt", text(np.full((4, 4), -np.inf)))
    capture = open_capture(root)
    frames = list(capture.frames)
    assert [frame.name for frame in frames] == ["0", "10"]
    assert capture.skipped == {"pose_not_finite": 1}  # tracking was lost
    assert capture.has_depth and capture.recorded_names == ("instances", "semantic")
    assert capture.incomplete_names == ("instances",) and set(capture.files) == files_below(root)
    for frame, index in zip(frames, (0, 10), strict=True):
        np.testing.assert_allclose(frame.T_world_camera, pose(index), atol=1e-6)
        assert frame.depth.shape == (H, W) and frame.depth[12, 12] == pytest.approx(1 + index / 1000)
        assert_labels(capture.recorded_labels("instances", frame), 1 + index)
        assert_labels(capture.recorded_labels("semantic", frame), 500 + index)
    camera = frames[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (30, 31, 16, 12)


def test_frames_are_a_thirtieth_of_a_second_apart(tmp_path):
    capture = open_capture(scannet(tmp_path))
    assert capture.timed and [round(30 * frame.stamp) for frame in capture.frames] == [0, 2, 10]


def test_what_is_annotated_is_never_all(tmp_path):
    root = scannet(tmp_path)
    (root / "instance-filt").rename(root / "instance")  # as the other archive unpacks
    capture = open_capture(root)
    assert capture.incomplete_names == ("instances",) and capture.labelled("instances") == 3
    (root / "instance/2.png").unlink()
    assert open_capture(root).labelled("instances") == 2


def test_images_that_were_resized_need_intrinsics_of_their_size(tmp_path):
    root = scannet(tmp_path)
    for index in (0, 2, 10):
        write_rgb(root / f"color/{index}.jpg", size=(W // 2, H // 2))
    with pytest.raises(DatasetError, match=r"3 x camera_info.*intrinsic_color.txt has its .* point at \(16, 12\)"):
        list(open_capture(root).frames)


def test_depth_is_looked_up_through_both_cameras(tmp_path):
    root = scannet(tmp_path)
    columns = np.tile(np.arange(1, W // 2 + 1, dtype=np.uint16) * 100, (H // 2, 1))
    write_depth(root / "depth/0.png", columns)
    shifted = DEPTH_K.copy()
    shifted[0, 2] += 3  # depth pixels 3 further right see the same direction
    write(root / "intrinsic/intrinsic_depth.txt", text(shifted))
    write(root / "intrinsic/extrinsic_depth.txt", text(np.eye(4)))
    depth = open_capture(root).frames[0].depth
    resized = np.repeat(columns[0], 2) / 1000
    np.testing.assert_allclose(depth[12, : W - 8], resized[6:-2], rtol=1e-6)
    assert not depth[:, -4:].any()
    (root / "intrinsic/intrinsic_depth.txt").unlink()
    np.testing.assert_allclose(open_capture(root).frames[0].depth[12], resized, rtol=1e-6)


def test_archives_unpacked_beside_and_the_layout_of_the_25k_frames(tmp_path):
    root = scannet(tmp_path / "scene0000_00")
    for kind in ("instance", "label"):
        target = root / f"scene0000_00_2d-{kind}-filt/{kind}-filt"
        target.parent.mkdir()
        (root / f"{kind}-filt").rename(target)
    capture = open_capture(root)
    assert_labels(capture.recorded_labels("instances", capture.frames[0]), 1)
    (root / "intrinsic/intrinsic_color.txt").rename(root / "intrinsics_color.txt")
    shutil.rmtree(root / "intrinsic")
    assert open_capture(root).frames[0].camera.fx == 30


def panoptic_lifting(root: Path, name: str = "0_{:04d}") -> Path:
    """``name`` of the frames: Replica's unless given."""
    for index in (0, 1):
        stem = name.format(index)
        write_rgb(root / f"color/{stem}.jpg")
        write_depth(root / f"depth/{stem}.png", 1500)  # of the size of the image
        write(root / f"pose/{stem}.txt", text(pose(index)))
        for folder, id in (("rs_instance", 3), ("rs_semantics", 4), ("m2f_instance", 5), ("m2f_semantics", 6)):
            write_labels(root / f"{folder}/{stem}.png", id + index)
            write_rgb(root / f"visualized_{folder}/{stem}.png")
    write(root / "intrinsic/intrinsic_color.txt", text(K))
    return root


def test_panoptic_lifting(tmp_path):
    capture = open_capture(panoptic_lifting(tmp_path))
    frame = capture.frames[1]
    assert frame.name == "0_0001" and frame.depth[5, 5] == pytest.approx(1.5)
    assert capture.recorded_names == ("instances", "semantic", "m2f_instance", "m2f_semantics")
    for name, id in zip(capture.recorded_names, (3, 4, 5, 6), strict=True):
        assert_labels(capture.recorded_labels(name, frame), id + 1)


@pytest.mark.parametrize(
    ("name", "of_scannet"),
    [("{}", True), ("{:04d}", False), ("0_{:04d}", False)],
    ids=["ScanNet", "HyperSim", "Replica"],
)
def test_what_nobody_annotated_in_a_preprocessed_scannet(tmp_path, name, of_scannet):
    capture = open_capture(panoptic_lifting(tmp_path, name))
    assert capture.incomplete_names == (("instances",) if of_scannet else ())
    assert capture.timed == of_scannet
    if of_scannet:
        assert math.isclose(capture.frames[1].stamp, 1 / 30)


@pytest.mark.parametrize(
    ("left", "content"),
    [
        ("metadata.json", json.dumps({"calibration": {"fx": 30.0}, "images": [{"translation": [0, 0, 0]}] * 2})),
        ("traj_w_c.txt", text(np.stack([pose(0).ravel(), pose(1).ravel()]))),
    ],
    ids=["of HyperSim", "for DM-NeRF"],
)
def test_what_preprocessing_leaves_beside_a_scene_makes_it_no_other(tmp_path, left, content):
    write(panoptic_lifting(tmp_path, "{:04d}") / left, content)
    capture = open_capture(tmp_path)
    assert [frame.name for frame in capture.frames] == ["0000", "0001"] and "m2f_instance" in capture.recorded_names


def test_predictions_that_stand_for_the_truth_are_not_offered_as_such(tmp_path):
    """Panoptic Lifting's own captures."""
    root = panoptic_lifting(tmp_path, "{:04d}")
    for kind in ("instance", "semantics"):
        shutil.rmtree(root / f"rs_{kind}")
        for copy in (f"rs_{kind}", kind):
            shutil.copytree(root / f"m2f_{kind}", root / copy)
    listing = {"frames": [{"file_path": "0000.jpg", "transform_matrix": pose(0).tolist()}], "fl_x": 30.0}
    write(root / "transforms.json", json.dumps(listing))
    capture = open_capture(root)
    assert capture.recorded_names == ("m2f_instance", "m2f_semantics")
    assert not capture.incomplete_names and not capture.timed
    assert len(list(capture.frames)) == 2
    write_labels(root / "rs_instance/0001.png", 9)  # of one frame the truth
    assert open_capture(root).recorded_names == ("instances", "m2f_instance", "m2f_semantics")


def test_frames_that_lack_files(tmp_path):
    root = scannet(tmp_path)
    (root / "pose/0.txt").unlink()
    (root / "depth/2.png").unlink()
    (root / "instance-filt/2.png").unlink()
    write(root / "color/10.jpg", b"\xff\xd8 cut")
    capture = open_capture(root)
    (frame,) = capture.frames
    assert frame.name == "2" and frame.depth is None
    assert capture.recorded_labels("instances", frame) is None
    assert capture.skipped == {"pose_missing": 1, "image_unreadable": 1}
    assert capture.problems == ["1 of 3 frames have no depth: 2"]


def test_labels_that_are_called_otherwise_than_the_images_are_looked_for(tmp_path):
    root = scannet(tmp_path)
    for index in (0, 2, 10):
        (root / f"instance-filt/{index}.png").rename(root / f"instance-filt/{index:06d}.png")
    (root / "m2f_instance").mkdir()
    capture = open_capture(root)
    assert capture.recorded_names == ("instances", "semantic", "m2f_instance")
    assert capture.labelled("instances") == capture.labelled("m2f_instance") == 0
    assert capture.recorded_labels("instances", capture.frames[0]) is None
    for masks, file in (
        ("recorded:instances", "instance-filt/0.png"),
        ("L1", "instance-filt/0.png"),
        ("recorded:m2f_instance", "m2f_instance/0.png"),
    ):
        with pytest.raises(ConfigError, match=f"those of the first are looked for in {root / file}$"):
            check_masks(masks, capture)


def test_true_instances_that_are_still_packed(tmp_path):
    root = scannet(tmp_path / "scene0000_00")
    for kind in ("instance", "instance-filt", "label-filt"):
        write(root / f"scene0000_00_2d-{kind}.zip", "")
    assert not open_capture(root).problems  # they were unpacked, and the archives left
    shutil.rmtree(root / "instance-filt")
    assert open_capture(root).problems == [
        f"the true instances are packed in {root}/scene0000_00_2d-instance-filt.zip: unpack it there"
    ]


def test_depth_that_is_called_otherwise_than_the_images_is_told(tmp_path):
    root = scannet(tmp_path)
    for index in (0, 2, 10):
        (root / f"depth/{index}.png").rename(root / f"depth/{index:06d}.png")
    write(root / "depth/.DS_Store", "")
    (root / "depth/000").mkdir()  # is no depth
    capture = open_capture(root)
    assert not capture.has_depth and capture.problems == [
        f"no frame has depth: {root / 'depth/000000.png'} belongs to no frame; "
        f"that of the first would be {root / 'depth/0.png'}"
    ]
    for file in root.glob("depth/*.png"):
        file.unlink()
    assert not open_capture(root).problems  # there is none to lose


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("pose", r"looks like ScanNet, but .*/pose is missing"),
        ("intrinsic", r"intrinsic/intrinsic_color\.txt is missing"),
        ("color/*", r"color/0\.jpg is missing"),
    ],
)
def test_what_is_missing_is_named(tmp_path, missing, message):
    root = scannet(tmp_path)
    for path in root.glob(missing):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DatasetError, match=message):
        open_capture(root)


def test_wrong_intrinsics(tmp_path):
    root = scannet(tmp_path)
    write(root / "intrinsic/intrinsic_color.txt", "1 2 3 4\n")
    with pytest.raises(DatasetError, match=r"intrinsic_color\.txt holds 1x4 numbers"):
        open_capture(root)


def messy_rooms(root: Path) -> Path:
    to_blender = np.diag([1.0, -1, -1, 1])
    names = ("0000", "0001", "0002")
    for index, name in enumerate(names):
        write_rgb(root / f"color/{name}.png", red=index)
        for folder, id in (("instance", 1), ("semantic", 1), ("detic_instance", 7), ("detic_semantic", 8)):
            write_labels(root / f"{folder}/{name}.npy", id + index)
        write(root / f"detic_probabilities/{name}.npy", b"")
    quaternions = [np.roll(quaternion_xyzw(pose(index) @ to_blender), 1).tolist() for index in range(2)]
    camera = {
        "K": [[1.1, 0, -0.5], [0, -1.4, -0.5], [0, 0, -1.0]],
        "positions": [pose(index)[:3, 3].tolist() for index in range(2)],
        "quaternions": quaternions,
    }
    write(root / "metadata.json", json.dumps({"camera": camera}))
    return root


def test_messy_rooms(tmp_path):
    capture = open_capture(messy_rooms(tmp_path))
    frames = list(capture.frames)
    assert [frame.name for frame in frames] == ["0000", "0001"] and capture.skipped == {"pose_missing": 1}
    assert "2 cameras for 3 images" in capture.problems[0]
    assert {file.parent.name for file in files_below(tmp_path) - set(capture.files)} == {"detic_probabilities"}
    for index, frame in enumerate(frames):
        np.testing.assert_allclose(frame.T_world_camera, pose(index), atol=1e-12)
    camera = frames[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx((1.1 * W, 1.4 * H, W / 2, H / 2))
    assert capture.recorded_names == ("instances", "semantic", "detic_instance", "detic_semantic")
    for name, id in zip(capture.recorded_names, (1, 1, 7, 8), strict=True):
        assert_labels(capture.recorded_labels(name, frames[1]), id + 1)


def test_messy_rooms_without_its_cameras(tmp_path):
    root = messy_rooms(tmp_path)
    write(root / "metadata.json", json.dumps({"camera": {"K": np.eye(3).tolist()}}))
    with pytest.raises(DatasetError, match=r"metadata\.json needs 'camera' with K, positions and quaternions"):
        open_capture(root)
