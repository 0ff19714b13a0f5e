"""Single files of captures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from data.layouts import write

from lift_ros.data.files import natural_key, read_depth, read_image, read_labels
from lift_ros.errors import FrameRejected

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
