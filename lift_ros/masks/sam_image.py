"""How an image enters a SAM and how its mask logits come back, in numpy: the same for every variant and backend."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

PIXEL_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
PIXEL_STD = np.array([58.395, 57.12, 57.375], np.float32)


def resized_shape(height: int, width: int, input_size: int) -> tuple[int, int]:
    """(height, width) of the image within the model's square input, whose side the longer one fills."""
    scale = input_size / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def preprocess(image: NDArray[np.uint8], input_size: int) -> NDArray[np.float32]:
    """(H, W, 3) uint8 RGB -> (1, 3, input_size, input_size) float32.

    segment_anything's ``ResizeLongestSide`` (bilinear with antialiasing, by Pillow, as there), normalisation and
    zero padding at the right and the bottom.
    """
    height, width = resized_shape(*image.shape[:2], input_size)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    padded = np.zeros((1, 3, input_size, input_size), np.float32)
    padded[0, :, :height, :width] = ((np.asarray(resized, np.float32) - PIXEL_MEAN) / PIXEL_STD).transpose(2, 0, 1)
    return padded


def upscale_logits(logits: NDArray[np.float32], input_size: int, height: int, width: int) -> NDArray[np.float32]:
    """(h, w) logits of the padded square input -> (height, width) logits of the image (``Sam.postprocess_masks``).

    Bilinear to the input's size, the padding cut off, bilinear to the image's: the step between is kept because the
    two interpolations together are not one.
    """
    rows, columns = resized_shape(height, width, input_size)
    at_input = cv2.resize(logits, (input_size, input_size), interpolation=cv2.INTER_LINEAR)[:rows, :columns]
    return cv2.resize(at_input, (width, height), interpolation=cv2.INTER_LINEAR)
