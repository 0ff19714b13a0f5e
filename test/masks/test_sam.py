"""SAM in torch: preprocessing, prompts and logits as the official package's, its loading without torchvision."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from masks.models import needs_segment_anything, official_segment_anything, random_image, small_sam

from lift_ros.masks.sam_image import preprocess, resized_shape, upscale_logits

pytestmark = needs_segment_anything


@pytest.mark.parametrize("size", [(48, 64), (97, 61), (300, 200)])
def test_image_and_logits_go_in_and_out_as_officially(size, monkeypatch):
    image = random_image(*size)
    sam = small_sam()
    official = official_segment_anything(monkeypatch)
    transform = sys.modules[official.__name__ + ".utils.transforms"].ResizeLongestSide(128)
    resized = transform.apply_image(image)
    assert resized.shape[:2] == resized_shape(*size, 128)
    expected = sam.preprocess(torch.from_numpy(resized.copy()).permute(2, 0, 1)[None])
    np.testing.assert_allclose(preprocess(image, 128), expected, atol=1e-5)

    logits = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    expected = sam.postprocess_masks(torch.from_numpy(logits)[None, None], resized.shape[:2], size)[0, 0]
    np.testing.assert_allclose(upscale_logits(logits, 128, *size), expected, atol=1e-4)


def test_decoding_points_equals_the_official_prompt_encoder():
    from lift_ros.masks.sam import TorchSam

    sam = small_sam()
    model = TorchSam(sam, "cpu")
    embedding = model.embed(random_image(90, 120))
    points = np.random.default_rng(0).uniform(0, 128, (5, 2)).astype(np.float32)
    logits, iou = model.decode(embedding, points)
    with torch.no_grad():
        sparse, dense = sam.prompt_encoder(
            points=(torch.from_numpy(points)[:, None], torch.ones(5, 1)), boxes=None, masks=None
        )
        expected = sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, True)
    np.testing.assert_allclose(logits, expected[0], atol=1e-3)
    np.testing.assert_allclose(iou, expected[1], atol=1e-3)
    assert logits.shape == (5, 3, 32, 32)


def test_models_need_no_torchvision():
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "from lift_ros.masks.sam import segment_anything\n"
        "segment_anything('build_sam').sam_model_registry['vit_b']\n"
        "assert 'segment_anything' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(p for p in sys.path if p)})
