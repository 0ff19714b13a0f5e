"""What the masks of one keyframe say about the Gaussians, kept in place of its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lift_ros.camera import PosedCamera
from lift_ros.evidence.library import Masks, library, pointers
from lift_ros.native import call
from lift_ros.render import BlendWeights, Splats, mask_weights
from lift_ros.render.types import masks_per_pixel
from lift_ros.scene.gaussians import heirs

# Pixels. Entries below are half of all and decide nothing; five times as much blurs the borders of small objects.
MIN_WEIGHT = 1e-2

MIN_PIXELS = 0.3  # of a Gaussian that a view must show to say in which mask it lies
CLEAR_PIXELS = 2.0  # from which more of it says no more


class Clear(NamedTuple):
    """The Gaussians that a view shows clearly, in ascending order.

    Attributes:
        gaussian: (c,) int32.
        mask: (c,) int16, the mask that shows most of each, the first of equals; modulo 2^16.
        say: (c,) int16, how clearly, up to 4095.
    """

    gaussian: NDArray[np.int32]
    mask: NDArray[np.int16]
    say: NDArray[np.int16]


@dataclass
class MaskEvidence:
    """E[m, i] = summed blend weight of Gaussian i over the pixels of mask m: about a pixel's worth of it, in pixels.

    Kept as triplets, sorted by mask, which are never written to. Pixels without a mask are no evidence.

    Attributes:
        mask: (n,) int32.
        gaussian: (n,) int32.
        weight: (n,) float32.
        area: (M,) float32, pixels of each mask.
        wholes: None, or if masks are nested and these are the smallest at each pixel, the evidence of the largest.
    """

    mask: NDArray[np.int32]
    gaussian: NDArray[np.int32]
    weight: NDArray[np.float32]
    area: NDArray[np.float32]
    wholes: MaskEvidence | None = None

    def __post_init__(self) -> None:
        """Raises ValueError: the triplets are not sorted by mask or of another type, which counting relies on."""
        types = [array.dtype for array in (self.mask, self.gaussian, self.weight, self.area)]
        if types != [np.int32, np.int32, np.float32, np.float32]:
            raise ValueError(f"evidence must be of int32, int32, float32 and float32, not {types}")
        if len(self.mask) and (self.mask[0] < 0 or self.mask[-1] >= len(self.area) or (np.diff(self.mask) < 0).any()):
            raise ValueError(f"evidence must be sorted by mask, from 0 to {len(self.area) - 1}")

    @cached_property
    def last(self) -> int:
        """The largest index of a Gaussian in it, -1 if there is none."""
        return int(self.gaussian.max(initial=-1))

    @cached_property
    def begin(self) -> NDArray[np.int64]:
        """(M + 1,) where the triplets of each mask begin, and at last their number."""
        return np.searchsorted(self.mask, np.arange(len(self.area) + 1, dtype=np.int32))

    @cached_property
    def lent(self) -> Masks:
        """It, as C++ is given it: pointers to its arrays, valid as long as it lives."""
        struct = Masks(len(self.area))
        struct.borrowed = pointers(struct, begin=self.begin, gaussian=self.gaussian, weight=self.weight, area=self.area)
        return struct

    @cached_property
    def clear(self) -> Clear:
        """The Gaussians with more than ``MIN_PIXELS`` in masks. Kept, since most keyframes stay as they are from one
        update to the next.

        Raises MemoryError.
        """
        found = Clear(*(np.empty(len(self.mask), kind) for kind in (np.int32, np.int16, np.int16)))
        count = call(library().lift_clear, self.lent, self.last + 1, MIN_PIXELS, CLEAR_PIXELS, *found)
        return Clear(*(array[:count].copy() for array in found))

    @classmethod
    def of(cls, weights: BlendWeights, labels: NDArray[np.int32]) -> MaskEvidence:
        """The evidence of the masks of one view.

        Args:
            weights: (H * W, N) blend weights of all pixels, row by row.
            labels: (k H, k W) mask numbers, 0 none. With k above 1 masks can share a pixel.

        Raises:
            ValueError: the labels are no multiple of the image.
        """
        numbered, area = _numbered(labels)
        k = masks_per_pixel(labels, weights.shape[0])
        return cls(*weights.of_masks(numbered, MIN_WEIGHT), area / k**2)

    @classmethod
    def seen_by(cls, camera: PosedCamera, splats: Splats, labels: NDArray[np.int32]) -> MaskEvidence:
        """The same for the (H, W) view of ``camera``, without computing the weights of every pixel.

        Raises:
            ValueError: the labels are no multiple of the image.
        """
        numbered, area = _numbered(labels)
        k = labels.shape[0] // camera.height
        return cls(*mask_weights(splats, camera, numbered, MIN_WEIGHT), area / k**2)

    @classmethod
    def of_objects(cls, ids: NDArray[np.int64]) -> MaskEvidence:
        """The evidence of a finished map, with a mask for each object that holds all of its Gaussians.

        ``ids``: (N,) object of each Gaussian, 0 for none.
        """
        gaussian = np.argsort(ids, kind="stable")[np.count_nonzero(ids == 0) :]
        _, mask, count = np.unique(ids[gaussian], return_inverse=True, return_counts=True)
        ones = np.ones(len(gaussian), np.float32)
        return cls(mask.astype(np.int32), gaussian.astype(np.int32), ones, count.astype(np.float32))

    def without(self, gone: NDArray[np.bool_]) -> MaskEvidence:
        """The evidence without the Gaussians where ``gone`` (N,) is True."""
        left = ~gone[self.gaussian]
        wholes = self.wholes and self.wholes.without(gone)
        return MaskEvidence(self.mask[left], self.gaussian[left], self.weight[left], self.area, wholes)

    def follow(self, origin: torch.Tensor) -> MaskEvidence:
        """The evidence after an edit of the scene (see ``GaussianScene``), ``origin`` on the CPU.

        Both halves of a split inherit all of it.
        """
        entry, heir = (t.numpy() for t in heirs(torch.from_numpy(self.gaussian).long(), origin))
        wholes = self.wholes and self.wholes.follow(origin)
        return MaskEvidence(self.mask[entry], heir.astype(np.int32), self.weight[entry], self.area, wholes)


def _numbered(labels: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Labels with the masks renumbered from 1 without gaps, 0 for none; and the number of pixels (M,) of each."""
    count = np.bincount(labels.reshape(-1))
    count[:1] = 0
    number = (count > 0).cumsum(dtype=np.int32) * (count > 0)
    return number[labels].astype(np.int32), count[count > 0].astype(np.float32)
