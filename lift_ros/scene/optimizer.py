"""Adam on the tensors of a scene, with moments that follow structural edits."""

from __future__ import annotations

import torch

from lift_ros.adam import adam_step
from lift_ros.scene.config import SceneConfig
from lift_ros.scene.gaussians import GaussianScene, follow


class SceneOptimizer:
    """Adam (Kingma and Ba 2015) with one learning rate per parameter, through torch's fused kernel.

    All Gaussians that a step is told of are updated, visible or not: on a CPU one fused pass over 100k Gaussians takes
    3 ms, a sixth of what it takes to gather and scatter half of them. Those it is not told of keep still.
    """

    def __init__(self, scene: GaussianScene, config: SceneConfig) -> None:
        self._rates = {
            "means": config.lr_means,
            "quats": config.lr_quats,
            "log_scales": config.lr_scales,
            "logit_opacities": config.lr_opacities,
            "sh": config.lr_sh,
        }
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
        """Update the tensors of ``scene`` in place.

        Args:
            grads: gradient by name of the tensor, of the ``active`` Gaussians: (M,) int64, or all.
            lengths: what the learning rate of the means is a share of, in the unit of the scene.
            rate: factor of all learning rates.
        """
        before = self._steps
        for name, grad in grads.items():
            lr = rate * self._rates[name] * (lengths if name == "means" else 1.0)
            state = (getattr(scene, name), *self._moments[name])
            value, first, second = rows = [tensor[active] for tensor in state]
            self._steps = before.clone()
            if name != "sh" or value.shape[1] == 1:
                adam_step(value, grad, (first, second), self._steps, lr, eps=1e-15)
            else:
                for part, share in ((slice(0, 1), 1.0), (slice(1, None), 0.05)):
                    self._steps = before.clone()
                    views = [t[:, part] for t in rows]
                    copies = [view.contiguous() for view in views]
                    adam_step(copies[0], grad[:, part], tuple(copies[1:]), self._steps, lr * share, eps=1e-15)
                    for view, copy in zip(views, copies, strict=True):
                        view.copy_(copy)
            if not isinstance(active, slice):
                for tensor, updated in zip(state, rows, strict=True):
                    tensor[active] = updated
