"""Checkpoints: MobileSAM's layout for real, and every way in which a file can be the wrong one."""

from __future__ import annotations

import logging
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from masks.models import frame_of, needs_segment_anything

from lift_ros.config import Config
from lift_ros.errors import CheckpointError
from lift_ros.mapping.prepare import make_mapper_segmenter
from lift_ros.masks.checkpoints import CHECKPOINTS, load_model, sha256, variant_of
from lift_ros.masks.config import MasksConfig
from lift_ros.masks.factory import make_segmenter
from lift_ros.options import with_values


@pytest.fixture(scope="module")
def mobile_sam_file(tmp_path_factory) -> Path:
    """A file in the layout of mobile_sam.pt, with random weights."""
    from lift_ros.masks.mobile_sam import build_mobile_sam

    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "mobile_sam.pt"
    torch.save(build_mobile_sam().state_dict(), path)
    return path


def no_model() -> torch.nn.Module:
    pytest.fail("a model was built for a file that cannot be its checkpoint")


def expected_file(name: str) -> str:
    """Pattern of what every message must hold."""
    known = CHECKPOINTS[name]
    return ".*".join(re.escape(str(part)) for part in (known.file_name, known.size, known.sha256, known.url))


@needs_segment_anything
def test_weights_that_are_not_the_published_ones_load_with_a_warning(mobile_sam_file, caplog):
    from lift_ros.masks.mobile_sam import build_mobile_sam

    with caplog.at_level(logging.WARNING):
        model = load_model("mobile_sam", mobile_sam_file, build_mobile_sam)
    assert "not the published mobile_sam.pt" in caplog.text
    weights = torch.load(mobile_sam_file, weights_only=True)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


@needs_segment_anything
def test_segmenter_from_a_file(mobile_sam_file):
    segmenter = make_segmenter(MasksConfig("mobile_sam", str(mobile_sam_file), points_per_side=1))
    masks = segmenter.segment(frame_of(np.zeros((30, 40, 3), np.uint8)))
    assert (segmenter.name, masks.prompts_used) == ("mobile_sam", 1)


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize("path", [None, "", "/nowhere/sam.pth"])
def test_no_file(name, path):
    with pytest.raises(CheckpointError, match=expected_file(name)):
        load_model(name, path, no_model)


@needs_segment_anything
def test_another_variant_is_named(mobile_sam_file):
    with pytest.raises(CheckpointError, match="holds the weights of mobile_sam, not of sam_vit_b.*sam_vit_b_01ec64"):
        load_model("sam_vit_b", mobile_sam_file, no_model)


@pytest.mark.parametrize("channels, name", [(768, "sam_vit_b"), (1024, "sam_vit_l"), (1280, "sam_vit_h"), (7, None)])
def test_variants_are_told_apart(channels, name):
    assert variant_of({"image_encoder.patch_embed.proj.weight": torch.empty(channels, 3, 16, 16)}) == name


@needs_segment_anything
def test_variants_are_told_apart_by_what_the_package_builds():
    from lift_ros.masks.mobile_sam import build_mobile_sam
    from lift_ros.masks.sam import build_sam

    assert variant_of(build_mobile_sam().state_dict()) == "mobile_sam"
    with torch.device("meta"):
        assert variant_of(build_sam("sam_vit_b").state_dict()) == "sam_vit_b"


@needs_segment_anything
def test_a_download_cut_short(mobile_sam_file, tmp_path):
    path = tmp_path / "mobile_sam.pt"
    path.write_bytes(mobile_sam_file.read_bytes()[:1_000_000])
    with pytest.raises(CheckpointError, match="has 1000000 bytes.*cut short.*" + expected_file("mobile_sam")):
        load_model("mobile_sam", path, no_model)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 not a zip", b"\x80\x02}q\x00."])
def test_something_else_entirely(content, tmp_path):
    path = tmp_path / "mobile_sam.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=expected_file("mobile_sam")):
        load_model("mobile_sam", path, no_model)


def test_code_in_a_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "ran").touch, ())

    path = tmp_path / "mobile_sam.pt"
    torch.save({"image_encoder.patch_embed.seq.0.c.weight": Evil()}, path)
    with pytest.raises(CheckpointError, match="safely"):
        load_model("mobile_sam", path, no_model)
    assert not (tmp_path / "ran").exists()


def test_weights_that_do_not_fit(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"a.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="do not fit mobile_sam.*" + expected_file("mobile_sam")):
        load_model("mobile_sam", path, partial(torch.nn.Linear, 2, 2))
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="does not hold a model's weights"):
        load_model("mobile_sam", path, partial(torch.nn.Linear, 2, 2))


def test_sha256(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@needs_segment_anything
def test_the_thresholds_of_the_configuration_are_those_of_the_segmenter(mobile_sam_file):
    given = {"points_per_side": 2, "pred_iou_thresh": 0.1, "stability_score_thresh": 0.2, "box_nms_thresh": 0.3}
    masks = {"segmenter": "mobile_sam", "checkpoint": str(mobile_sam_file), **given}
    config = with_values(Config(), {"mapping.device": "cpu"} | {f"masks.{name}": v for name, v in masks.items()})
    used = make_mapper_segmenter(config).config
    assert {name: getattr(used, name) for name in given} == given
