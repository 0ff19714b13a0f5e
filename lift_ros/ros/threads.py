"""Threads of the node, under names and priorities that the system knows."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STOP_TIMEOUT = 20.0  # s, for a step or an image at hand; launch gives the node 60 s to end


class Watch:
    """For how long a thread has been at one piece of work, for others to see."""

    def __init__(self) -> None:
        """Of a thread that does nothing yet."""
        self._since: float | None = None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """For the thread, around each piece."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    @property
    def seconds(self) -> float:
        """0 between two pieces."""
        since = self._since  # the thread may go on meanwhile
        return 0.0 if since is None else time.monotonic() - since


def start_thread(name: str, run: Callable[[], None], niceness: int = 0) -> threading.Thread:
    """Start ``run`` in a daemon thread called ``name``, in ``top -H`` and /proc too, where the system is Linux.

    ``niceness``: how far the thread stands back behind the others of the process. Its OpenMP threads inherit both.
    """

    def named() -> None:
        with suppress(OSError, AttributeError):  # elsewhere threads have neither
            thread = threading.get_native_id()
            Path(f"/proc/self/task/{thread}/comm").write_text(name)
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + niceness)
        run()

    thread = threading.Thread(target=named, name=name, daemon=True)
    thread.start()
    return thread
