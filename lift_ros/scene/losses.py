"""How far a rendering is from the view it should show, with the gradient by the rendering.

On the CPU in C++: a step of the scene would spend most of its time on a hundred small operations of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.autograd.function import FunctionCtx, once_differentiable

from lift_ros.render import Rendering, cpu
from lift_ros.scene.config import SceneConfig
from lift_ros.scene.ssim import WINDOW, ssim

WARM_UP = 3  # runs before a capture, in which libraries make their plans

Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


def view_losses(
    image: torch.Tensor,
    alpha: torch.Tensor,
    depth: torch.Tensor,
    gain: torch.Tensor,
    bias: torch.Tensor,
    true_image: torch.Tensor,
    true_depth: torch.Tensor | None,
    ssim_weight: float,
    depth_weight: float,
) -> tuple[dict[str, torch.Tensor], Gradients]:
    """L1 and D-SSIM (3DGS) of the exposed image, and the relative error of the depth where it is known.

    Args:
        image, alpha, depth: (H, W, 3), (H, W), (H, W) what was rendered.
        gain, bias: (3,) exposure of the view.
        true_image: (H, W, 3) in [0, 1].
        true_depth: (H, W), 0 or NaN where unknown, or None.

    Returns:
        The weighted losses by name, and the gradients of their sum by ``image``, ``alpha`` and, with a true depth,
        ``depth``.

    Raises:
        ValueError: the sizes differ, or are less than ``WINDOW`` pixels.
    """
    given = [t for t in (image, true_image, alpha, depth, true_depth) if t is not None]
    sizes = {tuple(t.shape) for t in given[2:]}
    fits = sizes == {image.shape[:2]} and image.shape == true_image.shape == (*image.shape[:2], 3)
    if not fits or min(image.shape[:2]) < WINDOW:
        raise ValueError(
            f"losses need (H, W, 3) images, alpha and depth of one size, at least {WINDOW}x{WINDOW} pixels, got "
            f"{[tuple(t.shape) for t in given]}"
        )
    if all(t.device.type == "cpu" and t.dtype == torch.float32 for t in given):
        losses, gradients = cpu.view_losses(
            image, alpha, depth, gain, bias, true_image, true_depth, ssim_weight, depth_weight
        )
        names = ("l1", "ssim") if true_depth is None else ("l1", "ssim", "depth")
        return dict(zip(names, losses, strict=False)), gradients
    return by_torch(image, alpha, depth, gain, bias, true_image, true_depth, ssim_weight, depth_weight)


def by_torch(
    image: torch.Tensor,
    alpha: torch.Tensor,
    depth: torch.Tensor,
    gain: torch.Tensor,
    bias: torch.Tensor,
    true_image: torch.Tensor,
    true_depth: torch.Tensor | None,
    ssim_weight: float,
    depth_weight: float,
) -> tuple[dict[str, torch.Tensor], Gradients]:
    """``view_losses`` as they are written, for tensors of any device and precision."""
    rendered = [tensor.detach().requires_grad_() for tensor in (image, alpha, depth)]
    with torch.enable_grad():
        image, alpha, depth = rendered
        exposed = image * gain + bias * alpha[..., None]
        losses = {
            "l1": (1 - ssim_weight) * (exposed - true_image).abs().mean(),
            "ssim": ssim_weight * (1 - ssim(exposed, true_image)),
        }
        if true_depth is not None:
            known = (true_depth > 0) & (alpha.detach() > 0.5)
            true_depth = torch.where(known, true_depth, 1.0)  # what is masked out has a gradient of 0, but 0 NaN is NaN
            error = (depth - true_depth).abs() / true_depth.clamp_min(1e-6)
            losses["depth"] = depth_weight * torch.where(known, error, 0.0).clamp_max(0.5).mean()
        compared = rendered[: 2 if true_depth is None else 3]
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

    def __call__(self, *given: torch.Tensor | None, measured: bool) -> tuple[dict[str, torch.Tensor], Gradients]:
        """``view_losses`` of its first seven arguments; ``measured`` tells whether a sensor measured the true depth.

        What is returned holds until the next call.
        """
        image, true_depth = given[0], given[-1]
        if image.device.type != "cuda":
            return self.launched(*given, measured=measured)
        key = (image.shape, true_depth is None, measured)
        if key not in self._captured:
            self._captured[key] = _Captured(lambda *tensors: self.launched(*tensors, measured=measured), given)
        return self._captured[key](given)

    def launched(self, *given: torch.Tensor | None, measured: bool) -> tuple[dict[str, torch.Tensor], Gradients]:
        """The same without a graph."""
        weight = self._config.depth_weight if measured else self._config.stereo_depth_weight
        return view_losses(*given, self._config.ssim_weight, weight)


class _Captured:
    """A function of tensors as a CUDA graph: it reads from its own inputs, and writes to its own outputs."""

    def __init__(self, function: Callable, example: Sequence[torch.Tensor | None]) -> None:
        self._inputs = [None if tensor is None else tensor.detach().clone() for tensor in example]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads go on with their work on the device meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = function(*self._inputs)

    def __call__(self, given: Sequence[torch.Tensor | None]) -> tuple[dict[str, torch.Tensor], Gradients]:
        for own, tensor in zip(self._inputs, given, strict=True):
            if own is not None:
                own.copy_(tensor)
        self._graph.replay()
        return self._outputs
