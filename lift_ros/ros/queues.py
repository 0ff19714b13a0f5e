"""Small thread-safe building blocks between the executor and the workers."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import Generic, TypeVar

import numpy as np

Item = TypeVar("Item")

# drops by which a small computer, or a slow depth camera, keeps up
KEEPING_UP = ("depth_between", "mapper_busy", "not_labelled", "not_segmented", "segmenter_budget")


class KeepNewest(Generic[Item]):
    """A bounded queue that never blocks the producer: when full, the oldest item gives way."""

    def __init__(self, capacity: int) -> None:
        """Hold at most ``capacity`` items."""
        self._items: deque[Item] = deque()
        self._capacity = capacity
        self._changed = threading.Condition()

    def put(self, item: Item) -> int:
        """Add an item; returns how many old ones gave way."""
        with self._changed:
            self._items.append(item)
            overflow = len(self._items) - self._capacity
            for _ in range(overflow):
                self._items.popleft()
            self._changed.notify()
        return max(overflow, 0)

    def get(self, timeout: float) -> Item | None:
        """The oldest item, None when none came within ``timeout`` seconds."""
        with self._changed:
            if not self._items:
                self._changed.wait(timeout)
            return self._items.popleft() if self._items else None

    def clear(self) -> int:
        """Remove every item; returns how many there were."""
        with self._changed:
            count = len(self._items)
            self._items.clear()
        return count

    def __len__(self) -> int:
        return len(self._items)


class DropCounter:
    """Counts what was not used, by reason."""

    def __init__(self) -> None:
        """Start at zero."""
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, reason: str, count: int = 1) -> None:
        """Count ``count`` drops."""
        if count:
            with self._lock:
                self._counts[reason] += count

    def counts(self) -> dict[str, int]:
        """A snapshot, by reason in alphabetical order."""
        with self._lock:
            return dict(sorted(self._counts.items()))

    def clear(self) -> None:
        """Back to zero."""
        with self._lock:
            self._counts.clear()


class Window:
    """The latest values of a quantity, for percentiles."""

    def __init__(self, size: int) -> None:
        """Keep the latest ``size`` values."""
        self._values: deque[float] = deque(maxlen=size)
        self._times: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        """Add a value now."""
        self._times.append(time.monotonic())
        self._values.append(value)

    def percentile(self, q: float) -> float:
        """Percentile ``q`` in [0, 100] of the values kept, NaN where there are none."""
        values = list(self._values)
        return float(np.percentile(values, q)) if values else float("nan")

    def rate(self, seconds: float) -> float:
        """Values added per second over the latest ``seconds``, or over those that the values kept go back."""
        now, times = time.monotonic(), list(self._times)
        if len(times) == self._times.maxlen:
            seconds = min(seconds, now - times[0])
        return sum(now - t <= seconds for t in times) / seconds
