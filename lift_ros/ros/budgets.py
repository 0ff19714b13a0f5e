"""What the node may spend: shares of the time, memory of the process."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lift_ros.errors import FrameRejected
from lift_ros.frame import Frame
from lift_ros.masks.base import Masks, Prompts, Segmenter


class Duty:
    """Keeps a kind of work within its share of the time: each piece of it is followed by a rest.

    Rests cannot be saved up, so that time without work is not followed by a burst.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``share`` in (0, 1]: 1 never rests. ``clock``: seconds."""
        self._share = share
        self._clock = clock
        self._next = -math.inf

    @property
    def rest(self) -> float:
        """Seconds to wait before the next piece of work, 0 for none."""
        return max(0.0, self._next - self._clock())

    @contextmanager
    def work(self) -> Iterator[None]:
        """Around a piece of work, however it ends."""
        begin = self._clock()
        try:
            yield
        finally:
            end = self._clock()
            self._next = end + (end - begin) * (1 / self._share - 1)


class BudgetedSegmenter:
    """A segmenter that refuses while it would take more than its share of the time, or the process too much memory.

    The mapper asks for masks of keyframes only. A frame that is refused becomes none; a later one does.
    """

    def __init__(self, segmenter: Segmenter, duty: Duty, max_memory: int) -> None:
        """``duty`` of the segmenter; ``max_memory`` of the process, MiB, 0 for any."""
        self.name, self.promptable = segmenter.name, segmenter.promptable
        self._segmenter = segmenter
        self._duty = duty
        self._max_memory = max_memory

    def segment(self, frame: Frame, prompts: Prompts | None = None) -> Masks:
        """See ``Segmenter``.

        Raises:
            FrameRejected: ``memory_budget`` or ``segmenter_budget`` where one is spent, or as the segmenter says.
        """
        memory = process_memory()
        if self._max_memory and memory > self._max_memory:
            raise FrameRejected("memory_budget", f"the process takes {memory} MiB, max_memory is {self._max_memory}")
        if rest := self._duty.rest:
            raise FrameRejected("segmenter_budget", f"the segmenter rests for another {rest:.2f} s")
        with self._duty.work():
            return self._segmenter.segment(frame, prompts)


def process_memory() -> int:
    """Resident memory of this process, MiB; 0 where the system does not say."""
    with suppress(OSError):  # only Linux has /proc
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") >> 20
    return 0
