"""Threads of the node, under names and priorities that the system knows."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


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
