"""Single files of captures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from data.layouts import write

from lift_ros.data.files import read_depth, read_image
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


def test_depth_as_numbers(tmp_path):
    np.save(tmp_path / "0.npy", np.full((2, 3, 1), 1500.0, np.float32))
    np.testing.assert_allclose(read_depth(tmp_path / "0.npy", 0.001), np.full((2, 3), 1.5))
