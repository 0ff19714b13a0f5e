"""Frames wait here for the masks that another node makes of them."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lift_ros.errors import FrameRejected
from lift_ros.frame import Frame
from lift_ros.mapping.mapper import FINER
from lift_ros.ros.compat import TIME_JUMP_NS
from lift_ros.ros.conversions import nanoseconds
from lift_ros.ros.frame_builder import LiveFrame
from lift_ros.ros.queues import DropCounter

STAMP_TOLERANCE_NS = 1_000  # a stamp in float64 seconds since 1970 is good to 0.24 microseconds
MAX_BYTES = 256 << 20  # of the frames that wait, some 4 s of 30 Hz where mapping has the default width; and of masks


class MaskSync:
    """Hands frames on, in their order, with their masks as ``Frame.labels`` once these are there.

    So the mapper never waits, and gets just the images that a segmenter slower than the camera took. Frames before one
    whose masks came are dropped; if none come for a time, all are. Masks that come before their frame, which still
    waits for its pose, wait for it. Methods may be called from different threads.
    """

    def __init__(
        self,
        timeout: float,
        capacity: int,
        image_width: int,
        drops: DropCounter,
        on_frame: Callable[[LiveFrame], None],
    ) -> None:
        """``timeout``: s that a frame waits, from its arrival. ``capacity``: label images that wait; as many as frames
        may be on their way here. ``image_width``: of mapping, px.
        """
        self._timeout = timeout
        self._reach_ns = max(round(1e9 * timeout), TIME_JUMP_NS)  # masks may come out of order, as late as that
        self._capacity = capacity
        self._image_width = image_width
        self._drops = drops
        self._on_frame = on_frame
        self._frames: deque[LiveFrame] = deque()
        self._masks: dict[int, NDArray[np.integer]] = {}  # by their stamp in ns, in the order they came
        self._matched = -math.inf  # when masks came last that fit a frame, time.monotonic()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Frames that wait for their masks."""
        return len(self._frames)

    def add_frame(self, live: LiveFrame) -> None:
        """A frame, later than those before."""
        camera = live.frame.camera
        live = replace(live, frame=live.frame.resized(*self._size_kept(camera.width, camera.height)))
        with self._lock:
            self._frames.append(live)
            for stamp_ns in self._masks:
                if _belong(live, stamp_ns):
                    self._hand_on(live, stamp_ns)
                    return
            if len(self._frames) * _size(live.frame) > MAX_BYTES:
                frames = list(self._frames)
                self._frames = deque(frames[::2])  # without the oldest alone, each would wait in vain
                for other in frames[1::2]:
                    self._count(other)
        self.expire()

    def add_masks(self, stamp_ns: int, labels: NDArray[np.integer]) -> None:
        """The (h, w) label image (0 = no mask) of the image with this stamp, in nanoseconds.

        Raises:
            FrameRejected: ``masks_encoding``.
        """
        if labels.ndim != 2 or not labels.size or not np.issubdtype(labels.dtype, np.integer):
            raise FrameRejected("masks_encoding", f"masks must be (h, w) integers, got {labels.shape} {labels.dtype}")
        labels = _compact(_nearest(labels, *self._size_kept(labels.shape[1], labels.shape[0])))
        with self._lock:
            for late in [other for other in self._masks if other > stamp_ns + self._reach_ns]:
                del self._masks[late]  # of before a jump of the clock, after which they came
            self._masks[stamp_ns] = labels
            for live in self._frames:
                if _belong(live, stamp_ns):
                    self._hand_on(live, stamp_ns)
                    return
            while len(self._masks) > self._capacity or sum(each.nbytes for each in self._masks.values()) > MAX_BYTES:
                del self._masks[next(iter(self._masks))]

    def expire(self) -> None:
        """Drop what has waited too long."""
        oldest = time.monotonic() - self._timeout
        with self._lock:
            while self._frames and self._frames[0].arrival < oldest:
                self._count(self._frames.popleft())

    def clear(self, reason: str) -> None:
        """Drop what waits, frames and masks, counted as ``reason``."""
        with self._lock:
            self._drops.add(reason, len(self._frames))
            self._frames.clear()
            self._masks.clear()
            self._matched = -math.inf

    def _hand_on(self, live: LiveFrame, stamp_ns: int) -> None:
        """A frame with the masks of this stamp. Nobody comes for what was there before it, frames nor masks."""
        while self._frames.popleft() is not live:  # whatever its stamp: one may be of before a jump of time
            self._drops.add("not_segmented")
        labels = self._masks[stamp_ns]
        self._masks = {stamp: each for stamp, each in self._masks.items() if stamp > stamp_ns}
        self._matched = time.monotonic()
        self._on_frame(replace(live, frame=live.frame.with_labels(labels)))

    def _count(self, live: LiveFrame) -> None:
        """A frame that is dropped: masks came for others meanwhile, or nobody makes any for this camera."""
        self._drops.add("not_segmented" if self._matched > live.arrival else "masks_missing")

    def _size_kept(self, width: int, height: int) -> tuple[int, int]:
        """Width and height, px, that an image of this size is kept at: that of the masks in the map, if it is less."""
        small = min(self._image_width, width)
        needed = FINER * small, FINER * max(1, round(height * small / width))
        return needed if needed[0] < width and needed[1] < height else (width, height)


def _belong(live: LiveFrame, stamp_ns: int) -> bool:
    """Whether masks of this stamp are those of a frame."""
    return abs(nanoseconds(live.header.stamp) - stamp_ns) <= STAMP_TOLERANCE_NS


def _nearest(labels: NDArray[np.integer], width: int, height: int) -> NDArray[np.integer]:
    """Labels at another size, of the pixel at the centre of each new one: in a callback, a vote takes too long."""
    if labels.shape == (height, width):
        return labels
    rows, columns = (
        ((np.arange(size) + 0.5) * old / size).astype(int)
        for size, old in zip((height, width), labels.shape, strict=True)
    )
    return labels[rows].take(columns, axis=1)  # one after the other: at once takes three times as long


def _compact(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Labels in the smallest integers that hold them."""
    return labels.astype(np.result_type(*(np.min_scalar_type(label) for label in (labels.min(), labels.max()))))


def _size(frame: Frame) -> int:
    return frame.image.nbytes + (0 if frame.depth is None else frame.depth.nbytes)
