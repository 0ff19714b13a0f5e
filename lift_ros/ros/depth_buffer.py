"""Depth images until the images come that they belong to."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Any

from lift_ros.ros.compat import TIME_JUMP_NS
from lift_ros.ros.conversions import nanoseconds

AT_LEAST = 60  # are kept, also where few images may wait
PER_IMAGE = 2  # are kept, so that those of images that wait for their turn are still there
AT_MOST = 300  # are kept, where they come faster, while an image waits for its pose
GAPS_KEPT = 10  # between depth images, to know how soon the next one is due
SLOW_NS = 1_000_000_000  # from image to image with depth, where depth is slow and not gone


class DepthBuffer:
    """Finds the depth of an image by their stamps; safe to use from several threads."""

    def __init__(self, slop: float, images: int) -> None:
        """``slop``: s between an image and its depth, at most. ``images``: that may wait for their turn."""
        self._slop_ns = slop * 1e9
        self._kept = max(AT_LEAST, PER_IMAGE * images)
        self._messages: OrderedDict[int, Any] = OrderedDict()  # by stamp, ns
        self._gaps: deque[int] = deque(maxlen=GAPS_KEPT)  # ns
        self._oldest_ns: float | None = None  # that the image at work may have
        self._matched_ns: int | None = None  # stamp of the latest image that had depth near
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, message: Any) -> None:
        """Take a depth image of either kind; beyond what may be kept, the one that came first gives way."""
        stamp_ns = nanoseconds(message.header.stamp)
        with self._lock:
            latest = max(self._messages, default=stamp_ns)
            if stamp_ns < latest - TIME_JUMP_NS:  # a new start, as with images
                self._messages.clear()
                self._gaps.clear()
            elif stamp_ns > latest:
                self._gaps.append(stamp_ns - latest)
            self._messages[stamp_ns] = message
            while len(self._messages) > self._kept:
                if len(self._messages) <= AT_MOST and self._is_awaited(next(iter(self._messages))):
                    break
                self._messages.popitem(last=False)

    def keep_for(self, image_ns: int | None) -> None:
        """More than usual is kept from now on for the image of this time, which is at work; None: for none."""
        self._oldest_ns = None if image_ns is None else image_ns - self._slop_ns

    def near(self, image_ns: int) -> tuple[Any, bool]:
        """The depth nearest to an image so far, None if none is near; and whether it stays that, whatever comes."""
        with self._lock:
            if not self._messages:
                return None, False
            latest = max(self._messages)
            nearest = self._nearest(image_ns)
            due = latest + min(self._gaps, default=0)
            if abs(nearest - image_ns) > self._slop_ns:
                return None, latest > image_ns or image_ns < due - self._slop_ns
            self._matched_ns = image_ns
            return self._messages[nearest], latest >= image_ns or abs(due - image_ns) >= image_ns - nearest

    def is_between(self, image_ns: int) -> bool:
        """Whether an image without depth of its own came soon after one that had, and lies between the times at which
        depth is due: not every image is to have it. Where one was due, it is lost.
        """
        with self._lock:
            soon = self._matched_ns is not None and 0 < image_ns - self._matched_ns < SLOW_NS
            if not soon or not self._gaps or not self._messages:
                return False
            gap = min(self._gaps)
            past = (image_ns - self._nearest(image_ns)) % gap
            return min(past, gap - past) > self._slop_ns

    def forget_old(self, image_ns: int) -> None:
        """What is too old for an image of this time, and so for all to come, but the latest: it tells when the next is
        due.
        """
        with self._lock:
            oldest = min(image_ns - self._slop_ns, max(self._messages, default=0))
            for old in [depth_ns for depth_ns in self._messages if depth_ns < oldest]:
                del self._messages[old]

    def forget(self, latest_ns: int = -1) -> None:
        """All, but those up to ``latest_ns``."""
        with self._lock:
            for stamp_ns in [stamp_ns for stamp_ns in self._messages if stamp_ns > latest_ns]:
                del self._messages[stamp_ns]
            self._gaps.clear()
            self._matched_ns = None

    def _nearest(self, image_ns: int) -> int:
        return min(self._messages, key=lambda depth_ns: abs(depth_ns - image_ns))

    def _is_awaited(self, depth_ns: int) -> bool:
        oldest_ns = self._oldest_ns  # another thread may take it away
        return oldest_ns is not None and depth_ns >= oldest_ns
