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

from lift_ros.frame import Frame
from lift_ros.mapping.mapper import FINER
from lift_ros.masks.topic import TopicSegmenter
from lift_ros.ros.frame_builder import LiveFrame
from lift_ros.ros.queues import DropCounter

MAX_BYTES = 256 << 20  # of the frames that wait: some 4 s of a camera of 30 Hz where mapping has the default width


class MaskSync:
    """Hands frames on, in their order, once their masks are there.

    So the mapper never waits, and gets just the images that a segmenter slower than the camera took. Frames before one
    whose masks came are dropped; if none come for a time, all are.
    """

    def __init__(
        self,
        masks: TopicSegmenter,
        timeout: float,
        image_width: int,
        drops: DropCounter,
        on_frame: Callable[[LiveFrame], None],
    ) -> None:
        """``timeout``: s that a frame waits, from its arrival. ``image_width``: of mapping, px."""
        self._masks = masks
        self._timeout = timeout
        self._image_width = image_width
        self._drops = drops
        self._on_frame = on_frame
        self._waiting: deque[LiveFrame] = deque()
        self._matched = -math.inf  # when masks came last that fit a frame, time.monotonic()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Frames that wait for their masks."""
        return len(self._waiting)

    def add_frame(self, live: LiveFrame) -> None:
        """A frame, later than those before."""
        camera = live.frame.camera
        live = replace(live, frame=live.frame.resized(*self._size_kept(camera.width, camera.height)))
        with self._lock:
            self._waiting.append(live)
            if self._masks.has(_stamp_ns(live)):
                self._hand_on(live)
                return
            if len(self._waiting) * _size(live.frame) > MAX_BYTES:
                frames = list(self._waiting)
                self._waiting = deque(frames[::2])  # without the oldest alone, each would wait in vain
                for other in frames[1::2]:
                    self._count(other)
        self.expire()

    def add_masks(self, stamp_ns: int, labels: NDArray[np.integer]) -> None:
        """The label image of the image with this stamp; see ``TopicSegmenter.offer`` for the errors."""
        if labels.ndim == 2 and labels.size:
            labels = _nearest(labels, *self._size_kept(labels.shape[1], labels.shape[0]))
        with self._lock:
            self._masks.offer(stamp_ns, labels)
            for live in self._waiting:
                if self._masks.has(_stamp_ns(live)):
                    self._hand_on(live)
                    return

    def expire(self) -> None:
        """Drop what has waited too long."""
        oldest = time.monotonic() - self._timeout
        with self._lock:
            while self._waiting and self._waiting[0].arrival < oldest:
                self._count(self._waiting.popleft())

    def clear(self, reason: str) -> None:
        """Drop what waits, frames and masks, counted as ``reason``."""
        with self._lock:
            self._drops.add(reason, len(self._waiting))
            self._waiting.clear()
            self._masks.clear()
            self._matched = -math.inf

    def _hand_on(self, live: LiveFrame) -> None:
        while self._waiting.popleft() is not live:  # whatever its stamp: one may be of before a jump of time
            self._drops.add("not_segmented")
        self._matched = time.monotonic()
        self._on_frame(live)

    def _count(self, live: LiveFrame) -> None:
        """A frame that is dropped: masks came for others meanwhile, or nobody makes any for this camera."""
        self._drops.add("not_segmented" if self._matched > live.arrival else "masks_missing")

    def _size_kept(self, width: int, height: int) -> tuple[int, int]:
        """Width and height, px, that an image of this size is kept at: that of the masks in the map, if it is less."""
        small = min(self._image_width, width)
        needed = FINER * small, FINER * max(1, round(height * small / width))
        return needed if needed[0] < width and needed[1] < height else (width, height)


def _nearest(labels: NDArray[np.integer], width: int, height: int) -> NDArray[np.integer]:
    """Labels at another size, of the pixel at the centre of each new one: in a callback, a vote takes too long."""
    rows, columns = (
        ((np.arange(size) + 0.5) * old / size).astype(int)
        for size, old in zip((height, width), labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]


def _stamp_ns(live: LiveFrame) -> int:
    return round(live.frame.stamp * 1e9)  # as the segmenter asks


def _size(frame: Frame) -> int:
    return frame.image.nbytes + (0 if frame.depth is None else frame.depth.nbytes)
