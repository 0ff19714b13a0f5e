"""Adam (Kingma and Ba 2015) by torch's fused kernel. torch.optim's class takes seconds to import its compiler."""

from __future__ import annotations

import torch
from torch.optim.adam import adam


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
        fused=True, amsgrad=False, beta1=0.9, beta2=beta2, lr=rate, weight_decay=0.0, eps=eps, maximize=False,
    )  # fmt: skip
