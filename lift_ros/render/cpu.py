"""The CPU backend: the C++ kernels of csrc/ as torch functions.

Arguments are checked by those who call; here they are float32 CPU tensors of the right shapes.
"""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray
from torch.autograd.function import FunctionCtx, once_differentiable

from lift_ros.camera import Camera, PosedCamera
from lift_ros.native import call, pointer
from lift_ros.render import library
from lift_ros.render.types import MaskWeights, Rendering, ScreenStatistics, Splats, Target


def _gaussians(splats: Splats, channels: torch.Tensor | None = None) -> library.Gaussians:
    """The C struct; it borrows the tensors' memory."""
    channel_count = 0 if channels is None else channels.shape[1]
    return library.Gaussians(len(splats.means), *map(pointer, splats), channel_count, pointer(channels))


class _View:
    """Gaussians projected into a camera, owned by the library."""

    def __init__(
        self, gaussians: library.Gaussians, viewmat: torch.Tensor, camera: Camera, radii: torch.Tensor | None = None
    ) -> None:
        self.handle = None
        viewmat_values = (ctypes.c_float * 16)(*viewmat.detach().flatten().tolist())
        c_camera = library.Camera(
            viewmat_values, camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height
        )
        self._free = library.best().lift_view_free
        self.handle = call(library.best().lift_view_new, gaussians, c_camera, radii, torch.get_num_threads())

    def __del__(self) -> None:
        if self.handle is not None:
            self._free(self.handle)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        viewmat: torch.Tensor,
        camera: Camera,
        screen: ScreenStatistics | None,
        channels: torch.Tensor,
        *given: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """``given``: the tensors of the splats, one by one, for autograd to see them."""
        channels, splats = channels.contiguous(), Splats(*(t.contiguous() for t in given))
        if screen is not None:
            screen.radii = torch.empty(len(splats.means))
        view = _View(_gaussians(splats, channels), viewmat, camera, None if screen is None else screen.radii)
        image = library.empty(camera.height, camera.width, channels.shape[1])
        alpha, depth, transmittance = (library.empty(camera.height, camera.width) for _ in range(3))
        call(library.best().lift_render, view.handle, image, alpha, depth, transmittance, torch.get_num_threads())
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(image, depth, transmittance, channels, *splats)
        ctx.view, ctx.screen = view, screen
        return image, alpha, depth

    @staticmethod
    @once_differentiable
    def backward(ctx, image_gradient, alpha_gradient, depth_gradient):
        image, depth, transmittance, channels, *given = ctx.saved_tensors
        splats = Splats(*given)
        upstream = [g if g is None else g.contiguous() for g in (image_gradient, alpha_gradient, depth_gradient)]
        by_splats, by_channels = [library.empty(*t.shape) for t in splats], library.empty(*channels.shape)
        by_viewmat = torch.empty(4, 4)
        by_means2d = None if ctx.screen is None else torch.empty(len(splats.means), 2)
        call(
            library.best().lift_render_backward,
            ctx.view.handle,
            _gaussians(splats, channels),
            image,
            depth,
            transmittance,
            *upstream,
            library.Gradients(*map(pointer, (*by_splats, by_channels, by_viewmat, by_means2d))),
            torch.get_num_threads(),
        )
        if ctx.screen is not None:
            ctx.screen.means2d_gradient = by_means2d
        return by_viewmat, None, None, by_channels, *by_splats


def rasterize(
    splats: Splats, channels: torch.Tensor, camera: PosedCamera, screen: ScreenStatistics | None
) -> Rendering:
    """See ``lift_ros.render.rasterize``."""
    return Rendering(*_Rasterize.apply(camera.viewmat, camera.intrinsics, screen, channels, *splats))


def _view_without_channels(splats: Splats, camera: PosedCamera) -> _View:
    splats = Splats(*(t.detach().contiguous() for t in splats))
    return _View(_gaussians(splats), camera.viewmat, camera.intrinsics)


def evaluated_pairs(splats: Splats, camera: PosedCamera) -> tuple[int, int]:
    """How many (Gaussian, pixel) pairs the forward and the backward pass of ``rasterize`` evaluate, for benchmarks.

    Pixels are evaluated in blocks, up to where all of a block have ended, so these are more than the pairs that
    contribute, of which ``blend_weights`` of all pixels has the number.
    """
    view = _view_without_channels(splats, camera)
    pairs = (ctypes.c_int64 * 2)()
    call(library.best().lift_count_pairs, view.handle, pairs, torch.get_num_threads())
    return pairs[0], pairs[1]


