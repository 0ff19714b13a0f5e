"""Single files of captures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from data.layouts import write

from lift_ros.data.files import camera_mask, natural_key, read_depth, read_image, read_labels, read_mask
from lift_ros.errors import ConfigError, FrameRejected

EXR = b"v/1\x01 and more"  # of which OpenCV raises that it reads none, rather than to return nothing


def test_what_depth_in_exr_takes_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENCV_IO_ENABLE_OPENEXR", raising=False)
    write(tmp_path / "0.exr", EXR)
    with pytest.raises(FrameRejected, match=r"/0\.exr cannot be read: EXR needs OPENCV_IO_ENABLE_OPENEXR=1") as error:
        read_depth(tmp_path / "0.exr", 0.001)
    assert error.value.reason == "depth_unreadable"
    monkeypatch.setenv("OPENCV_IO_ENABLE_OPENEXR", "1")
    with pytest.raises(FrameRejected, match=r"/0\.exr is damaged"):
        read_depth(tmp_path / "0.exr", 0.001)


@pytest.mark.parametrize("content", [EXR, b"no image", b""])
def test_an_image_that_is_none_costs_its_frame(tmp_path: Path, content: bytes):
    write(tmp_path / "0.png", content)
    with pytest.raises(FrameRejected, match=r"/0\.png is damaged") as error:
        read_image(tmp_path / "0.png", cv2.IMREAD_GRAYSCALE, "labels_unreadable")
    assert error.value.reason == "labels_unreadable"


@pytest.mark.parametrize("suffix", [".png", ".npy", ".tif"])
def test_the_greatest_of_16_bits_is_no_label(tmp_path, suffix):
    labels = np.array([[0, 1], [65534, 65535]], np.uint16)
    file = tmp_path / f"0{suffix}"
    np.save(file, labels) if suffix == ".npy" else cv2.imwrite(str(file), labels)
    assert read_labels(file).tolist() == [[0, 1], [65534, 0]]
    np.save(tmp_path / "32.npy", labels.astype(np.int32))
    assert read_labels(tmp_path / "32.npy").tolist() == [[0, 1], [65534, 65535]]


def test_numbers_sort_by_value_and_what_only_looks_like_one_does_not():
    names = ["1²2", "10", "9", "a"]  # a superscript two is a digit, and no number
    assert sorted(names, key=natural_key) == ["1²2", "9", "10", "a"]


def test_depth_as_numbers(tmp_path):
    np.save(tmp_path / "0.npy", np.full((2, 3, 1), 1500.0, np.float32))
    np.testing.assert_allclose(read_depth(tmp_path / "0.npy", 0.001), np.full((2, 3), 1.5))


@pytest.mark.parametrize(
    ("suffix", "values", "kind"),
    [
        (".png", (0, 255), np.uint8),
        (".png", (0, 1), np.uint8),
        (".png", (0, 65535), np.uint16),
        (".png", (0, 1), np.uint16),
        (".png", (40, 255), np.uint8),
        (".jpg", (0, 255), np.uint8),
    ],
)
def test_masks_of_any_depth_are_black_and_white(tmp_path, suffix, values, kind):
    expected = np.zeros((48, 64), bool)
    expected[8:24, 16:40] = True
    file = tmp_path / f"mask{suffix}"
    cv2.imwrite(str(file), np.where(expected, *values).astype(kind))
    assert (read_mask(file) == expected).mean() > (0.99 if suffix == ".jpg" else 0.9999)
    colored = np.where(expected[..., None], 0, (40, 90, 255)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "red.png"), colored)
    assert np.array_equal(read_mask(tmp_path / "red.png"), expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.dstack([np.full((4, 4, 3), 255), np.eye(4) * 255]).astype(np.uint8), "transparent in places"),
        (np.zeros((4, 4), np.uint8), "black all over"),
    ],
)
def test_masks_that_say_nothing(tmp_path, image, message):
    cv2.imwrite(str(tmp_path / "mask.png"), image)
    with pytest.raises(FrameRejected, match=message) as rejected:
        read_mask(tmp_path / "mask.png")
    assert rejected.value.reason == "mask_unreadable"
    with pytest.raises(ConfigError, match=f"camera_mask: .*{message}"):
        camera_mask(str(tmp_path / "mask.png"))


def test_a_camera_mask_without_black_is_none(tmp_path, caplog):
    cv2.imwrite(str(tmp_path / "white.png"), np.full((4, 4), 255, np.uint8))
    with pytest.raises(ConfigError, match="none of .*white.png is black"):
        camera_mask(str(tmp_path / "white.png"))
    mostly = np.zeros((4, 4), np.uint8)
    mostly[0] = 255
    cv2.imwrite(str(tmp_path / "mostly.png"), mostly)
    assert camera_mask(str(tmp_path / "mostly.png")).mean() == 0.75
    assert "leaves out 75.0 %" in caplog.text
    assert camera_mask("") is None
