"""Rasterization of 3D Gaussians: one set of functions, a C++ backend on CPU and gsplat on CUDA.

The backend follows the tensors' device. Both draw what gsplat 1.5.3 draws in its "classic" mode: EWA splats with
0.3 px^2 added to the 2D covariance, alpha clamped to 0.999 and ignored below 1/255, a pixel ended before the splat
that would bring its transmittance to 1e-4. Gaussians behind the camera (z <= 0.01), outside the image or with a mean,
rotation, scale or opacity that is not finite are not drawn and get zero gradients.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.render import cpu
from lift_ros.render.blend import BlendWeights
from lift_ros.render.edges import follow_edges
from lift_ros.render.types import MaskWeights, Rendering, ScreenStatistics, Splats, Target

__all__ = [
    "BlendWeights", "MaskWeights", "Rendering", "ScreenStatistics", "Splats", "Target", "blend_weights",
    "follow_edges", "label_image", "mask_weights", "rasterize",
]  # fmt: skip


def rasterize(
    splats: Splats,
    channels: torch.Tensor,
    camera: PosedCamera,
    screen: ScreenStatistics | None = None,
) -> Rendering:
    """Blend per-Gaussian channels into an image. Differentiable in every tensor and in ``camera.viewmat``.

    Args:
        splats: the N Gaussians to draw.
        channels: (N, C) what to blend, C >= 1: colours, embeddings, ...
        camera: where to look from.
        screen: filled with radii now and with the gradient of the projected means during ``backward``.

    Raises:
        ValueError: an argument has the wrong shape, type or device; the message names it.
    """
    _check_splats(splats, camera)
    _check_tensor("channels", channels, (len(splats.means), None), splats.means.device)
    if channels.shape[1] == 0:
        raise ValueError("channels must have at least one column, got (N, 0)")
    return _backend(splats).rasterize(splats, channels, camera, screen)


def blend_weights(
    splats: Splats,
    camera: PosedCamera,
    pixels: torch.Tensor,
) -> BlendWeights:
    """Blend weights w_ui = alpha_i prod_{t < i} (1 - alpha_t): ``weights.matmul(f)`` is ``rasterize(f)`` at the pixels.

    Args:
        splats, camera: as for ``rasterize``.
        pixels: (P, 2) integer (column, row), inside the image, in any order, repetitions allowed.

    Raises:
        ValueError: an argument has the wrong shape, type or device, or a pixel lies outside the image.
    """
    _check_splats(splats, camera)
    device = splats.means.device
    if pixels.ndim != 2 or pixels.shape[1] != 2 or pixels.is_floating_point() or pixels.device != device:
        raise ValueError(
            f"pixels must be (P, 2) integer on {device}, got {tuple(pixels.shape)} {pixels.dtype} on {pixels.device}"
        )
    pixels = pixels.to(torch.int64)
    size = torch.tensor([camera.width, camera.height], device=device)
    if bool(((pixels < 0) | (pixels >= size)).any()):
        raise ValueError(f"pixels must lie inside the {camera.width}x{camera.height} image")
    crow, col, val = _backend(splats).blend_weights(splats, camera, pixels)
    return BlendWeights(crow, col, val, len(splats.means))


def mask_weights(
    splats: Splats,
    camera: PosedCamera,
    labels: NDArray[np.int32],
    min_weight: float = 0.0,
) -> MaskWeights:
    """Blend weights of the whole image, summed over the pixels of each mask: what ``BlendWeights.of_masks`` gives.

    Args:
        splats, camera: as for ``rasterize``.
        labels: (k H, k W) mask + 1 of each pixel, 0 for none. With k above 1 masks can share a pixel of the camera.
        min_weight: sums up to this are left out, pixels.

    Raises:
        ValueError: an argument has the wrong shape, type or device, or there are more masks than pixels.
    """
    _check_splats(splats, camera)
    k = max(labels.shape[0] // camera.height, 1)
    if labels.shape != (k * camera.height, k * camera.width):
        raise ValueError(f"labels {labels.shape} are no multiple of an image of {(camera.height, camera.width)}")
    if labels.max(initial=0) > labels.size:  # memory is taken for all up to the largest
        raise ValueError(f"masks must be numbered from 1 on, one is {labels.max()} of an image of {labels.size} pixels")
    return _backend(splats).mask_weights(splats, camera, labels, min_weight)


def label_image(
    splats: Splats,
    labels: torch.Tensor,
    camera: PosedCamera,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The label with the greatest summed blend weight at each pixel. Label 0 takes part like any other.

    Args:
        splats, camera: as for ``rasterize``.
        labels: (N,) integer, within int32.

    Returns:
        labels (H, W) int32, 0 where nothing is drawn; share (H, W) float32, the summed weight of that label; alpha
        (H, W) float32, the summed weight of all.

    Raises:
        ValueError: an argument has the wrong shape, type or device.
    """
    _check_splats(splats, camera)
    n, device = len(splats.means), splats.means.device
    if labels.shape != (n,) or labels.is_floating_point() or labels.device != device:
        raise ValueError(
            f"labels must be ({n},) integer on {device}, got {tuple(labels.shape)} {labels.dtype} on {labels.device}"
        )
    return _backend(splats).label_image(splats, labels, camera)


def _backend(splats: Splats):
    device = splats.means.device
    if device.type == "cpu":
        return cpu
    if device.type == "cuda":
        from lift_ros.render import cuda  # gsplat is optional, and its import slow

        return cuda
    raise ValueError(f"means are on {device}; rasterization runs on cpu and cuda")


def _check_splats(splats: Splats, camera: PosedCamera) -> None:
    if splats.means.ndim != 2:
        raise ValueError(f"means must be (N, 3), got {tuple(splats.means.shape)}")
    n, device = len(splats.means), splats.means.device
    for name, tensor, shape in zip(Splats._fields, splats, ((n, 3), (n, 4), (n, 3), (n,)), strict=True):
        _check_tensor(name, tensor, shape, device)
    _check_tensor("camera.viewmat", camera.viewmat, (4, 4), device)


def _check_tensor(name: str, tensor: torch.Tensor, shape: tuple[int | None, ...], device: torch.device) -> None:
    """Raise ValueError unless ``tensor`` is float32 of ``shape`` (None: any) on ``device``."""
    fits = tensor.ndim == len(shape) and all(s in (None, t) for s, t in zip(shape, tensor.shape, strict=True))
    if not fits or tensor.dtype != torch.float32 or tensor.device != device:
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise ValueError(
            f"{name} must be ({wanted}) float32 on {device}, got {tuple(tensor.shape)} {tensor.dtype} "
            f"on {tensor.device}"
        )
