"""Adam (Kingma and Ba 2015): by torch's fused kernel, and on some rows only.

torch.optim's class takes seconds to import its compiler.
"""

from __future__ import annotations

import torch
from torch.optim.adam import adam

from lift_ros.render import cpu

BETA1 = 0.9
EPS = 1e-8


def adam_step(
    tensor: torch.Tensor,
    gradient: torch.Tensor,
    moments: tuple[torch.Tensor, torch.Tensor],
    steps: torch.Tensor,
    rate: float,
    beta2: float = 0.999,
    eps: float = EPS,
) -> None:
    """One step, in place.

    Args:
        tensor, gradient, moments: of one shape, all but the gradient contiguous.
        steps: () float32, the steps made before; counted up.
    """
    adam(
        [tensor], [gradient.contiguous()], [moments[0]], [moments[1]], [], [steps],
        fused=True, amsgrad=False, beta1=BETA1, beta2=beta2, lr=rate, weight_decay=0.0, eps=eps, maximize=False,
    )  # fmt: skip


def adam_rows(
    state: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    rows: torch.Tensor,
    gradient: torch.Tensor,
    steps: torch.Tensor,
    rate: float,
    beta2: float = 0.999,
    eps: float = EPS,
) -> None:
    """One step on some rows, in place. The others keep still, their moments too, as with torch's ``SparseAdam``.

    Args:
        state: the tensor and its two moments, (N, d) each, contiguous.
        rows: (G,) int64, all different.
        gradient: (G, d).
        steps: as of ``adam_step``.
    """
    tensor, *moments = state
    if tensor.device.type == "cpu":
        steps += 1
        cpu.adam_rows(rows, gradient.contiguous(), tensor, tuple(moments), int(steps), rate, (BETA1, beta2), eps)
        return
    value, first, second = (part[rows] for part in state)
    adam_step(value, gradient, (first, second), steps, rate, beta2, eps)
    for part, updated in zip(state, (value, first, second), strict=True):
        part[rows] = updated
