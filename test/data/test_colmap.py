"""COLMAP captures, binary and text, and the releases that build on them: Mip-NeRF 360, LERF-Mask."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from data.layouts import (
    H,
    W,
    assert_labels,
    files_below,
    pose,
    quaternion_xyzw,
    write,
    write_image,
    write_labels,
    write_palette_labels,
    write_rgb,
)

from lift_ros.data import open_capture
from lift_ros.errors import DatasetError, FrameRejected

POINTS = np.array([[1.5, -2.0, 3.25], [0.0, 1.0, 8.0]])
COLORS = [(10, 20, 30), (250, 0, 5)]
PINHOLE = (1, "PINHOLE", 2 * W, 2 * H, (50.0, 51.0, 30.0, 25.0))  # of the images before they were halved


class Model:
    """A sparse model of a few images and its files."""

    def __init__(self, root: Path, names: list[str], camera=PINHOLE) -> None:
        self.root = root
        self.camera = camera
        self.images = []
        for index, name in enumerate(names):
            T = np.linalg.inv(pose(index))
            self.images.append([index + 7, np.roll(quaternion_xyzw(T), 1), T[:3, 3], 3, name])
            write_rgb(root / "images" / name, red=10 * index)

    def write_binary(self, folder: str = "sparse/0") -> None:
        model_id, _, width, height, parameters = self.camera
        cameras = struct.pack("<QiiQQ", 1, 3, model_id, width, height)
        cameras += struct.pack(f"<{len(parameters)}d", *parameters)
        images = struct.pack("<Q", len(self.images))
        for id, q, t, camera_id, name in self.images:
            images += struct.pack("<i7di", id, *q, *t, camera_id) + name.encode() + b"\0"
            images += struct.pack("<Q2dq2dq", 2, 1.5, 2.5, 99, 3.5, 4.5, -1)
        points = struct.pack("<Q", len(POINTS))
        for id, (xyz, rgb) in enumerate(zip(POINTS, COLORS, strict=True)):
            points += struct.pack("<Q3d3BdQ4i", id, *xyz, *rgb, 0.7, 2, 7, 0, 8, 1)
        for name, data in (("cameras", cameras), ("images", images), ("points3D", points)):
            write(self.root / folder / f"{name}.bin", data)

    def write_text(self, folder: str = "sparse/0") -> None:
        _, model, width, height, parameters = self.camera
        numbers = " ".join(map(str, parameters))
        write(self.root / folder / "cameras.txt", f"# Camera list\n3 {model} {width} {height} {numbers}\n")
        lines = ["# Image list"]
        for id, q, t, camera_id, name in self.images:
            lines += [" ".join(map(str, [id, *q, *t, camera_id, name])), "1.5 2.5 99" if id == 7 else ""]
        write(self.root / folder / "images.txt", "\n".join(lines) + "\n")
        points = [
            " ".join(map(str, [id, *xyz, *rgb, 0.7, 7, 0, 8, 1]))
            for id, (xyz, rgb) in enumerate(zip(POINTS, COLORS, strict=True))
        ]
        write(self.root / folder / "points3D.txt", "\n".join(["# 3D point list", *points]) + "\n")


@pytest.mark.parametrize("folder", ["sparse/0", "sparse", "colmap/sparse/0"])
@pytest.mark.parametrize("form", ["write_binary", "write_text"])
def test_poses_cameras_and_points(tmp_path, form, folder):
    names = ["b 10.png", "b 9.png", "a_1.png"]
    getattr(Model(tmp_path, names), form)(folder)
    capture = open_capture(tmp_path)
    frames = list(capture.frames)
    assert [frame.name for frame in frames] == ["a_1", "b 9", "b 10"]
    for frame, index in zip(frames, (2, 1, 0), strict=True):
        np.testing.assert_allclose(frame.T_world_camera, pose(index), atol=1e-12)
        assert frame.image[0, 0].tolist() == [10 * index, 20, 30] and frame.depth is None
    camera = frames[0].camera
    # the images on disk are half the size of the model's camera
    assert (camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy) == (W, H, 25, 25.5, 15, 12.5)
    assert frames[0].stamp < frames[1].stamp < frames[2].stamp
    assert not capture.has_depth and not capture.recorded_names and not capture.problems
    assert set(capture.files) == files_below(tmp_path)
    np.testing.assert_array_equal(capture.sparse_cloud.points, POINTS.astype(np.float32))
    np.testing.assert_array_equal(capture.sparse_cloud.colors, COLORS)


# the same lens in every model that can express it: OpenCV's coefficients, then the parameters
@pytest.mark.parametrize(
    ("camera", "D", "project"),
    [
        ((0, "SIMPLE_PINHOLE", W, H, (40.0, 15.0, 11.0)), [0, 0, 0, 0], cv2.projectPoints),
        ((2, "SIMPLE_RADIAL", W, H, (40.0, 15.0, 11.0, -0.3)), [-0.3, 0, 0, 0], cv2.projectPoints),
        ((3, "RADIAL", W, H, (40.0, 15.0, 11.0, -0.3, 0.1)), [-0.3, 0.1, 0, 0], cv2.projectPoints),
        (
            (4, "OPENCV", W, H, (40.0, 40.0, 15.0, 11.0, -0.3, 0.1, 0.01, 0.02)),
            [-0.3, 0.1, 0.01, 0.02],
            cv2.projectPoints,
        ),
        (
            (5, "OPENCV_FISHEYE", W, H, (40.0, 40.0, 15.0, 11.0, 0.3, 0.1, -0.1, 0.05)),
            [0.3, 0.1, -0.1, 0.05],
            cv2.fisheye.projectPoints,
        ),
        (
            (6, "FULL_OPENCV", W, H, (40.0, 40.0, 15.0, 11.0, 0.3, 0.1, 0.01, 0.02, 0.05, 0.5, 0.1, 0.02)),
            [0.3, 0.1, 0.01, 0.02, 0.05, 0.5, 0.1, 0.02],
            cv2.projectPoints,
        ),
        ((9, "RADIAL_FISHEYE", W, H, (40.0, 15.0, 11.0, 0.3, 0.1)), [0.3, 0.1, 0, 0], cv2.fisheye.projectPoints),
        ((14, "SIMPLE_FISHEYE", W, H, (40.0, 15.0, 11.0)), [0, 0, 0, 0], cv2.fisheye.projectPoints),
        ((15, "FISHEYE", W, H, (40.0, 40.0, 15.0, 11.0)), [0, 0, 0, 0], cv2.fisheye.projectPoints),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("form", ["write_binary", "write_text"])
def test_camera_models(tmp_path, form, camera, D, project):
    model = Model(tmp_path, ["0.png"], camera)
    # a spot where the lens shows a point must be where the undistorted camera projects it
    point = np.array([[[-0.15, 0.1, 1.0]]])
    K = np.array([[40.0, 0, 14.5], [0, 40.0, 10.5], [0, 0, 1]])  # OpenCV's first pixel is centred at 0
    (u, v) = project(point, np.zeros(3), np.zeros(3), K, np.array(D, float))[0].ravel()
    y, x = np.mgrid[0:H, 0:W]
    spot = 255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 4)
    write_image(tmp_path / "images/0.png", np.repeat(spot.astype(np.uint8)[..., None], 3, axis=2))
    getattr(model, form)()
    frame = open_capture(tmp_path).frames[0]
    seen = frame.image[..., 0].astype(float)
    seen[seen < 50] = 0
    found = np.array([(seen * (x + 0.5)).sum(), (seen * (y + 0.5)).sum()]) / seen.sum()
    assert np.abs(found - frame.camera.project(point[0])[0][0]).max() < 0.2
    assert (frame.camera.fx == 40) == (not any(D) and project is cv2.projectPoints)  # what bends is remapped


def test_the_largest_images_are_read_unless_others_are_named(tmp_path):
    model = Model(tmp_path, ["0.jpg", "1.jpg"], (1, "PINHOLE", 4 * W + 1, 4 * H - 1, (100.0, 100.0, 64.0, 48.0)))
    model.write_binary()
    (tmp_path / "images").rename(tmp_path / "images_4")
    write_rgb(tmp_path / "images_8/0.png", size=(W // 2, H // 2))  # of another type than in the model
    write_rgb(tmp_path / "images_8/1.png", size=(W // 2, H // 2))
    (tmp_path / "poses_bounds.npy").write_bytes(b"")
    assert open_capture(tmp_path).frames[0].camera.width == W
    small = open_capture(tmp_path / "images_8")
    assert small.name == tmp_path.name and small.frames[1].camera.width == W // 2
    assert small.frames[1].camera.fx == pytest.approx(100 * (W // 2) / (4 * W + 1))


def test_images_in_folders_and_images_without_their_folders(tmp_path):
    Model(tmp_path, ["left/0.png", "right/0.png"]).write_text()
    assert [frame.name for frame in open_capture(tmp_path).frames] == ["left_0", "right_0"]
    other = tmp_path / "flat"
    Model(other, ["left/0.png", "left/1.png"]).write_text()
    for file in sorted((other / "images/left").iterdir()):
        file.rename(other / "images" / file.name)
    assert [frame.image[0, 0, 0] for frame in open_capture(other).frames] == [0, 10]


def test_no_image_is_read_for_two_of_the_model(tmp_path):
    names = ["left/0.png", "right/0.png", "left/1.png", "2.png", "left/2.png", "3.jpg", "3.png"]
    Model(tmp_path, names).write_text()
    images = tmp_path / "images"
    (images / "left/0.png").rename(images / "0.png")
    (images / "left/1.png").rename(images / "1.png")
    for name in ("right/0.png", "left/2.png", "3.jpg"):
        (images / name).unlink()
    capture = open_capture(tmp_path)
    assert [(frame.name, frame.image[0, 0, 0]) for frame in capture.frames] == [
        ("2.png", 30), ("3.png", 60), ("left_1.png", 20),
    ]  # fmt: skip
    assert capture.skipped == {"image_unreadable": 4}


def test_bad_images_are_skipped_and_counted(tmp_path):
    model = Model(tmp_path, [f"{index}.png" for index in range(6)])
    (tmp_path / "images/0.png").unlink()
    write_rgb(tmp_path / "images/1.png", size=(W, W))
    model.images[2][1] = 1.5 * model.images[2][1]
    model.images[3][2] = np.full(3, np.nan)
    model.images[4][3] = 8
    write_rgb(tmp_path / "images/unregistered.png")
    model.write_binary()
    capture = open_capture(tmp_path)
    assert [frame.name for frame in capture.frames] == ["5"]
    assert capture.skipped == {
        "image_unreadable": 1, "image_size": 1, "pose_not_rigid": 1, "pose_not_finite": 1, "camera_info": 1
    }  # fmt: skip
    assert len(capture.problems) == 1 and "1 images" in capture.problems[0]


@pytest.mark.parametrize("suffix", ["bmp", "tif", "webp", "TIFF", "ppm"])
def test_images_of_other_types_are_read_and_not_counted_as_without_a_pose(tmp_path, suffix):
    Model(tmp_path, [f"left/{index}.{suffix}" for index in range(3)]).write_text()
    capture = open_capture(tmp_path)
    assert len(list(capture.frames)) == 3 and not capture.problems
    write_rgb(tmp_path / "images/unregistered.tif")
    assert open_capture(tmp_path).problems[0].startswith("1 images in")


def test_images_in_linked_folders(tmp_path):
    Model(tmp_path, ["left/0.png", "left/1.png"]).write_text()
    (tmp_path / "images/left").rename(tmp_path / "elsewhere")
    (tmp_path / "images/left").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/up").symlink_to(tmp_path / "images")  # a loop
    write_rgb(tmp_path / "elsewhere/unregistered.png")
    (tmp_path / "elsewhere/1.png").rename(tmp_path / "elsewhere/1.jpg")
    capture = open_capture(tmp_path)
    assert [frame.name for frame in capture.frames] == ["0", "1"] and capture.problems[0].startswith("1 images in")


@pytest.mark.parametrize("link", ["L", "a", "left2", "zz", "0", "M"])  # whichever is listed first
def test_a_link_beside_the_folder_it_leads_to_hides_no_name(tmp_path, link):
    Model(tmp_path, ["left/0.png", "left/1.png"]).write_text()
    (tmp_path / "images" / link).symlink_to(tmp_path / "images/left")
    (tmp_path / "images/left/1.png").rename(tmp_path / "images/left/1.jpg")
    capture = open_capture(tmp_path)
    assert len(list(capture.frames)) == 2 and not capture.problems


def test_wrong_and_incomplete_models(tmp_path):
    model = Model(tmp_path, ["0.png"])
    model.write_binary()
    (tmp_path / "images").rename(tmp_path / "pictures")
    with pytest.raises(DatasetError, match=r"looks like COLMAP, but .*/images is missing"):
        open_capture(tmp_path)
    (tmp_path / "pictures").rename(tmp_path / "images")
    (tmp_path / "sparse/0/points3D.bin").unlink()
    assert open_capture(tmp_path).sparse_cloud is None
    data = (tmp_path / "sparse/0/images.bin").read_bytes()
    for size in (4, 40, 73):
        (tmp_path / "sparse/0/images.bin").write_bytes(data[:size])
        with pytest.raises(DatasetError, match=r"cannot read .*images\.bin as COLMAP's images"):
            open_capture(tmp_path)
    (tmp_path / "sparse/0/images.bin").unlink()
    with pytest.raises(DatasetError, match=r"sparse/0/images\.bin or \.txt is missing"):
        open_capture(tmp_path)
    model.write_binary()
    write(tmp_path / "sparse/0/cameras.bin", struct.pack("<QiiQQ5d", 1, 3, 7, W, H, 1, 1, 1, 1, 1))  # FOV
    with pytest.raises(DatasetError, match="camera model number 7 is not supported.*image_undistorter"):
        open_capture(tmp_path)
    for file in (tmp_path / "sparse/0").iterdir():
        file.unlink()
    model.write_text()
    write(tmp_path / "sparse/0/cameras.txt", "3 PINHOLE 32 24 50.0\n")
    with pytest.raises(DatasetError, match=r"cannot read .*cameras\.txt"):
        open_capture(tmp_path)


def lerf_mask(root: Path) -> None:
    """Four images, the first and the third of them test views."""
    Model(root, [f"frame_{index}.jpg" for index in range(4)]).write_binary()
    for index in range(4):
        write_palette_labels(root / f"object_mask/frame_{index}.png", 40 + index if index % 2 else 0)
    for index in (1, 3):
        write_rgb(root / f"images_train/frame_{index}.jpg")
    for view in ("0", "1"):
        mask = np.zeros((H, W), np.uint8)
        mask[:, : W // 2] = 255
        write_image(root / f"test_mask/{view}/red apple.png", mask)
    mask = np.full((H, W), 100, np.uint8)
    mask[:4, :4] = 255
    write_image(root / "test_mask/1/green apple.png", mask)


def test_lerf_mask(tmp_path):
    lerf_mask(tmp_path)
    capture = open_capture(tmp_path)
    assert capture.recorded_names == ("object_mask", "instances") and not capture.problems
    assert capture.prompts == ("green apple", "red apple")
    assert {file.parent.name for file in files_below(tmp_path) - set(capture.files)} == {"images_train"}
    frames = list(capture.frames)
    for index, frame in enumerate(frames):
        assert_labels(capture.recorded_labels("object_mask", frame), 40 + index if index % 2 else 0)
    assert_labels(capture.recorded_labels("instances", frames[0]), 2)
    assert capture.recorded_labels("instances", frames[1]) is None
    both = capture.recorded_labels("instances", frames[2])
    assert (both[:4, :4] == 1).all() and both[10, 3] == 2 and both[10, 30] == 0  # the smaller one lies above
    assert len(capture.sparse_cloud.points) == 2
    green, red = capture.overlapping_masks("instances", frames[2])
    assert (green[:4, :4] == 1).all() and np.count_nonzero(green) == 16
    assert_labels(red, 2)
    assert not capture.overlapping_masks("instances", frames[1])
    assert not capture.overlapping_masks("object_mask", frames[1])
    small = capture.overlapping_masks("instances", frames[2].resized(W // 2, H // 2))
    assert [mask.shape for mask in small] == [(H // 2, W // 2)] * 2


def test_true_masks_of_a_view_are_read_once(tmp_path, monkeypatch):
    lerf_mask(tmp_path)
    capture = open_capture(tmp_path)
    frames = list(capture.frames)
    read, imread = [], cv2.imread
    monkeypatch.setattr(cv2, "imread", lambda file, *options: read.append(Path(file).name) or imread(file, *options))
    capture.recorded_labels("instances", frames[2])
    assert np.count_nonzero(capture.overlapping_masks("instances", frames[2])[0]) == 16
    assert read == ["green apple.png", "red apple.png"]
    capture.recorded_labels("instances", frames[0])  # another view
    assert read[2:] == ["red apple.png"]


def test_lerf_mask_in_downscaled_images(tmp_path):
    lerf_mask(tmp_path)
    for index in range(4):
        write_rgb(tmp_path / f"images_2/frame_{index}.jpg", size=(W // 2, H // 2))
    capture = open_capture(tmp_path / "images_2")
    assert capture.name == tmp_path.name and capture.recorded_names == ("object_mask", "instances")
    frame = capture.frames[1]
    assert frame.camera.width == W // 2
    labels = capture.recorded_labels("object_mask", frame)
    assert labels.shape == (H // 2, W // 2) and set(np.unique(labels)) == {0, 41}


def test_test_views_of_unknown_images_are_told(tmp_path):
    lerf_mask(tmp_path)
    for file in (tmp_path / "images_train").iterdir():
        file.unlink()
    capture = open_capture(tmp_path)
    assert capture.recorded_names == ("object_mask",)
    assert "images_train" in capture.problems[0]


def test_labels_that_are_no_ids(tmp_path):
    lerf_mask(tmp_path)
    write_rgb(tmp_path / "object_mask/frame_0.png")
    write(tmp_path / "object_mask/frame_1.png", b"no image")
    write_labels(tmp_path / "test_mask/0/red apple.png", 200, size=(W, H))
    write(tmp_path / "test_mask/0/red apple.png", b"v/1\x01")  # of EXR, of which OpenCV raises
    capture = open_capture(tmp_path)
    for index, name, reason in (
        (0, "object_mask", "labels_encoding"),
        (1, "object_mask", "labels_unreadable"),
        (0, "instances", "labels_unreadable"),
    ):
        with pytest.raises(FrameRejected) as error:
            capture.recorded_labels(name, capture.frames[index])
        assert error.value.reason == reason
