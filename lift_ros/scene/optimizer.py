"""Adam on the tensors of a scene, with moments that follow structural edits."""

from __future__ import annotations

import torch

from lift_ros.adam import adam_rows, adam_step
from lift_ros.scene.gaussians import GaussianScene, follow

EPS = 1e-15  # as in 3DGS: gradients of single Gaussians are small
HIGHER_BANDS = 0.05  # of the learning rate of the first band of harmonics
RATES = {
    "means": 4e-4,  # of the median depth; several times 3DGS's, for few steps
    "quats": 2e-3,
    "log_scales": 1e-2,
    "logit_opacities": 5e-2,
    "sh": 5e-3,
}


class SceneOptimizer:
    """Adam (Kingma and Ba 2015) with one learning rate per parameter.

    All Gaussians that a step is told of are updated, visible or not. Those it is not told of keep still.
    """

    def __init__(self, scene: GaussianScene) -> None:
        self._moments = {
            name: (torch.zeros_like(tensor), torch.zeros_like(tensor)) for name, tensor in scene.tensors().items()
        }
        self._steps = torch.zeros((), device=scene.device)

    def edit(self, origin: torch.Tensor) -> None:
        """Follow an edit of the scene: see ``GaussianScene``."""
        self._moments = {
            name: (follow(first, origin), follow(second, origin)) for name, (first, second) in self._moments.items()
        }

    def step(
        self,
        scene: GaussianScene,
        grads: dict[str, torch.Tensor],
        lengths: float,
        rate: float,
        active: torch.Tensor | slice = slice(None),
    ) -> None:
        """Update the tensors of ``scene`` in place, by ``RATES``.

        Args:
            grads: gradient by name of the tensor, of the ``active`` Gaussians: (M,) int64, or all.
            lengths: what the learning rate of the means is a share of, in the unit of the scene.
            rate: factor of all learning rates.
        """
        before = self._steps
        for name, grad in grads.items():
            lr = rate * RATES[name] * (lengths if name == "means" else 1.0)
            state = (getattr(scene, name), *self._moments[name])
            self._steps = before.clone()
            if name == "sh" and grad.shape[1] > 1:
                rows = [tensor[active] for tensor in state]
                for part, share in ((slice(0, 1), 1.0), (slice(1, None), HIGHER_BANDS)):
                    self._steps = before.clone()
                    value, first, second = (row[:, part].contiguous() for row in rows)
                    adam_step(value, grad[:, part], (first, second), self._steps, lr * share, eps=EPS)
                    for tensor, updated in zip(state, (value, first, second), strict=True):
                        tensor[active, part] = updated
            elif isinstance(active, slice):
                adam_step(state[0], grad, state[1:], self._steps, lr, eps=EPS)
            else:
                value, first, second = (tensor.view(len(tensor), -1) for tensor in state)
                adam_rows((value, first, second), active, grad.reshape(len(grad), -1), self._steps, lr, eps=EPS)
