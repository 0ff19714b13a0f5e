"""Threads of the node, under names that the system shows as well."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def start_thread(name: str, run: Callable[[], None]) -> threading.Thread:
    """Start ``run`` in a daemon thread called ``name``, in ``top -H`` and /proc too; its OpenMP threads inherit it."""

    def named() -> None:
        with suppress(OSError):  # only Linux has /proc
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)
        run()

    thread = threading.Thread(target=named, name=name, daemon=True)
    thread.start()
    return thread
