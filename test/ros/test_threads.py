"""Threads as the system sees them."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from lift_ros.ros.threads import start_thread


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have neither names nor priorities")
def test_a_thread_has_its_name_and_stands_back_alone():
    seen = []

    def look() -> None:
        thread = threading.get_native_id()
        name = Path(f"/proc/self/task/{thread}/comm").read_text().strip()
        seen.append((name, os.getpriority(os.PRIO_PROCESS, thread)))

    before = os.getpriority(os.PRIO_PROCESS, 0)
    start_thread("mapper", look, niceness=3).join()
    assert seen == [("mapper", min(before + 3, 19))]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
