"""Frames wait here for the masks that another node makes of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lift_ros.masks.topic import TopicSegmenter
from lift_ros.ros.conversions import nanoseconds
from lift_ros.ros.frame_builder import LiveFrame
from lift_ros.ros.queues import DropCounter

MAX_WAITING = 150  # frames, of some 2 MB each where mapping has the default width


class MaskSync:
    """Hands frames on, in their order, once their masks are there.

    So the mapper never waits, and gets just the images that a segmenter slower than the camera took. Frames whose masks
    do not come are dropped: as soon as masks of a later image are there, else after a time.
    """

    def __init__(
        self,
        masks: TopicSegmenter,
        timeout: float,
        max_width: int,
        drops: DropCounter,
        on_frame: Callable[[LiveFrame], None],
    ) -> None:
        """``timeout``: s that a frame waits, at most. ``max_width``: px that it is kept at, at most."""
        self._masks = masks
        self._timeout = timeout
        self._max_width = max_width
        self._drops = drops
        self._on_frame = on_frame
        self._waiting: deque[LiveFrame] = deque()
        self._lock = threading.Lock()

    def add_frame(self, live: LiveFrame) -> None:
        """A frame, later than those before."""
        live = replace(live, frame=live.frame.at_width(self._max_width))
        with self._lock:
            self._waiting.append(live)
            oldest = time.monotonic() - self._timeout
            while self._waiting and (len(self._waiting) > MAX_WAITING or self._waiting[0].arrival < oldest):
                self._drops.add("masks_missing")
                self._waiting.popleft()
            self._hand_on()

    def add_masks(self, stamp_ns: int, labels: NDArray[np.integer]) -> None:
        """The label image of the image with this stamp; see ``TopicSegmenter.offer`` for the errors."""
        self._masks.offer(stamp_ns, labels)
        with self._lock:
            self._hand_on()

    def clear(self, reason: str) -> None:
        """Drop what waits, counted as ``reason``."""
        with self._lock:
            self._drops.add(reason, len(self._waiting))
            self._waiting.clear()
        self._masks.clear()

    def _hand_on(self) -> None:
        waiting = list(self._waiting)
        self._waiting.clear()
        for live in waiting:
            stamp_ns = nanoseconds(live.header.stamp)
            if self._masks.has(stamp_ns):
                self._on_frame(live)
            elif self._masks.passed(stamp_ns):
                self._drops.add("not_segmented")
            else:
                self._waiting.append(live)
