"""What a segmenter is, what it is told and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from lift_ros.frame import Frame
from lift_ros.resampling import any_of, most_frequent


@dataclass
class Masks:
    """The masks of one image. They may overlap and need not cover it.

    Attributes:
        masks: (M, H, W) bool.
        prompts_used: number of prompt points the segmenter decoded for this image, 0 for promptless segmenters.
    """

    masks: NDArray[np.bool_]
    prompts_used: int = 0

    @classmethod
    def empty(cls, height: int, width: int) -> Masks:
        """No mask at all, of an image of this size."""
        return cls(np.zeros((0, height, width), bool))

    @classmethod
    def from_label_image(cls, labels: NDArray, ids: NDArray | None = None) -> Masks:
        """(H, W) integer image -> one mask for each of ``ids``; None: for each that there is, ascending, but for 0."""
        if ids is None:
            ids = ids_in(labels)
        return cls(labels[None] == ids[:, None, None])

    def label_image(self) -> NDArray[np.int32]:
        """(H, W) int32: index + 1 of the *smallest* mask over each pixel, 0 where there is none.

        Smaller masks lie on top, as parts do on wholes, so that every mask that is not fully covered shows.
        """
        labels = np.zeros(self.masks.shape[1:], np.int32)
        for index in np.argsort(-self.masks.sum((1, 2)), kind="stable"):
            labels[self.masks[index]] = index + 1
        return labels

    def __len__(self) -> int:
        return len(self.masks)


@dataclass
class Patches:
    """Overlapping masks as a partition of the image: pixels that lie in the same masks form a patch (OmniSeg3D, 3.1).

    Attributes:
        index: (H, W) patch of each pixel, uint16 while that suffices; patch 0 lies in no mask.
        inside: (K, M) bool, which of the M masks patch k lies in. Row 0 is all False.
    """

    index: NDArray[np.integer]
    inside: NDArray[np.bool_]

    @classmethod
    def of(cls, masks: NDArray[np.bool_]) -> Patches:
        """From (M, H, W) bool."""
        # a random number a mask: sums are equal where the sets of masks are, but for one chance in 2^64 a pair
        numbers = np.random.default_rng(0).integers(1, 2**64, len(masks), np.uint64)
        sums = np.zeros(masks.shape[1:], np.uint64)
        for mask, number in zip(masks, numbers, strict=True):
            sums[mask] += number
        sums = np.append(sums.reshape(-1), np.uint64(0))  # patch 0 exists even where it is empty
        starts = _run_starts(sums)
        _, first, index = np.unique(sums[starts], return_index=True, return_inverse=True)
        flat = masks.reshape(len(masks), masks[0].size if len(masks) else 0)
        inside = np.zeros((len(first), len(masks)), bool)
        inside[1:] = flat[:, starts[first[1:]]].T
        small = np.uint16 if len(inside) <= 2**16 else np.int32
        index = np.repeat(index.astype(small), np.diff(starts, append=len(sums)))
        return cls(index[:-1].reshape(masks.shape[1:]), inside)

    def resized(self, height: int, width: int) -> Patches:
        """At another size of the image: each pixel in the patch that most of it shows."""
        if self.index.shape == (height, width):
            return self
        return Patches(most_frequent(self.index, height, width), self.inside)

    def outside(self, pixels: NDArray[np.bool_]) -> Patches:
        """The same where no mask holds any of the ``pixels`` (h, w), which may be of another size of the image."""
        kept = ~any_of(pixels, *self.index.shape)
        return Patches(self.index * kept, self.inside)

    @property
    def overlapping(self) -> bool:
        """Whether some pixel lies in several masks."""
        return bool((self.inside.sum(1) > 1).any())

    @property
    def area(self) -> NDArray[np.int64]:
        """(M,) pixels of each mask."""
        return np.bincount(self.index.reshape(-1), minlength=len(self.inside)) @ self.inside

    def label_image(self, largest: bool = False) -> NDArray[np.int32]:
        """(H, W) int32: index + 1 of the smallest mask over each pixel, or of the ``largest``; 0 for none."""
        area = self.area
        number = np.zeros(len(self.inside), np.int32)
        for mask in np.argsort(area if largest else -area, kind="stable"):
            number[self.inside[:, mask]] = mask + 1
        return number[self.index]


def ids_in(labels: NDArray) -> NDArray:
    """The different values of an integer image, ascending, but for 0."""
    flat = labels.reshape(-1)
    ids = np.unique(flat[_run_starts(flat)])
    return ids[ids != 0]


def _run_starts(values: NDArray) -> NDArray[np.int64]:
    """Where the runs of equal ``values`` (n,) begin: of an image of regions few, and these are sorted in no time."""
    return np.flatnonzero(np.append(len(values) > 0, values[1:] != values[:-1]))


@dataclass
class Prompts:
    """What the map already knows of a frame that is about to be segmented.

    Attributes:
        points: (P, 2) float32 pixel coordinates, one per known object that should be visible.
        explained: (H, W) bool, where the map explains the image and no grid of prompts is needed; None: nowhere.
    """

    points: NDArray[np.float32]
    explained: NDArray[np.bool_] | None = None

    def resized(self, height: int, width: int) -> Prompts:
        """The same of the frame at another size; raises ValueError if nothing says how large it is, ``explained``."""
        if self.explained is None:
            raise ValueError("prompts without explained pixels have no size")
        if self.explained.shape == (height, width):
            return self
        rows, columns = self.explained.shape
        explained = cv2.resize(self.explained.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        return Prompts((self.points * (width / columns, height / rows)).astype(np.float32), explained > 0)


class Segmenter(Protocol):
    """2D instance segmentation of single frames.

    Attributes:
        name: as in the configuration.
        promptable: whether prompts make a difference; they take a rendering of the map.
    """

    name: str
    promptable: bool

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        """Masks of ``frame``, as large as its image or smaller; ``prompts`` say what the map already knows of it.

        Raises:
            FrameRejected: there are no masks for this frame (recorded and topic segmenters only).
        """
        ...
