"""Small SAMs with random weights, and the official package to compare with."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from lift_ros.camera import Camera
from lift_ros.frame import Frame

needs_segment_anything = pytest.mark.skipif(
    importlib.util.find_spec("segment_anything") is None, reason="needs the package segment-anything"
)


def small_sam(seed: int = 2) -> torch.nn.Module:
    """A ``Sam`` of every official part with a 128-pixel input; see ``make_selective``."""
    from lift_ros.masks.sam import segment_anything

    torch.manual_seed(seed)
    modeling = segment_anything("modeling")
    size, channels = 128, 32
    sam = modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            depth=2,
            embed_dim=32,
            img_size=size,
            mlp_ratio=2,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=2,
            patch_size=16,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=[1],
            window_size=4,
            out_chans=channels,
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=channels,
            image_embedding_size=(size // 16, size // 16),
            input_image_size=(size, size),
            mask_in_chans=16,
        ),
        mask_decoder=modeling.MaskDecoder(
            num_multimask_outputs=3,
            transformer=modeling.TwoWayTransformer(depth=2, embedding_dim=channels, mlp_dim=64, num_heads=2),
            transformer_dim=channels,
            iou_head_depth=3,
            iou_head_hidden_dim=32,
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
    sam.eval()
    make_selective(sam)
    return sam


@torch.no_grad()
def make_selective(sam: torch.nn.Module) -> None:
    """Make a SAM with random weights answer different points with different, small masks of different quality.

    At random initialisation attention is almost uniform: every point gives about the same mask, of half the image.
    With larger queries and keys of one projection, tokens attend to each other where their positions are close; with
    the outputs shifted, a tenth of the logits of each of the three masks is positive and no mask is the best for all.
    """
    from lift_ros.masks.sam import decode_points

    decoder = sam.mask_decoder
    attentions = [a for layer in decoder.transformer.layers for a in layer.children() if hasattr(a, "q_proj")]
    for attention in [*attentions, decoder.transformer.final_attn_token_to_image]:
        attention.q_proj.weight.mul_(5)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        attention.v_proj.weight.mul_(3)
    constant = decoder.output_upscaling[3]  # its channel 0 becomes 10 everywhere: the mask heads' bias
    constant.weight[:, 0] = 0
    constant.bias[0] = 10
    heads = decoder.output_hypernetworks_mlps
    for head in heads:
        head.layers[-1].weight.mul_(300)
        head.layers[-1].weight[0], head.layers[-1].bias[0] = 0, 0
    decoder.iou_prediction_head.layers[-1].weight.mul_(300)

    points = torch.rand(64, 2) * sam.image_encoder.img_size
    image = torch.from_numpy(random_image(sam.image_encoder.img_size, sam.image_encoder.img_size)).permute(2, 0, 1)
    logits, iou = decode_points(sam, sam.image_encoder(sam.preprocess(image[None])), points)
    for mask in range(3):
        heads[mask + 1].layers[-1].bias[0] = -logits[:, mask].quantile(0.9) / 10
    decoder.iou_prediction_head.layers[-1].bias[1:] -= iou.mean(0)


def frame_of(
    image: np.ndarray, depth: np.ndarray | None = None, name: str = "", labels: np.ndarray | None = None
) -> Frame:
    """A frame of this image seen by a camera with 60 degrees of view at the world's origin."""
    height, width = image.shape[:2]
    camera = Camera(width, height, 0.87 * width, 0.87 * width, width / 2, height / 2)
    return Frame(image, camera, np.eye(4), 0.0, depth, name, labels=labels)


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blurred noise: structure at several scales."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    return np.clip(np.asarray(coarse) + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def official_segment_anything(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The official package, whole. Where torchvision does not import, its three functions are written out here."""
    try:
        import torchvision.ops  # noqa: F401
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            monkeypatch.delitem(sys.modules, name)
        functional = types.ModuleType("torchvision.transforms.functional")
        functional.to_pil_image = Image.fromarray
        functional.resize = lambda image, size: image.resize(size[::-1], Image.BILINEAR)
        boxes = types.ModuleType("torchvision.ops.boxes")
        boxes.batched_nms = literal_nms
        boxes.box_area = lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
        for name in ("torchvision", "torchvision.transforms", "torchvision.ops"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setitem(sys.modules, "torchvision.transforms.functional", functional)
        monkeypatch.setitem(sys.modules, "torchvision.ops.boxes", boxes)
        for name in [name for name in sys.modules if name.split(".")[0] == "segment_anything"]:
            monkeypatch.delitem(sys.modules, name)
    return importlib.import_module("segment_anything")


def literal_nms(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor | None, iou_threshold: float
) -> torch.Tensor:
    """Non-maximum suppression as its definition reads: keep a box unless a better kept one overlaps it too much."""
    keep: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        if all(literal_iou(boxes[i].tolist(), boxes[j].tolist()) <= iou_threshold for j in keep):
            keep.append(i)
    return torch.tensor(keep, dtype=torch.long)


def literal_iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    return intersection / union if union > 0 else 0.0
