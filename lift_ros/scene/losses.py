"""How far a rendering is from the view it should show, with the gradient by the rendering.

On the CPU in C++: a step of the scene would spend most of its time on a hundred small operations of torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.autograd.function import FunctionCtx, once_differentiable

from lift_ros.render import Rendering, Target, cpu
from lift_ros.scene.config import SceneConfig
from lift_ros.scene.ssim import WINDOW, ssim

WARM_UP = 3  # runs before a capture, in which libraries make their plans

Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


def view_losses(
    out: Rendering, target: Target, ssim_weight: float, depth_weight: float
) -> tuple[dict[str, torch.Tensor], Gradients]:
    """L1 and D-SSIM (3DGS) of the exposed image, and the relative error of the depth where it is known.

    Args:
        out: (H, W) what was rendered, with three channels.
        target: (H, W) what it should show.

    Returns:
        The weighted losses by name, and the gradients of their sum by the image, the alpha and, where the target has
        depth, the depth that was rendered.

    Raises:
        ValueError: the sizes differ, or are less than ``WINDOW`` pixels.
    """
    given = [t for t in (out.image, target.image, out.alpha, out.depth, target.depth) if t is not None]
    sizes, size = {tuple(t.shape) for t in given[2:]}, out.image.shape[:2]
    fits = sizes == {size} and out.image.shape == target.image.shape == (*size, 3)
    if not fits or min(size) < WINDOW:
        raise ValueError(
            f"losses need (H, W, 3) images, alpha and depth of one size, at least {WINDOW}x{WINDOW} pixels, got "
            f"{[tuple(t.shape) for t in given]}"
        )
    if all(t.device.type == "cpu" and t.dtype == torch.float32 for t in given):
        losses, gradients = cpu.view_losses(out, target, ssim_weight, depth_weight)
        names = ("l1", "ssim") if target.depth is None else ("l1", "ssim", "depth")
        return dict(zip(names, losses, strict=False)), gradients
    return by_torch(out, target, ssim_weight, depth_weight)


def by_torch(
    out: Rendering, target: Target, ssim_weight: float, depth_weight: float
) -> tuple[dict[str, torch.Tensor], Gradients]:
    """``view_losses`` as they are written, for tensors of any device and precision."""
    out = Rendering(*(tensor.detach().requires_grad_() for tensor in out))
    with torch.enable_grad():
        exposed = out.image * target.gain + target.bias * out.alpha[..., None]
        losses = {
            "l1": (1 - ssim_weight) * (exposed - target.image).abs().mean(),
            "ssim": ssim_weight * (1 - ssim(exposed, target.image)),
        }
        if target.depth is not None:
            known = (target.depth > 0) & (out.alpha.detach() > 0.5)
            true = torch.where(known, target.depth, 1.0)  # what is masked out has a gradient of 0, but 0 NaN is NaN
            error = (out.depth - true).abs() / true.clamp_min(1e-6)
            losses["depth"] = depth_weight * torch.where(known, error, 0.0).clamp_max(0.5).mean()
        compared = out[: 2 if target.depth is None else 3]
        gradients = torch.autograd.grad(sum(losses.values()), compared, materialize_grads=True)
    image_gradient, alpha_gradient, depth_gradient = (*gradients, None)[:3]
    return {name: loss.detach() for name, loss in losses.items()}, (image_gradient, alpha_gradient, depth_gradient)


def supervised(out: Rendering, losses: dict[str, torch.Tensor], gradients: Gradients) -> torch.Tensor:
    """() the sum of ``losses``, as differentiable in the rendering ``out`` as the ``gradients`` tell.

    autograd takes gradients to begin with as well, but loads a library of symbols for them: a second of a drive.
    """
    return _Sum.apply(*out, torch.stack(list(losses.values())), gradients)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        image: torch.Tensor,
        alpha: torch.Tensor,
        depth: torch.Tensor,
        losses: torch.Tensor,
        gradients: Gradients,
    ) -> torch.Tensor:
        ctx.gradients = gradients
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return *(None if gradient is None else upstream * gradient for gradient in ctx.gradients), None, None


class ViewLosses:
    """``view_losses`` with the weights of a configuration.

    On CUDA its hundred small kernels are captured once for each size of view and then launched as one (a CUDA graph):
    launching them one by one takes several times as long as they run.
    """

    def __init__(self, config: SceneConfig) -> None:
        self._config = config
        self._captured: dict[tuple, _Captured] = {}

    def __call__(self, out: Rendering, target: Target, measured: bool) -> tuple[dict[str, torch.Tensor], Gradients]:
        """The losses and gradients; ``measured`` tells whether a sensor measured the depth of the target.

        What is returned holds until the next call.
        """
        if out.image.device.type != "cuda":
            return self.launched(out, target, measured)
        key = (out.image.shape, target.depth is None, measured)
        if key not in self._captured:
            self._captured[key] = _Captured(partial(self.launched, measured=measured), out, target)
        return self._captured[key](out, target)

    def launched(self, out: Rendering, target: Target, measured: bool) -> tuple[dict[str, torch.Tensor], Gradients]:
        """The same without a graph."""
        weight = self._config.depth_weight if measured else self._config.stereo_depth_weight
        return view_losses(out, target, self._config.ssim_weight, weight)


class _Captured:
    """A function of a rendering and its target as a CUDA graph, which reads from its own inputs and writes to its own
    outputs.
    """

    def __init__(self, function: Callable, out: Rendering, target: Target) -> None:
        own_out, own_target = (
            type(given)(*(None if tensor is None else tensor.detach().clone() for tensor in given))
            for given in (out, target)
        )
        self._inputs = (*own_out, *own_target)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function(own_out, own_target)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads go on with their work on the device meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = function(own_out, own_target)

    def __call__(self, out: Rendering, target: Target) -> tuple[dict[str, torch.Tensor], Gradients]:
        for own, tensor in zip(self._inputs, (*out, *target), strict=True):
            if own is not None:
                own.copy_(tensor)
        self._graph.replay()
        return self._outputs
