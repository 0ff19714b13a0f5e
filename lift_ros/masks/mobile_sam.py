"""MobileSAM: SAM's prompt encoder and mask decoder behind a TinyViT image encoder."""

from __future__ import annotations

from pathlib import Path

import torch

from lift_ros.masks.checkpoints import load_model
from lift_ros.masks.sam import TorchSam, segment_anything
from lift_ros.masks.tiny_vit import OUT_CHANNELS, TinyViT


def build_mobile_sam(image_encoder: TinyViT | None = None) -> torch.nn.Module:
    """A ``segment_anything.modeling.Sam`` with random weights in the layout of ``mobile_sam.pt``."""
    modeling = segment_anything("modeling")
    encoder = image_encoder or TinyViT()
    side = encoder.img_size // 16
    sam = modeling.Sam(
        image_encoder=encoder,
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=OUT_CHANNELS,
            image_embedding_size=(side, side),
            input_image_size=(encoder.img_size, encoder.img_size),
            mask_in_chans=16,
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=OUT_CHANNELS, mlp_dim=2048, num_heads=8),
            transformer_dim=OUT_CHANNELS,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    )
    return sam.eval()


def load_mobile_sam(checkpoint: str | Path | None, device: str) -> TorchSam:
    """MobileSAM with the weights of ``checkpoint`` (see ``checkpoints.load_model``), on ``device``."""
    return TorchSam(load_model("mobile_sam", checkpoint, build_mobile_sam), device)
