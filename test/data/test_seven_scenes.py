"""7-Scenes, whose colour and depth cameras differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.layouts import H, W, files_below, pose, text, write, write_depth, write_rgb

from lift_ros.camera import Camera
from lift_ros.data import open_capture
from lift_ros.errors import DatasetError


def sequence(folder: Path, frames: int = 2) -> Path:
    for index in range(frames):
        write_rgb(folder / f"frame-{index:06d}.color.png", red=index)
        write_depth(folder / f"frame-{index:06d}.depth.png", 2000)
        write(folder / f"frame-{index:06d}.pose.txt", text(pose(index)))
    return folder


def test_a_sequence(tmp_path):
    capture = open_capture(sequence(tmp_path / "chess/seq-01"))
    frame = capture.frames[1]
    assert frame.name == "frame-000001" and len(capture) == 2 and capture.has_depth
    assert frame.camera == Camera(W, H, 525 * W / 640, 525 * H / 480, W / 2, H / 2)
    # the colour camera is 2.6 cm to the right of the depth camera that the poses are of
    moved = np.linalg.inv(pose(1)) @ frame.T_world_camera
    np.testing.assert_allclose(moved[:3, 3], (0.0256, 0, 0), atol=0.003)
    np.testing.assert_allclose(moved[:3, :3], np.eye(3), atol=0.01)


def test_colour_and_depth_show_the_same_point(tmp_path):
    folder = sequence(tmp_path / "seq-01", frames=1)
    depth = np.full((480, 640), 65535, np.uint16)
    depth[100, 500] = 1800
    write_depth(folder / "frame-000000.depth.png", depth)
    write_rgb(folder / "frame-000000.color.png", size=(640, 480))
    frame = open_capture(folder).frames[0]
    world = pose(0) @ [(500.5 - 320) / 585 * 1.8, (100.5 - 240) / 585 * 1.8, 1.8, 1]
    ((u, v),), z = frame.camera.project((np.linalg.inv(frame.T_world_camera) @ world)[None, :3])
    (row,), (column,) = frame.depth.nonzero()
    assert (row, column) == (int(v), int(u)) and frame.depth[row, column] == pytest.approx(z[0], abs=1e-5)
    assert column != 500


def test_all_sequences_of_a_scene(tmp_path):
    for name in ("seq-02", "seq-10", "seq-01"):
        sequence(tmp_path / name, frames=1)
    capture = open_capture(tmp_path)
    assert set(capture.files) == files_below(tmp_path)
    assert [frame.name for frame in capture.frames] == [f"seq-{n}_frame-000000" for n in ("01", "02", "10")]
    assert [round(30 * frame.stamp) for frame in capture.frames] == [0, 1, 2]  # one after the other


def test_frames_left_out_take_their_time(tmp_path):
    folder = sequence(tmp_path, frames=5)
    for index in (1, 2):
        (folder / f"frame-{index:06d}.color.png").unlink()
    assert [round(30 * frame.stamp) for frame in open_capture(folder).frames] == [0, 3, 4]


def test_frames_and_files_that_are_missing(tmp_path):
    folder = sequence(tmp_path, frames=3)
    (folder / "frame-000000.pose.txt").unlink()
    (folder / "frame-000001.depth.png").unlink()
    write(folder / "frame-000002.pose.txt", text(np.full((4, 4), np.nan)))
    capture = open_capture(folder)
    (frame,) = capture.frames
    assert frame.name == "frame-000001" and frame.depth is None
    assert capture.skipped == {"pose_missing": 1, "pose_not_finite": 1}
    assert capture.problems == ["1 of 3 frames have no depth: frame-000001"]
    (folder / "frame-000000.depth.png").rename(folder / "frame-000000.depth.proj.png")
    (folder / "frame-000002.depth.png").unlink()
    (problem,) = open_capture(folder).problems
    assert "frame-000000.depth.proj.png belongs to no frame" in problem and problem.endswith("/frame-000000.depth.png")
    for file in folder.glob("*.pose.txt"):
        file.unlink()
    with pytest.raises(DatasetError, match=r"looks like 7-Scenes, but .*frame-<n>\.pose\.txt are missing"):
        open_capture(folder)
