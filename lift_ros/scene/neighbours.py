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
    """The k nearest Gaussians of each, as far as they touch.

    Attributes:
        index: (N, k) int64; where fewer than k are near enough, the Gaussian itself.
        near: (N, k) bool, False where ``index`` repeats the Gaussian itself.
        wide: (N, k) int64, the same within the reach of the coarser of two: by these a surface hangs together that is
            dense here and coarse there. None: as ``index``.
    """

    index: torch.Tensor
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
        both = spacing[:, None], spacing[index]
        near, wide = distance <= torch.minimum(*both), distance <= torch.maximum(*both)
        itself = torch.arange(n)[:, None]
        found = torch.where(near, index, itself), near, torch.where(wide, index, itself)
        return cls(*(tensor.to(means.device) for tensor in found))

    @cached_property
    def touching(self) -> NDArray[np.int32]:
        """(N, k) ``index`` on the CPU, -1 where ``near`` is False."""
        return torch.where(self.near, self.index, -1).to(torch.int32).cpu().numpy()

    @cached_property
    def within_reach(self) -> NDArray[np.int32]:
        """(N, k) ``wide`` on the CPU, -1 where it repeats the Gaussian itself."""
        if self.wide is None:
            return self.touching
        itself = torch.arange(len(self.wide), device=self.wide.device)[:, None]
        return torch.where(self.wide == itself, -1, self.wide).to(torch.int32).cpu().numpy()
