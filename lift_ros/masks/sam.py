"""SAM with the segment_anything package's models: vit_b, vit_l, vit_h."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.masks.checkpoints import load_model
from lift_ros.masks.sam_image import preprocess

VARIANTS = {"sam_vit_b": "vit_b", "sam_vit_l": "vit_l", "sam_vit_h": "vit_h"}


def segment_anything(module: str) -> ModuleType:
    """Import ``segment_anything.<module>`` without running the package's ``__init__``.

    That imports torchvision for the package's own predictor and mask generator, which are not used here, and whose
    build has to match torch's exactly. The models need torch alone.
    """
    spec = importlib.util.find_spec("segment_anything")
    if spec is None:
        raise ModuleNotFoundError("SAM needs the package segment-anything", name="segment-anything")
    bare = "lift_ros.masks._segment_anything"
    if bare not in sys.modules:
        package = ModuleType(bare)
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules[bare] = package
    return importlib.import_module(f"{bare}.{module}")


def build_sam(name: str) -> torch.nn.Module:
    """A ``segment_anything.modeling.Sam`` with random weights; ``name`` is a key of ``VARIANTS``."""
    return segment_anything("build_sam").sam_model_registry[VARIANTS[name]]()


def load_sam(name: str, checkpoint: str | Path | None, device: str) -> TorchSam:
    """The variant ``name`` with the weights of ``checkpoint`` (see ``checkpoints.load_model``), on ``device``."""
    return TorchSam(load_model(name, checkpoint, partial(build_sam, name)), device)


class TorchSam:
    """A ``Sam`` module as the mask generator's promptable model."""

    def __init__(self, sam: torch.nn.Module, device: str) -> None:
        self.sam = sam.to(device).eval()
        self.input_size: int = sam.image_encoder.img_size

    @torch.inference_mode()
    def embed(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """(H, W, 3) uint8 RGB -> (1, C, input_size / 16, input_size / 16)."""
        return self.sam.image_encoder(torch.from_numpy(preprocess(image, self.input_size)).to(self.sam.device))

    @torch.inference_mode()
    def decode(
        self, embedding: torch.Tensor, points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(P, 2) foreground points in input pixels -> (P, 3, h, w) mask logits, (P, 3) predicted IoU."""
        logits, iou = decode_points(self.sam, embedding, torch.from_numpy(points).to(embedding.device))
        return logits.cpu().numpy(), iou.cpu().numpy()


def decode_points(
    sam: torch.nn.Module, embedding: torch.Tensor, points: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompt encoder and mask decoder for (P, 2) single foreground points, three masks each.

    ``PromptEncoder`` told to encode a foreground point and the padding point that stands for the missing box, written
    without its assignments by label, which an exporter would freeze at the number of points it has seen.
    """
    encoder = sam.prompt_encoder
    foreground = encoder.pe_layer.forward_with_coords(points[:, None] + 0.5, encoder.input_image_size)
    foreground = foreground + encoder.point_embeddings[1].weight
    padding = encoder.not_a_point_embed.weight.expand_as(foreground)
    dense = encoder.no_mask_embed.weight[:, :, None, None].expand(-1, -1, *encoder.image_embedding_size)
    return sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=encoder.get_dense_pe(),
        sparse_prompt_embeddings=torch.cat([foreground, padding], dim=1),
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
