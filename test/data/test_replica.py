"""Replica as rendered by Semantic-NeRF and by NICE-SLAM."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data.layouts import (
    H,
    W,
    assert_labels,
    files_below,
    pose,
    text,
    write,
    write_depth,
    write_image,
    write_labels,
    write_rgb,
)

from lift_ros.data import open_capture
from lift_ros.errors import DatasetError
from lift_ros.evaluation.metrics import Contingency, panoptic_quality

TRAJECTORY = text(np.stack([pose(index).ravel() for index in range(11)]))
CAMERA = {"w": 2 * W, "h": 2 * H, "fx": 60.0, "fy": 61.0, "cx": 31.5, "cy": 23.5, "scale": 6553.5}


def semantic_nerf(root: Path) -> Path:
    for index in (0, 9, 10, 11):
        write_rgb(root / f"rgb/rgb_{index}.png", red=index)
        write_depth(root / f"depth/depth_{index}.png", 1000 + index)
        write_labels(root / f"semantic_instance/semantic_instance_{index}.png", 300 + index)
        write_labels(root / f"semantic_class/semantic_class_{index}.png", 1 + index)
    write(root / "traj_w_c.txt", TRAJECTORY)
    return root


def nice_slam(root: Path) -> Path:
    for index in (0, 9, 10, 11):
        write_rgb(root / f"results/frame{index:06d}.jpg", red=index)
        write_depth(root / f"results/depth{index:06d}.png", 6554)
    write(root / "traj.txt", TRAJECTORY)
    write(root.parent / "cam_params.json", json.dumps({"camera": CAMERA}))
    return root


def test_semantic_nerf(tmp_path):
    capture = open_capture(semantic_nerf(tmp_path / "room_0/Sequence_1"))
    frames = list(capture.frames)
    assert [frame.name for frame in frames] == ["rgb_0", "rgb_9", "rgb_10"]
    assert len(capture) == 4 and capture.skipped == {"pose_missing": 1}  # the trajectory has 11 rows
    assert capture.has_depth and capture.recorded_names == ("instances", "semantic")
    assert set(capture.files) == files_below(tmp_path)
    for frame, index in zip(frames, (0, 9, 10), strict=True):
        np.testing.assert_allclose(frame.T_world_camera, pose(index), atol=1e-6)
        assert frame.image[0, 0].tolist() == [index, 20, 30] and frame.stamp == pytest.approx(0.1 * index)
        assert frame.depth[0, 0] == 0 and frame.depth[5, 5] == pytest.approx(1 + index / 1000)
        assert_labels(capture.recorded_labels("instances", frame), 300 + index)
        assert_labels(capture.recorded_labels("semantic", frame), 1 + index)
    camera = frames[0].camera  # 90 degrees wide
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (W / 2, W / 2, W / 2, H / 2)


def test_where_the_instances_are_is_said_where_they_are_missing(tmp_path):
    root = semantic_nerf(tmp_path / "room_0/Sequence_1")
    assert not open_capture(root).problems
    (root / "semantic_instance").rename(tmp_path / "elsewhere")
    capture = open_capture(root)
    assert capture.recorded_names == ("semantic",)
    assert "semantic_instance with the true instances is missing" in capture.problems[0]
    assert "Replica_Instance_Segmentation" in capture.problems[0]
    (root / "semantic_class").rename(tmp_path / "elsewhere, too")
    assert not open_capture(root).problems  # a sequence without labels


def test_perfect_labels_score_one_although_walls_are_instances_and_one_has_no_number(tmp_path):
    root = semantic_nerf(tmp_path / "room_0/Sequence_1")
    truth = np.zeros((H, W), np.uint16)
    truth[:12], truth[12:20], truth[20:, :8] = 93, 40, 7  # wall, floor and an object; another one is 0
    for index in (0, 9, 10):
        write_image(root / f"semantic_instance/semantic_instance_{index}.png", truth)
    capture = open_capture(root)
    assert not capture.timed
    void = 0 if "instances" in capture.incomplete_names else None
    table = Contingency()
    for frame in capture.frames:
        labels = capture.recorded_labels("instances", frame)
        table.add(np.where(labels == 0, 500, labels), labels)
    quality = panoptic_quality(table, void)
    assert (quality.pq, quality.matched, quality.spurious, quality.missed) == (1.0, 3, 0, 0)


def test_nice_slam(tmp_path):
    root = nice_slam(tmp_path / "Replica/room0")
    capture = open_capture(root)
    frames = list(capture.frames)
    assert [frame.name for frame in frames] == ["frame000000", "frame000009", "frame000010"]
    assert capture.skipped == {"pose_missing": 1} and not capture.recorded_names
    assert set(capture.files) == files_below(tmp_path)
    np.testing.assert_allclose(frames[1].T_world_camera, pose(9), atol=1e-6)
    np.testing.assert_allclose(frames[1].depth[5, 5], 6554 / 6553.5)
    camera = frames[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (30, 30.5, 16, 12)
    (root.parent / "cam_params.json").rename(root / "cam_params.json")
    assert len(open_capture(root)) == 4


@pytest.mark.parametrize(
    ("make", "depth", "first"),
    [(semantic_nerf, "depth/depth_{}.png", "0"), (nice_slam, "results/depth{:06d}.png", "000000")],
)
def test_depth_that_is_lost_is_told(tmp_path, make, depth, first):
    root = make(tmp_path / "Replica/room0")
    assert not open_capture(root).problems
    (root / depth.format(9)).unlink()
    (problem,) = open_capture(root).problems
    assert problem.startswith("1 of 4 frames have no depth: ") and problem.endswith("9")
    for index in (0, 10, 11):
        file = root / depth.format(index)
        file.rename(file.with_name(f"depth-{index}.png"))
    capture = open_capture(root)
    assert not capture.has_depth
    (problem,) = capture.problems
    assert "/depth-0.png belongs to no frame; that of the first would be " in problem
    assert problem.endswith(str(root / depth.replace("{:06d}", "{}").format(first)))


def test_max_depth(tmp_path):
    capture = open_capture(nice_slam(tmp_path / "room0"), max_depth=0.5)
    assert not capture.frames[0].depth.any()


def test_a_sequence_is_named_where_a_scene_is_opened(tmp_path):
    semantic_nerf(tmp_path / "room_0/Sequence_1")
    with pytest.raises(DatasetError, match=r"Sequence_1 looks like one of Replica by Semantic-NeRF"):
        open_capture(tmp_path / "room_0")


@pytest.mark.parametrize(
    ("make", "missing", "message"),
    [
        (
            semantic_nerf,
            "traj_w_c.txt",
            r"looks like Replica as rendered by Semantic-NeRF, but .*traj_w_c\.txt is missing",
        ),
        (semantic_nerf, "rgb/*", r"rgb/rgb_0\.png is missing"),
        (nice_slam, "traj.txt", r"looks like Replica as rendered by NICE-SLAM, but .*room/traj\.txt is missing"),
        (nice_slam, "../cam_params.json", r"room/cam_params\.json is missing: .*one directory up"),
    ],
)
def test_what_is_missing_is_named(tmp_path, make, missing, message):
    root = make(tmp_path / "room")
    for file in [root.parent / missing[3:]] if missing.startswith("..") else root.glob(missing):
        file.unlink()
    with pytest.raises(DatasetError, match=message):
        open_capture(root)


def test_wrong_contents(tmp_path):
    root = nice_slam(tmp_path / "room")
    write(root / "cam_params.json", json.dumps({"camera": {**CAMERA, "scale": 0}}))
    with pytest.raises(DatasetError, match=r"cam_params\.json needs 'camera' with .*scale is 0"):
        open_capture(root)
    write(root / "traj.txt", text(np.eye(4)))
    write(root / "cam_params.json", json.dumps({"camera": CAMERA}))
    with pytest.raises(DatasetError, match=r"traj\.txt has 4 numbers a row; expected 16"):
        open_capture(root)
    write(root / "traj.txt", "one two\n")
    with pytest.raises(DatasetError, match=r"cannot read .*traj\.txt"):
        open_capture(root)
