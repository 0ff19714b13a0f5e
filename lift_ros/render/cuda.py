"""The CUDA backend: gsplat's kernels behind the same functions as ``lift_ros.render.cpu``.

Arguments are checked by ``lift_ros.render``; here they are float32 CUDA tensors of the right shapes. gsplat is imported
at the first call, since ``import gsplat`` also succeeds, and then fails at first use, where there is no GPU.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.render.blend import BlendWeights
from lift_ros.render.types import MaskWeights, Rendering, ScreenStatistics, Splats

TILE_SIZE = 16


def _gsplat() -> ModuleType:
    try:
        import gsplat
    except ImportError as error:
        raise ImportError("Gaussians on a CUDA device are rasterized by gsplat: pip install 'gsplat>=1.5.3'") from error
    return gsplat


def _K(camera: PosedCamera) -> torch.Tensor:
    """(1, 3, 3)."""
    return torch.as_tensor(camera.intrinsics.K, dtype=torch.float32, device=camera.viewmat.device)[None]


def hide_non_finite(splats: Splats) -> Splats:
    """Make Gaussians with a NaN or an infinity invisible (opacity 0), and their gradients zero."""
    means, quats, scales, opacities = splats
    drawable = opacities.isfinite() & means.isfinite().all(1) & quats.isfinite().all(1) & scales.isfinite().all(1)
    rows = drawable[:, None]
    return Splats(
        torch.where(rows, means, 0.0),
        torch.where(rows, quats, 1.0),
        torch.where(rows, scales, 1.0),
        torch.where(drawable, opacities, 0.0),
    )


def rasterize(
    splats: Splats, channels: torch.Tensor, camera: PosedCamera, screen: ScreenStatistics | None
) -> Rendering:
    """See ``lift_ros.render.rasterize``."""
    means = splats.means
    if len(means) == 0:  # gsplat launches no empty kernels; the sums keep the graph
        nothing = sum(tensor.sum() for tensor in (*splats, channels))
        blank = means.new_zeros(camera.height, camera.width) + nothing
        if screen is not None:
            screen.radii = means.new_zeros(0)
            screen.means2d_gradient = means.new_zeros(0, 2)
        return Rendering(blank[..., None].expand(-1, -1, channels.shape[1]), blank, blank)

    image, alpha, meta = _gsplat().rasterization(
        *hide_non_finite(splats),
        channels,
        camera.viewmat[None],
        _K(camera),
        camera.width,
        camera.height,
        packed=False,
        render_mode="RGB+ED",
    )
    if screen is not None:
        screen.radii = meta["radii"][0].amax(-1).float()
        if meta["means2d"].requires_grad:

            def keep(gradient: torch.Tensor) -> None:
                screen.means2d_gradient = gradient[0]

            meta["means2d"].register_hook(keep)
    return Rendering(image[0, ..., :-1], alpha[0, ..., 0], image[0, ..., -1])


@torch.no_grad()
def blend_weights(
    splats: Splats, camera: PosedCamera, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """CSR arrays (crow, col, val) of the weights of ``pixels`` (P, 2) int64. See ``lift_ros.render.blend_weights``."""
    row = pixels[:, 1] * camera.width + pixels[:, 0]
    # A pixel that starts with no transmittance ends at once: gsplat lists pairs of the wanted pixels only.
    transmittance = splats.means.new_zeros(camera.height * camera.width)
    transmittance[row] = 1.0
    weights = _image_weights(splats, camera, transmittance).rows(row)
    return weights.crow, weights.col, weights.val


@torch.no_grad()
def mask_weights(splats: Splats, camera: PosedCamera, labels: NDArray[np.int32], min_weight: float) -> MaskWeights:
    """See ``lift_ros.render.mask_weights``."""
    transmittance = splats.means.new_ones(camera.height * camera.width)
    return _image_weights(splats, camera, transmittance).of_masks(labels, min_weight)


@torch.no_grad()
def label_image(
    splats: Splats, labels: torch.Tensor, camera: PosedCamera
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Label (H, W) int32, its share and alpha. See ``lift_ros.render.label_image``."""
    transmittance = splats.means.new_ones(camera.height * camera.width)
    weights = _image_weights(splats, camera, transmittance)
    winner, share = weights.winning_label(labels)
    shape = camera.height, camera.width
    return winner.to(torch.int32).reshape(shape), share.reshape(shape), weights.alpha().reshape(shape)


def _image_weights(splats: Splats, camera: PosedCamera, transmittance: torch.Tensor) -> BlendWeights:
    """Weights of all pixels, row-major; ``transmittance`` (H W,) is 1 where they are wanted, else 0."""
    width, height = camera.width, camera.height
    if len(splats.means) == 0:
        no_pairs = torch.zeros(0, dtype=torch.int64, device=splats.means.device)
        return composite_pairs(no_pairs, no_pairs, splats.means.new_zeros(0), width * height, 0)
    gsplat = _gsplat()
    means, quats, scales, opacities = hide_non_finite(splats)
    radii, means2d, depths, conics, _ = gsplat.fully_fused_projection(
        means, None, quats, scales, camera.viewmat[None], _K(camera), width, height, opacities=opacities
    )
    tile_columns, tile_rows = -(-width // TILE_SIZE), -(-height // TILE_SIZE)
    _, isect_ids, flatten_ids = gsplat.isect_tiles(means2d, radii, depths, TILE_SIZE, tile_columns, tile_rows)
    offsets = gsplat.isect_offset_encode(isect_ids, 1, tile_columns, tile_rows)
    gaussian, pixel, _ = gsplat.rasterize_to_indices_in_range(
        0,
        2**30,  # batches: to the end
        transmittance.reshape(1, height, width),
        means2d,
        conics,
        opacities[None],
        width,
        height,
        TILE_SIZE,
        offsets.reshape(1, tile_rows, tile_columns),
        flatten_ids,
    )
    alpha = pair_alphas(means2d[0], conics[0], opacities, gaussian, pixel, width)
    return composite_pairs(gaussian, pixel, alpha, width * height, len(means))


def pair_alphas(
    means2d: torch.Tensor,
    conics: torch.Tensor,
    opacities: torch.Tensor,
    gaussian: torch.Tensor,
    pixel: torch.Tensor,
    width: int,
) -> torch.Tensor:
    """Alpha (M,) of Gaussian ``gaussian[m]`` at pixel ``pixel[m]`` (row-major); conics (N, 3) are xx, xy, yy."""
    dx = pixel % width + 0.5 - means2d[gaussian, 0]
    dy = pixel // width + 0.5 - means2d[gaussian, 1]
    xx, xy, yy = conics[gaussian].unbind(-1)
    sigma = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
    return (opacities[gaussian] * torch.exp(-sigma)).clamp(max=0.999)


def composite_pairs(
    gaussian: torch.Tensor, pixel: torch.Tensor, alpha: torch.Tensor, pixel_count: int, gaussian_count: int
) -> BlendWeights:
    """Blend weights from the pairs (M,) of Gaussians and pixels, sorted by pixel and then front to back."""
    count = torch.bincount(pixel, minlength=pixel_count)
    crow = torch.cat([count.new_zeros(1), count.cumsum(0)])
    # Transmittance in front of each pair, as a running sum of logarithms less its value where the pixel begins. In
    # double precision, since the sum runs over all pixels.
    log_after = torch.log1p(-alpha.double()).cumsum(0)
    log_before = torch.cat([log_after.new_zeros(1), log_after])
    transmittance = torch.exp(log_before[:-1] - log_before[crow[:-1]][pixel])
    return BlendWeights(crow, gaussian, (alpha * transmittance).float(), gaussian_count)
