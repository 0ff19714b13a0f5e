"""Adam (Kingma and Ba 2015): by torch's fused kernel, and on some rows only.

torch.optim's class takes seconds to import its compiler.
"""

from __future__ import annotations

import torch
from torch.optim.adam import adam

from lift_ros.render import cpu

BETA1 = 0.9


def adam_step(
    tensor: torch.Tensor,
    gradient: torch.Tensor,
    moments: tuple[torch.Tensor, torch.Tensor],
    steps: torch.Tensor,
    rate: float,
    beta2: float = 0.999,
    eps: float = 1e-8,
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
    tensor: torch.Tensor,
    rows: torch.Tensor,
    gradient: torch.Tensor,
    moments: tuple[torch.Tensor, torch.Tensor],
    steps: torch.Tensor,
    rate: float,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> None:
    """One step on some rows, in place. The others keep still, their moments too, as with torch's ``SparseAdam``.

    Args:
        tensor, moments: (N, d), contiguous.
        rows: (G,) int64, all different.
        gradient: (G, d).
        steps: () float32, the steps made before; counted up.
    """
    if tensor.device.type == "cpu":
        steps += 1
        cpu.adam_rows(rows, gradient.contiguous(), tensor, moments, int(steps), rate, (BETA1, beta2), eps)
        return
    state = tensor, *moments
    value, first, second = (part[rows] for part in state)
    adam_step(value, gradient, (first, second), steps, rate, beta2, eps)
    for part, updated in zip(state, (value, first, second), strict=True):
        part[rows] = updated
