"""The exported pair against the torch model it was exported from."""

from __future__ import annotations

import importlib.util
import shutil
import sys

import numpy as np
import pytest
import torch
from masks.models import frame_of, make_selective, needs_segment_anything, random_image

from lift_ros.cli import main
from lift_ros.errors import CheckpointError
from lift_ros.masks.config import MasksConfig
from lift_ros.masks.factory import make_segmenter
from lift_ros.masks.tiny_vit import TinyViT

pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytestmark = needs_segment_anything


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small MobileSAM and the directory with the ONNX files that ``lift export-sam`` makes of its checkpoint."""
    pytest.importorskip("onnx", reason="the export needs onnx")
    from lift_ros.masks import mobile_sam

    def small() -> torch.nn.Module:
        encoder = TinyViT(128, (8, 16, 16, 16), (1, 1, 1, 1), (1, 2, 2, 2), (7, 7, 4, 3))
        return build(encoder)

    build = mobile_sam.build_mobile_sam
    torch.manual_seed(0)
    sam = small()
    make_selective(sam)
    directory = tmp_path_factory.mktemp("onnx")
    checkpoint = directory / "mobile_sam.pt"
    torch.save(sam.state_dict(), checkpoint)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mobile_sam, "build_mobile_sam", small)
        assert main(["export-sam", str(checkpoint), "--out", str(directory / "pair")]) == 0
    return sam, directory / "pair"


def test_the_command_writes_the_pair_and_nothing_else(exported):
    from lift_ros.masks.onnx import DECODER, ENCODER

    assert sorted(file.name for file in exported[1].iterdir()) == sorted([DECODER, ENCODER])


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
    segmenter = make_segmenter(MasksConfig("mobile_sam_onnx", str(exported[1])))
    masks = segmenter.segment(frame_of(np.zeros((30, 40, 3), np.uint8)))
    assert masks.masks.shape[1:] == (30, 40)
    assert masks.prompts_used == 256


def test_missing_damaged_and_swapped_files_say_how_to_make_them(exported, tmp_path):
    from lift_ros.masks.onnx import DECODER, ENCODER

    with pytest.raises(CheckpointError, match="no checkpoint is configured.*lift export-sam"):
        make_segmenter(MasksConfig("mobile_sam_onnx"))
    with pytest.raises(CheckpointError, match=f"no file .*{ENCODER}.*lift export-sam"):
        make_segmenter(MasksConfig("mobile_sam_onnx", str(tmp_path)))
    (tmp_path / ENCODER).touch()
    with pytest.raises(CheckpointError, match=f"no file .*{DECODER}.*lift export-sam"):
        make_segmenter(MasksConfig("mobile_sam_onnx", str(tmp_path)))
    shutil.copy(exported[1] / DECODER, tmp_path)
    whole = (exported[1] / ENCODER).read_bytes()
    (tmp_path / ENCODER).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a readable ONNX model.*lift export-sam"):
        make_segmenter(MasksConfig("mobile_sam_onnx", str(tmp_path)))
    (tmp_path / ENCODER).write_bytes((exported[1] / DECODER).read_bytes())
    with pytest.raises(CheckpointError, match="is another model.*lift export-sam"):
        make_segmenter(MasksConfig("mobile_sam_onnx", str(tmp_path)))


def test_an_export_that_cannot_be_written_fails_before_the_checkpoint_is_read(tmp_path, capsys):
    (tmp_path / "mobile_sam.pt").write_bytes(b"no weights")
    (tmp_path / "pair").touch()
    assert main(["export-sam", str(tmp_path / "mobile_sam.pt"), "--out", str(tmp_path / "pair")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lift: cannot write to {tmp_path / 'pair'}: ")


@pytest.mark.parametrize("package", ["onnxruntime", "onnx", "segment-anything"])
def test_what_an_export_needs_is_said(tmp_path, capsys, monkeypatch, package):
    monkeypatch.delitem(sys.modules, "lift_ros.masks.onnx", raising=False)
    if package == "segment-anything":  # is looked for without being imported
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name == "segment_anything" else find(name)
        )
    else:
        monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "mobile_sam.pt").touch()
    assert main(["export-sam", str(tmp_path / "mobile_sam.pt"), "--out", str(tmp_path / "pair")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"needs the Python package {package}: pip install" in line and not (tmp_path / "pair").exists()


def test_export_of_a_missing_checkpoint_names_the_published_one(tmp_path):
    from lift_ros.masks.onnx import export_mobile_sam_onnx

    with pytest.raises(CheckpointError, match="mobile_sam.pt.*6dbb90523a35"):
        export_mobile_sam_onnx(tmp_path / "absent.pt", tmp_path)
    assert not list(tmp_path.iterdir())
