"""The published SAM checkpoints, and loading one with an error that says what is wrong and where to get the right one.

File names and addresses are those of the two projects' README files; sizes and SHA-256 are those of the published
files.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from lift_ros.errors import CheckpointError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A published file of weights: where it is, and how to know it."""

    file_name: str
    url: str
    size: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.file_name} ({self.size} bytes, sha256 {self.sha256}), published at {self.url}"


_SAM = "https://dl.fbaipublicfiles.com/segment_anything"
CHECKPOINTS: dict[str, Checkpoint] = {
    "sam_vit_b": Checkpoint(
        "sam_vit_b_01ec64.pth",
        f"{_SAM}/sam_vit_b_01ec64.pth",
        375042383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "sam_vit_l": Checkpoint(
        "sam_vit_l_0b3195.pth",
        f"{_SAM}/sam_vit_l_0b3195.pth",
        1249524607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "sam_vit_h": Checkpoint(
        "sam_vit_h_4b8939.pth",
        f"{_SAM}/sam_vit_h_4b8939.pth",
        2564550879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    "mobile_sam": Checkpoint(
        "mobile_sam.pt",
        "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        40728226,
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    ),
}

# One weight tells the variants apart: the first of the image encoder (its number of output channels).
_FIRST_WEIGHTS = {
    ("image_encoder.patch_embed.proj.weight", 768): "sam_vit_b",
    ("image_encoder.patch_embed.proj.weight", 1024): "sam_vit_l",
    ("image_encoder.patch_embed.proj.weight", 1280): "sam_vit_h",
    ("image_encoder.patch_embed.seq.0.c.weight", 32): "mobile_sam",
}


def load_model(name: str, path: str | Path | None, build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """A SAM of the variant ``name`` (a key of ``CHECKPOINTS``) with the weights in ``path``.

    ``build`` makes the model, once the file has been found to hold that variant. Weights that fit but are not the
    published ones (a fine-tuned model) are loaded, with a warning.

    Raises:
        CheckpointError: no such file, not a checkpoint, cut short, or the weights of another model; the message names
            the expected file, its size and SHA-256 and where it is published.
    """
    expected, path = CHECKPOINTS[name], checkpoint_file(name, path)
    state = _read(path, name)
    variant = variant_of(state)
    if variant is not None and variant != name:
        raise CheckpointError(f"{path} holds the weights of {variant}, not of {name}. {name} expects {expected}.")
    model = build()
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2]
        detail = first[0].strip() if first else str(error)
        raise CheckpointError(
            f"the weights in {path} do not fit {name}: {detail[:300]} {name} expects {expected}."
        ) from error
    if path.stat().st_size != expected.size or sha256(path) != expected.sha256:
        log.warning("%s is not the published %s; using it as a fine-tuned %s", path, expected, name)
    return model


def checkpoint_file(name: str, path: str | Path | None) -> Path:
    """Where the weights of ``name`` (a key of ``CHECKPOINTS``) are; they are not read.

    Raises:
        CheckpointError: no such file; the message as that of ``load_model``.
    """
    expected = CHECKPOINTS[name]
    if not path:
        raise CheckpointError(
            f"{name} needs a checkpoint, and none is configured (masks.checkpoint). Expected: {expected}."
        )
    file = Path(os.path.expanduser(path))  # no shell does it behind :=, nor in a parameter file
    if not file.is_file():
        raise CheckpointError(f"there is no checkpoint file at {file}. {name} expects {expected}.")
    return file


def variant_of(state: dict[str, torch.Tensor]) -> str | None:
    """Which published model these weights are of, by the shape of the image encoder; None if of none."""
    for (key, channels), variant in _FIRST_WEIGHTS.items():
        if key in state and state[key].shape[0] == channels:
            return variant
    return None


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read(path: Path, name: str) -> dict[str, torch.Tensor]:
    """The state dict in ``path``, read without running code from the file."""
    expected = CHECKPOINTS[name]
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        size = path.stat().st_size
        what = "is not a PyTorch checkpoint that can be read safely"
        if size < expected.size:
            what += f"; it has {size} bytes, the published file {expected.size}: was the download cut short?"
        raise CheckpointError(f"{path} {what}. {name} expects {expected}.") from error
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise CheckpointError(f"{path} does not hold a model's weights by name. {name} expects {expected}.")
    return state
