"""The TUM RGB-D benchmark's format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.layouts import H, W, files_below, pose, quaternion_xyzw, write, write_depth, write_rgb

from lift_ros.data import open_capture
from lift_ros.errors import DatasetError

START = 1305031102.175304
NAME = "rgbd_dataset_freiburg3_test"


def row(stamp: float, index: int) -> str:
    T = pose(index)
    return " ".join([f"{stamp:.4f}", *(f"{value:.4f}" for value in (*T[:3, 3], *quaternion_xyzw(T)))])


def tum(root: Path) -> Path:
    rgb, depth, truth = ["# color images"], ["# depth maps"], ["# ground truth trajectory"]
    for index in range(4):
        stamp = START + 0.1 * index
        write_rgb(root / f"rgb/{stamp:.6f}.png", red=index)
        rgb.append(f"{stamp:.6f} rgb/{stamp:.6f}.png")
        offset = (0.015, -0.015, 0.015, 0.025)[index]  # the last is too far
        write_depth(root / f"depth/{stamp + offset:.6f}.png", 5000 + index)
        depth.append(f"{stamp + offset:.6f} depth/{stamp + offset:.6f}.png")
        if index != 2:  # the motion capture lost it
            truth += [row(stamp - 0.018, 9), row(stamp + 0.004, index)]
    truth.append("# end")
    for name, lines in (("rgb", rgb), ("depth", reversed(depth)), ("groundtruth", truth)):
        write(root / f"{name}.txt", "\n".join(lines) + "\n")
    return root


def test_frames_are_associated_by_time(tmp_path):
    root = tum(tmp_path / NAME)
    capture = open_capture(root)
    frames = list(capture.frames)
    assert [frame.image[0, 0, 0] for frame in frames] == [0, 1, 3]
    assert capture.skipped == {"pose_missing": 1} and capture.has_depth
    for frame, index in zip(frames, (0, 1, 3), strict=True):
        np.testing.assert_allclose(frame.T_world_camera, pose(index), atol=3e-4)  # the file rounds
        assert frame.stamp == pytest.approx(START + 0.1 * index, abs=1e-5)
        assert frame.name == f"{START + 0.1 * index:.6f}"
    assert [None if frame.depth is None else frame.depth[5, 5] for frame in frames[:2]] == pytest.approx([1, 1.0002])
    assert frames[0].depth[0, 0] == 0 and frames[2].depth is None
    assert files_below(root) - set(capture.files) == {root / f"depth/{START + 0.325:.6f}.png"}
    assert capture.problems == [f"1 of 4 frames have no depth within 0.02 s: {START + 0.3:.6f}"]


@pytest.mark.parametrize(
    ("name", "fx", "cx"),
    [(NAME, 535.4, 320.6), ("fr3_office", 535.4, 320.6), ("own_recording", 525.0, 320.0)],
)
def test_intrinsics_go_by_the_name(tmp_path, name, fx, cx):
    capture = open_capture(tum(tmp_path / name))
    camera = capture.frames[0].camera
    assert (camera.fx, camera.cx) == pytest.approx((fx * W / 640, cx * W / 640))
    assert any("default intrinsics" in problem for problem in capture.problems) == (name == "own_recording")


def test_the_first_two_cameras_are_undistorted(tmp_path):
    fx = [open_capture(tum(tmp_path / f"freiburg{room}_xyz")).frames[0].camera.fx for room in (1, 2)]
    assert fx[0] != pytest.approx(517.3 * W / 640) and fx[1] != pytest.approx(520.9 * W / 640)
    assert all(0.8 < value / (520 * W / 640) < 1.2 for value in fx)


def test_colour_alone(tmp_path):
    root = tum(tmp_path / NAME)
    (root / "depth.txt").unlink()
    capture = open_capture(root)
    assert not capture.has_depth and not capture.problems and capture.frames[0].depth is None
    write(root / "depth.txt", f"{START + 9} depth/9.png\n")
    assert open_capture(root).problems == ["no frame has depth: depth.txt lists none within 0.02 s of a colour image"]
    assert capture.frames[0].image.shape == (H, W, 3)


def test_frames_are_in_the_order_of_time(tmp_path):
    root = tum(tmp_path / NAME)
    lines = (root / "rgb.txt").read_text().splitlines()
    write(root / "rgb.txt", "\n".join(reversed(lines)))
    assert [frame.image[0, 0, 0] for frame in open_capture(root).frames] == [0, 1, 3]


def test_the_camera_goes_by_the_name_of_a_link(tmp_path):
    (tmp_path / "freiburg3_desk").symlink_to(tum(tmp_path / "0123abcd"))
    capture = open_capture(tmp_path / "freiburg3_desk")
    assert capture.name == "freiburg3_desk" and not any("default" in problem for problem in capture.problems)
    (tmp_path / "current").symlink_to((tmp_path / "0123abcd").rename(tmp_path / "freiburg1_desk"))
    assert not any("default" in problem for problem in open_capture(tmp_path / "current").problems)


@pytest.mark.parametrize(
    ("name", "cut", "columns"),
    [("groundtruth", "1305031102.5 1 2", "3 of 8"), ("depth", "13050", "1 of 2"), ("rgb", "1305031102.5", "1 of 2")],
)
def test_a_line_that_a_killed_recorder_began_is_left_out(tmp_path, name, cut, columns):
    root = tum(tmp_path / NAME)
    whole = open_capture(root)
    content = (root / f"{name}.txt").read_text()
    write(root / f"{name}.txt", content + cut)
    capture = open_capture(root)
    (problem,) = set(capture.problems) - set(whole.problems)
    assert f"{name}.txt was cut off: line {content.count(chr(10)) + 1} has {columns} columns" in problem
    assert [frame.name for frame in capture.frames] == [frame.name for frame in whole.frames]
    write(root / f"{name}.txt", cut + "\n" + content)
    with pytest.raises(DatasetError, match=rf"{name}\.txt: line 1 has {columns} columns"):
        open_capture(root)


def test_lists_that_are_marked_as_utf8(tmp_path):
    root = tum(tmp_path / NAME)
    for name in ("rgb", "depth", "groundtruth"):
        content = (root / f"{name}.txt").read_bytes().split(b"\n", 1)[1]  # the first line counts
        write(root / f"{name}.txt", b"\xef\xbb\xbf" + content)
    assert len(list(open_capture(root).frames)) == 3


def test_what_is_missing_or_wrong_is_named(tmp_path):
    root = tum(tmp_path / NAME)
    truth = (root / "groundtruth.txt").read_text()
    (root / "groundtruth.txt").unlink()
    with pytest.raises(DatasetError, match=r"looks like the TUM RGB-D benchmark, but .*groundtruth\.txt is missing"):
        open_capture(root)
    write(root / "groundtruth.txt", "1 2 3\n")
    with pytest.raises(DatasetError, match=r"groundtruth\.txt: line 1 has 3 of 8 columns"):
        open_capture(root)
    write(root / "groundtruth.txt", truth.replace(row(START + 0.104, 1)[:22], f"{START + 0.104:.4f} nan"))
    capture = open_capture(root)
    assert len(list(capture.frames)) == 2 and capture.skipped["pose_not_finite"] == 1
    write(root / "rgb.txt", "# nothing\n")
    with pytest.raises(DatasetError, match=r"rgb\.txt lists no images"):
        open_capture(root)
