"""TinyViT against numbers of MobileSAM's own implementation."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from lift_ros.masks.tiny_vit import TinyViT


def shapes_digest(model: torch.nn.Module) -> str:
    shapes = [(name, tuple(weight.shape)) for name, weight in sorted(model.state_dict().items())]
    return hashlib.sha256(repr(shapes).encode()).hexdigest()


def test_weights_have_the_published_names_and_shapes():
    # Digest of the same list for the model of MobileSAM's build_sam_vit_t, commit 34bbbfd of its repository.
    assert shapes_digest(TinyViT()) == "241b372ac525bceed9d2214d2b94936cf8d9f026fd15a23ef0495295f8c263de"


@torch.no_grad()
def fill(model: torch.nn.Module) -> None:
    """Weights without chance: sines, scaled to keep activations near 1."""
    for index, (name, weight) in enumerate(sorted(model.state_dict().items())):
        if not weight.is_floating_point():
            continue
        value = torch.sin(torch.arange(weight.numel(), dtype=torch.float64) * 0.7 + index).reshape(weight.shape)
        if name.endswith("running_var") or (name.endswith("weight") and weight.ndim == 1):
            value = 1 + 0.3 * value
        elif weight.ndim > 1 and "biases" not in name:
            value = value * (2.0 / weight[0].numel()) ** 0.5
        weight.copy_(value.float())


def test_embedding_equals_the_published_implementation():
    model = TinyViT(embed_dims=(8, 16, 16, 320), depths=(1, 1, 2, 1), num_heads=(2, 4, 4, 5)).eval().double()
    fill(model)
    image = torch.sin(torch.arange(3 * 1024 * 1024, dtype=torch.float64) * 1e-3).reshape(1, 3, 1024, 1024)
    with torch.no_grad():
        embedding = model(image)
    assert embedding.shape == (1, 256, 64, 64)
    # Computed in float64 with its mobile_sam/modeling/tiny_vit_sam.py: channels 0, 51, ..., 255 at four places.
    expected = [
        [-0.8741989036650709, -1.036068975270139, 0.13671716728829234, 0.09940232482567532],
        [-0.741314734448314, -0.8020990827717593, 1.8806901083974778, 1.8272039960117952],
        [-2.2044898085917035, -2.0683946307110723, 0.5037582741370643, 0.4724932405598359],
        [-1.2328331788290003, -1.0297185691459823, 0.627113258820001, 0.6188652230658341],
        [-0.11088849846517168, 0.3679383644595654, 2.6448455558752677, 2.654074563889133],
        [-1.0347808662451234, -0.5033272573996311, 0.9078924374595021, 0.9377816444408666],
    ]
    found = embedding[0, ::51][:, [0, 21, 42, 63], [0, 63, 21, 42]]
    np.testing.assert_allclose(found, expected, atol=1e-9)
