"""Segmenters by name."""

from __future__ import annotations

import importlib.util
import logging
import sys

import cv2
import numpy as np
import pytest

from lift_ros.errors import CheckpointError, ConfigError
from lift_ros.masks.checkpoints import checkpoint_file
from lift_ros.masks.config import MasksConfig
from lift_ros.masks.factory import SEGMENTERS, check_segmenter, make_segmenter


@pytest.mark.parametrize("make", [make_segmenter, check_segmenter])
def test_unknown_name_lists_the_known_ones(make):
    with pytest.raises(ConfigError, match="sam_vit_h.*graph.*topic"):
        make(MasksConfig("sam2"))


@pytest.mark.parametrize("name", [name for name in SEGMENTERS if name.startswith(("sam", "mobile"))])
def test_a_sam_without_a_checkpoint_is_an_error_and_never_something_else(name):
    if name == "mobile_sam_onnx":
        pytest.importorskip("onnxruntime")
    elif importlib.util.find_spec("segment_anything") is None:
        pytest.skip("needs the package segment-anything")
    for make in (make_segmenter, check_segmenter):
        with pytest.raises(CheckpointError):
            make(MasksConfig(name))


def test_graph_says_that_it_is_not_sam(caplog):
    with caplog.at_level(logging.WARNING):
        assert make_segmenter(MasksConfig("graph")).name == "graph"
    assert "not from SAM" in caplog.text
    assert "checkpoint" in caplog.text


@pytest.mark.parametrize("make", [make_segmenter, check_segmenter])
def test_graph_needs_opencvs_contrib_modules(make, monkeypatch):
    make(MasksConfig("graph"))
    monkeypatch.delattr(cv2, "ximgproc")
    with pytest.raises(ConfigError, match="opencv-contrib-python-headless"):
        make(MasksConfig("graph"))


@pytest.mark.parametrize("make", [make_segmenter, check_segmenter])
def test_missing_package_is_named(make, monkeypatch):
    monkeypatch.delitem(sys.modules, "lift_ros.masks.onnx", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="onnxruntime"):
        make(MasksConfig("mobile_sam_onnx"))


def test_files_in_the_home_directory_are_found(tmp_path, monkeypatch):
    """No shell replaces a tilde behind ``checkpoint:=``, nor in a parameter file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mobile_sam.pt").touch()
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "0.png"), np.zeros((2, 2), np.uint8))
    assert checkpoint_file("mobile_sam", "~/mobile_sam.pt") == tmp_path / "mobile_sam.pt"
    assert make_segmenter(MasksConfig("recorded", directory="~/masks")).directory == tmp_path / "masks"
    onnx = pytest.importorskip("lift_ros.masks.onnx")
    for name in (onnx.ENCODER, onnx.DECODER):
        (tmp_path / name).touch()
    assert onnx.exported_pair("~") == (tmp_path / onnx.ENCODER, tmp_path / onnx.DECODER)
