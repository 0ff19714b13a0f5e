"""Memory of this process, and of one that it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lift_ros.evaluation import memory
from lift_ros.evaluation.memory import peak_memory


def test_memory_is_that_of_the_process_alone():
    """Not that of the process that started it, from which getrusage begins to count."""
    held = np.ones(600 * 2**20, np.uint8)
    program = "from lift_ros.evaluation.memory import peak_memory as p; import numpy as n; a = p(); "
    program += "x = n.ones(100 * 2**20, n.uint8); print(a, p())"
    root = Path(memory.__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root).stdout
    before, after = map(int, out.split())
    assert before < held.nbytes < peak_memory()
    assert after - before == pytest.approx(100 * 2**20, rel=0.2)
