"""MobileSAM as a pair of ONNX files that ONNX Runtime reads on the CPU, without segment_anything; and their export."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from lift_ros.errors import CheckpointError
from lift_ros.masks.checkpoints import checkpoint_file
from lift_ros.masks.mobile_sam import load_mobile_sam
from lift_ros.masks.sam import decode_points, segment_anything
from lift_ros.masks.sam_image import preprocess

ENCODER = "mobile_sam_encoder.onnx"
DECODER = "mobile_sam_decoder.onnx"
HOW = (
    f"mobile_sam_onnx expects a directory with {ENCODER} and {DECODER}; "
    "make them with: lift export-sam mobile_sam.pt --out DIRECTORY"
)


class OnnxSam:
    """An exported encoder and decoder in ONNX Runtime as the mask generator's promptable model."""

    def __init__(self, directory: str | Path | None) -> None:
        """Load both files of ``directory``.

        Raises:
            CheckpointError: a file is missing or is not the one exported; the message says how to make it.
        """
        encoder, decoder = exported_pair(directory)
        self._encoder = _session(encoder, {"image": 4})
        self._decoder = _session(decoder, {"embedding": 4, "points": 2})
        self.input_size: int = self._encoder.get_inputs()[0].shape[2]

    def embed(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W, 3) uint8 RGB -> (1, C, input_size / 16, input_size / 16)."""
        return self._encoder.run(None, {"image": preprocess(image, self.input_size)})[0]

    def decode(
        self, embedding: NDArray[np.float32], points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(P, 2) foreground points in input pixels -> (P, 3, h, w) mask logits, (P, 3) predicted IoU."""
        logits, iou = self._decoder.run(None, {"embedding": embedding, "points": points})
        return logits, iou


def exported_pair(directory: str | Path | None) -> tuple[Path, Path]:
    """The encoder and the decoder in ``directory``; they are not read.

    Raises:
        CheckpointError: a file is missing; the message says how to make it.
    """
    if not directory:
        raise CheckpointError(f"no checkpoint is configured (masks.checkpoint). {HOW}")
    folder = Path(os.path.expanduser(directory))
    pair = folder / ENCODER, folder / DECODER
    for path in pair:
        if not path.is_file():
            raise CheckpointError(f"there is no file {path}. {HOW}")
    return pair


def export_mobile_sam_onnx(checkpoint: str | Path, out_dir: str | Path) -> tuple[Path, Path]:
    """Write MobileSAM's encoder and decoder as ONNX files into ``out_dir``; returns their paths.

    Raises:
        CheckpointError: ``checkpoint`` is missing or is not MobileSAM's.
        ModuleNotFoundError: a package that the export needs is not installed.
        OSError: ``out_dir`` cannot be written.
    """
    import_module("onnx")  # torch would miss it in the end, and say so in its own words
    segment_anything("modeling")
    checkpoint_file("mobile_sam", checkpoint)
    Path(out_dir).mkdir(parents=True, exist_ok=True)  # an error now, not after the loading
    return export_sam(load_mobile_sam(checkpoint, "cpu").sam, out_dir)


def export_sam(sam, out_dir: str | Path) -> tuple[Path, Path]:
    """Export a ``segment_anything.modeling.Sam`` on the CPU into a directory: see ``export_mobile_sam_onnx``."""

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sam = sam

        def forward(self, embedding: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return decode_points(self.sam, embedding, points)

    encoder, decoder = Path(out_dir) / ENCODER, Path(out_dir) / DECODER
    size = sam.image_encoder.img_size
    image = torch.zeros(1, 3, size, size)
    with torch.no_grad():
        embedding = sam.image_encoder(image)
    points = torch.full((2, 2), size / 2.0)
    dynamic = {"points": {0: "P"}, "logits": {0: "P"}, "iou": {0: "P"}}
    _export(sam.image_encoder, (image,), encoder, ["image"], ["embedding"], {})
    _export(Decoder().eval(), (embedding, points), decoder, ["embedding", "points"], ["logits", "iou"], dynamic)
    return encoder, decoder


def _export(module, inputs, path: Path, input_names, output_names, dynamic_axes) -> None:
    """Export under a temporary name, so that an interrupted export leaves no half a model."""
    temporary = path.with_suffix(".partial")
    torch.onnx.export(
        module,
        inputs,
        str(temporary),
        input_names=input_names,
        output_names=output_names,
        dynamic_axes=dynamic_axes,
        opset_version=17,
        dynamo=False,  # the tracing exporter: the other one needs onnxscript and adds nothing for a static graph
    )
    os.replace(temporary, path)


def _session(path: Path, inputs: dict[str, int]) -> onnxruntime.InferenceSession:
    """A session whose inputs have these names and numbers of dimensions."""
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors have no common base but this one
        raise CheckpointError(f"{path} is not a readable ONNX model ({error}). {HOW}") from error
    found = {node.name: len(node.shape) for node in session.get_inputs()}
    if found != inputs:
        raise CheckpointError(f"{path} is another model: its inputs are {sorted(found)}. {HOW}")
    return session