def blend_weights(
    splats: Splats, camera: PosedCamera, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """CSR arrays (crow, col, val) of the weights of ``pixels`` (P, 2) int64. See ``lift_ros.render.blend_weights``."""
    view = _view_without_channels(splats, camera)
    functions, threads = library.best(), torch.get_num_threads()
    pixels = pixels.contiguous()
    weights = call(functions.lift_weights_new, view.handle, pixels, len(pixels), threads)
    try:
        nonzeros = functions.lift_weights_nonzeros(weights)
        crow = torch.empty(len(pixels) + 1, dtype=torch.int64)
        col, val = library.empty(nonzeros, dtype=torch.int64), library.empty(nonzeros)
        call(functions.lift_weights_copy, weights, crow, col, val, threads)
    finally:
        functions.lift_weights_free(weights)
    return crow, col, val


def mask_weights(splats: Splats, camera: PosedCamera, labels: NDArray[np.int32], min_weight: float) -> MaskWeights:
    """See ``lift_ros.render.mask_weights``."""
    k = labels.shape[0] // camera.height
    view = _view_without_channels(splats, camera)
    functions, threads = library.best(), torch.get_num_threads()
    labels = np.ascontiguousarray(labels, np.int32)
    count = int(labels.max(initial=0))
    weights = call(functions.lift_mask_weights_new, view.handle, labels, k, count, min_weight, threads)
    try:
        nonzeros = functions.lift_mask_weights_nonzeros(weights)
        begin, gaussian = np.empty(count + 1, np.int64), np.empty(nonzeros, np.int32)
        weight = np.empty(nonzeros, np.float32)
        call(functions.lift_mask_weights_copy, weights, begin, gaussian, weight)
    finally:
        functions.lift_mask_weights_free(weights)
    return MaskWeights(np.repeat(np.arange(count, dtype=np.int32), np.diff(begin)), gaussian, weight)


def label_image(
    splats: Splats, labels: torch.Tensor, camera: PosedCamera
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Label (H, W) int32, its share and alpha. See ``lift_ros.render.label_image``."""
    view = _view_without_channels(splats, camera)
    labels = labels.to(torch.int32).contiguous()
    image = torch.empty(camera.height, camera.width, dtype=torch.int32)
    share, alpha = torch.empty(camera.height, camera.width), torch.empty(camera.height, camera.width)
    call(library.best().lift_label_image, view.handle, labels, image, share, alpha, torch.get_num_threads())
    return image, share, alpha


def view_losses(
    out: Rendering, target: Target, ssim_weight: float, depth_weight: float
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
    """The losses (3,), L1, D-SSIM and depth, and their gradients.

    See ``lift_ros.scene.losses.view_losses``, which checks the arguments.
    """
    height, width = out.alpha.shape
    wanted = [None if t is None else t.contiguous() for t in (target.image, target.depth)]
    exposure = (tuple(t.tolist()) for t in (target.gain, target.bias))
    supervision = library.Supervision(width, height, *map(pointer, wanted), *exposure, ssim_weight, depth_weight)
    rendered = [t.detach().contiguous() for t in out]
    losses = torch.empty(3)
    by_image, by_alpha = library.empty(height, width, 3), library.empty(height, width)
    by_depth = None if target.depth is None else library.empty(height, width)
    found = library.ViewLosses(*map(pointer, (losses, by_image, by_alpha, by_depth)))
    call(library.best().lift_view_losses, supervision, *rendered, found, torch.get_num_threads())
    return losses, (by_image, by_alpha, by_depth)


def csr_matmul(crow: torch.Tensor, col: torch.Tensor, val: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The product (P, d) of a CSR matrix with P rows and ``x`` (N, d)."""
    x = x.contiguous()
    rows, d = len(crow) - 1, x.shape[1]
    out = torch.empty(rows, d)
    call(library.best().lift_csr_matmul, rows, d, crow, col, val, x, out, torch.get_num_threads())
    return out


def csr_transpose(
    crow: torch.Tensor, col: torch.Tensor, val: torch.Tensor, columns: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The CSR arrays of the transpose of a CSR matrix with ``columns`` columns."""
    transposed = torch.empty(columns + 1, dtype=torch.int64), torch.empty_like(col), torch.empty_like(val)
    call(library.best().lift_csr_transpose, len(crow) - 1, columns, crow, col, val, *transposed)
    return transposed


def csr_compact(col: torch.Tensor, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of the ``columns`` there are in ``col`` (n,), ascending, and for each of ``col`` its place among these."""
    shown, number = torch.empty_like(col), torch.empty_like(col)
    count = call(library.best().lift_csr_compact, len(col), columns, col, shown, number)
    return shown[:count].clone(), number


def adam_rows(
    rows: torch.Tensor,
    gradient: torch.Tensor,
    tensor: torch.Tensor,
    moments: tuple[torch.Tensor, torch.Tensor],
    steps: int,
    rate: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Step number ``steps`` (from 1 on) of Adam on the ``rows`` (G,) of ``tensor`` and ``moments`` (N, d), in place;
    ``gradient`` (G, d). No row may be there twice.
    """
    first, second = (1 - beta**steps for beta in betas)
    step = library.Adam(rate / first, *betas, second**-0.5, eps)
    call(
        library.best().lift_adam_rows, step, *gradient.shape, rows, gradient, tensor, *moments, torch.get_num_threads()
    )


def nearest(points: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each of the ``points`` (N, 3), the ``k`` < N nearest others: distances (N, k), ascending, and indices (N, k).

    Raises:
        ValueError: a point is not finite, or there are not so many others.
    """
    points = points.detach().contiguous()
    if not 0 < k < len(points):
        raise ValueError(f"each of {len(points)} points has no {k} others")
    if not bool(points.isfinite().all()):
        raise ValueError("points must be finite to have neighbours")
    index, distance = library.empty(len(points), k, dtype=torch.int64), library.empty(len(points), k)
    call(library.best().lift_nearest, len(points), points, k, index, distance, torch.get_num_threads())
    return distance, index
