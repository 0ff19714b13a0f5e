"""The exported pair against the torch model it was exported from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from masks.models import frame_of, make_selective, needs_segment_anything, random_image

from lift_ros.errors import CheckpointError
from lift_ros.masks import make_segmenter
from lift_ros.masks.tiny_vit import TinyViT

pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytestmark = needs_segment_anything


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small MobileSAM and the directory with its ONNX files."""
    pytest.importorskip("onnx", reason="the export needs onnx")
    from lift_ros.masks.mobile_sam import build_mobile_sam
    from lift_ros.masks.onnx import export_sam

    torch.manual_seed(0)
    encoder = TinyViT(128, (8, 16, 16, 16), (1, 1, 1, 1), (1, 2, 2, 2), (7, 7, 4, 3))
    sam = build_mobile_sam(encoder)
    make_selective(sam)
    directory = tmp_path_factory.mktemp("onnx")
    export_sam(sam, directory)
    return sam, directory


@pytest.mark.parametrize("points", [1, 2, 7])
def test_same_logits_as_torch_for_any_number_of_points(exported, points):
    from lift_ros.masks.onnx import OnnxSam
    from lift_ros.masks.sam import TorchSam

    sam, directory = exported
    torch_sam, onnx_sam = TorchSam(sam, "cpu"), OnnxSam(directory)
    assert onnx_sam.input_size == 128
    image = random_image(90, 120)
    embedding = torch_sam.embed(image)
    np.testing.assert_allclose(onnx_sam.embed(image), embedding, atol=1e-4)
    prompt = np.random.default_rng(points).uniform(0, 128, (points, 2)).astype(np.float32)
    expected, found = torch_sam.decode(embedding, prompt), onnx_sam.decode(embedding.numpy(), prompt)
    assert np.ptp(expected[0]) > 1
    for e, f in zip(expected, found, strict=True):
        np.testing.assert_allclose(f, e, atol=1e-3 * np.abs(e).max())


def test_segmenter_from_the_exported_pair(exported):
    segmenter = make_segmenter("mobile_sam_onnx", exported[1])
    masks = segmenter.segment(frame_of(np.zeros((30, 40, 3), np.uint8)))
    assert masks.masks.shape[1:] == (30, 40)
    assert masks.prompts_used == 1024


def test_missing_damaged_and_swapped_files_say_how_to_make_them(exported, tmp_path):
    from lift_ros.masks.onnx import DECODER, ENCODER

    with pytest.raises(CheckpointError, match="no checkpoint is configured.*lift export-sam"):
        make_segmenter("mobile_sam_onnx")
    with pytest.raises(CheckpointError, match=f"no file .*{ENCODER}.*lift export-sam"):
        make_segmenter("mobile_sam_onnx", tmp_path)
    whole = (exported[1] / ENCODER).read_bytes()
    (tmp_path / ENCODER).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a readable ONNX model.*lift export-sam"):
        make_segmenter("mobile_sam_onnx", tmp_path)
    (tmp_path / ENCODER).write_bytes((exported[1] / DECODER).read_bytes())
    with pytest.raises(CheckpointError, match="is another model.*lift export-sam"):
        make_segmenter("mobile_sam_onnx", tmp_path)


def test_export_of_a_missing_checkpoint_names_the_published_one(tmp_path):
    from lift_ros.masks.onnx import export_mobile_sam_onnx

    with pytest.raises(CheckpointError, match="mobile_sam.pt.*6dbb90523a35"):
        export_mobile_sam_onnx(tmp_path / "absent.pt", tmp_path)
    assert not list(tmp_path.iterdir())
