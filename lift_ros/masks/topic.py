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

TIME_JUMP = 1.0  # s; stamps that differ by more than this, or the wait, may be of two times, before and after a jump
STAMP_TOLERANCE_NS = 1_000  # a stamp in float64 seconds since 1970 is good to 0.24 microseconds


class TopicSegmenter:
    """Answers with the label image of the frame's own stamp.

    ``offer`` and ``segment`` may be called from different threads. Label images come later than the images they were
    made from, so ``segment`` waits for them; the oldest of more than ``capacity`` waiting ones is dropped. Frames and
    label images come in the order of time: what is older than one that was asked for is of no use any more, and where
    those of a later image are there, its own will not come.

    Attributes:
        wait: seconds that a frame's masks are waited for, at most.
        capacity: label images that are kept; as many as frames may be on their way here.
    """

    name = "topic"
    promptable = False

    def __init__(self, wait: float = 1.0, capacity: int = 16) -> None:
        """Without label images at first."""
        self.wait = wait
        self.capacity = capacity
        self._labels: OrderedDict[int, NDArray] = OrderedDict()
        self._cleared = 0  # times
        self._arrived = threading.Condition()

    def offer(self, stamp_ns: int, labels: NDArray[np.integer]) -> None:
        """Hand in the (h, w) label image (0 = no mask) of the image with this stamp, in nanoseconds."""
        if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
            raise FrameRejected("masks_encoding", f"masks must be (h, w) integers, got {labels.shape} {labels.dtype}")
        with self._arrived:
            for other in [stamp for stamp in self._labels if stamp > stamp_ns + self._reach_ns]:
                del self._labels[other]  # late ones of before the jump
            self._labels[stamp_ns] = labels
            while len(self._labels) > self.capacity:
                self._labels.popitem(last=False)
            self._arrived.notify_all()

    def clear(self) -> None:
        """Forget every label image that waits, as after a jump of the clock."""
        with self._arrived:
            self._labels.clear()
            self._cleared += 1
            self._arrived.notify_all()

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        """The masks offered for this frame's stamp; ``prompts`` change nothing.

        Raises:
            FrameRejected: ``masks_missing`` when none came in time; as ``masks_at``.
        """
        stamp_ns = round(frame.stamp * 1e9)
        with self._arrived:
            cleared, wait = self._cleared, self.wait
            self._arrived.wait_for(lambda: self._cleared > cleared or self._passed(stamp_ns), wait)
            if self._cleared > cleared:  # the frame is of a time before a jump, and so are none of the masks
                raise FrameRejected("masks_missing", "the wait for masks was ended")
            key = self._find(stamp_ns)
            low, high = stamp_ns - self._reach_ns, stamp_ns - STAMP_TOLERANCE_NS
            for older in [stamp for stamp in self._labels if low < stamp < high]:
                del self._labels[older]
            if key is None:
                raise FrameRejected(
                    "masks_missing",
                    f"no masks for the image of {frame.stamp:.6f} s came within {wait} s, or before those of a later "
                    "image",
                )
            labels = self._labels.pop(key)
        return masks_at(labels, frame)

    def _passed(self, stamp_ns: int) -> bool:
        """Whether the masks of this stamp are there, or will not come."""
        return any(-STAMP_TOLERANCE_NS <= stamp - stamp_ns <= self._reach_ns for stamp in self._labels)

    @property
    def _reach_ns(self) -> int:
        return round(1e9 * max(self.wait, TIME_JUMP))

    def _find(self, stamp_ns: int) -> int | None:
        """The offered stamp nearest to this one, if it is the same but for rounding."""
        nearest = min(self._labels, key=lambda key: abs(key - stamp_ns), default=None)
        return nearest if nearest is not None and abs(nearest - stamp_ns) <= STAMP_TOLERANCE_NS else None
