"""Masks made by another node, matched to frames by their stamp. Knows nothing of ROS: the node calls ``offer``."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from lift_ros.errors import FrameRejected
from lift_ros.frame import Frame
from lift_ros.masks.base import Masks, Prompts
from lift_ros.masks.recorded import masks_at

MAX_BYTES = 256 << 20  # of the label images that wait
STAMP_TOLERANCE_NS = 1_000  # a stamp in float64 seconds since 1970 is good to 0.24 microseconds


class TopicSegmenter:
    """Answers with the label image of the frame's own stamp, which must be there when it is asked: see ``has``.

    Its methods may be called from different threads. Label images come in the order of time, later than the images they
    were made from and not for all of them; the oldest of more than ``capacity`` waiting ones, or ``MAX_BYTES``, is
    dropped.

    Attributes:
        reach: seconds by which stamps of one time differ, at most; others are of before and after a jump of the clock.
        capacity: label images that are kept; as many as frames may be on their way here.
    """

    name = "topic"
    promptable = False

    def __init__(self, reach: float = 5.0, capacity: int = 16) -> None:
        """Without label images at first."""
        self.reach = reach
        self.capacity = capacity
        self._labels: OrderedDict[int, NDArray] = OrderedDict()
        self._lock = threading.Lock()

    def offer(self, stamp_ns: int, labels: NDArray[np.integer]) -> None:
        """Hand in the (h, w) label image (0 = no mask) of the image with this stamp, in nanoseconds.

        Raises:
            FrameRejected: ``masks_encoding``.
        """
        if labels.ndim != 2 or not labels.size or not np.issubdtype(labels.dtype, np.integer):
            raise FrameRejected("masks_encoding", f"masks must be (h, w) integers, got {labels.shape} {labels.dtype}")
        kinds = [np.min_scalar_type(label) for label in (labels.min(), labels.max())]
        labels = labels.astype(np.result_type(*kinds))
        with self._lock:
            for other in [stamp for stamp in self._labels if stamp > stamp_ns + self._reach_ns]:
                del self._labels[other]  # late ones of before the jump
            self._labels[stamp_ns] = labels
            while len(self._labels) > self.capacity or sum(each.nbytes for each in self._labels.values()) > MAX_BYTES:
                self._labels.popitem(last=False)

    def clear(self) -> None:
        """Forget every label image that waits, as after a jump of the clock."""
        with self._lock:
            self._labels.clear()

    def has(self, stamp_ns: int) -> bool:
        """Whether the label image of this stamp is there."""
        with self._lock:
            return self._find(stamp_ns) is not None

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        """The masks offered for this frame's stamp, which are given once; ``prompts`` change nothing.

        Those of earlier images are of no use any more, whether or not they were asked for.

        Raises:
            FrameRejected: ``masks_missing`` when there are none; as ``masks_at``.
        """
        stamp_ns = round(frame.stamp * 1e9)
        with self._lock:
            key = self._find(stamp_ns)
            # its own masks are there: so are none of after a jump, which those far earlier could else be
            low = stamp_ns - self._reach_ns if key is None else 0
            high = stamp_ns - STAMP_TOLERANCE_NS
            for older in [stamp for stamp in self._labels if low <= stamp < high]:
                del self._labels[older]
            if key is None:
                raise FrameRejected("masks_missing", f"no masks for the image of {frame.stamp:.6f} s are there")
            labels = self._labels.pop(key)
        return masks_at(labels, frame)

    @property
    def _reach_ns(self) -> int:
        return round(1e9 * self.reach)

    def _find(self, stamp_ns: int) -> int | None:
        """The offered stamp nearest to this one, if it is the same but for rounding."""
        nearest = min(self._labels, key=lambda key: abs(key - stamp_ns), default=None)
        return nearest if nearest is not None and abs(nearest - stamp_ns) <= STAMP_TOLERANCE_NS else None
