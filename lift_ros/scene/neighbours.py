"""Which Gaussians lie next to each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.render.cpu import nearest


@dataclass(frozen=True)
class Neighbours:
    """The k nearest Gaussians of each, and which of them touch.

    Attributes:
        nearest: (N, k) int64.
        near: (N, k) bool, whether they touch.
        wide: (N, k) bool, the same within the reach of the coarser of two: by these a surface hangs together that is
            dense here and coarse there. None: as ``near``.
    """

    nearest: torch.Tensor
    near: torch.Tensor
    wide: torch.Tensor | None = None

    @classmethod
    def of(cls, means: torch.Tensor, k: int = 8, reach: float = 3.0) -> Neighbours:
        """Neighbours of the Gaussians at ``means`` (N, 3).

        Two Gaussians touch if they are no farther apart than ``reach`` times the spacing of the scene around either,
        which is the distance to the third-nearest neighbour. So the density of seeds, which falls with the distance to
        the camera, and the unit of the poses do not matter.

        Raises:
            ValueError: a mean is not finite.
        """
        n = len(means)
        k = min(k, max(n - 1, 0))
        if k == 0:
            none = torch.zeros(n, 0, dtype=torch.int64, device=means.device)
            return cls(none, none.bool())
        distance, index = nearest(means.cpu(), k)
        spacing = reach * distance[:, min(2, k - 1)]
        own, theirs = distance <= spacing[:, None], distance <= spacing[index]
        return cls(*(tensor.to(means.device) for tensor in (index, own & theirs, own | theirs)))

    @cached_property
    def index(self) -> torch.Tensor:
        """(N, k) int64 ``nearest``, the Gaussian itself where ``near`` is False."""
        itself = torch.arange(len(self.nearest), device=self.nearest.device)[:, None]
        return torch.where(self.near, self.nearest, itself)

    @cached_property
    def touching(self) -> NDArray[np.int32]:
        """(N, k) ``nearest`` on the CPU, -1 where ``near`` is False."""
        return self._where(self.near)

    @cached_property
    def within_reach(self) -> NDArray[np.int32]:
        """(N, k) ``nearest`` on the CPU, -1 where ``wide`` is False."""
        return self.touching if self.wide is None else self._where(self.wide)

    def _where(self, chosen: torch.Tensor) -> NDArray[np.int32]:
        return self.nearest.to(torch.int32).masked_fill(~chosen, -1).cpu().numpy()
