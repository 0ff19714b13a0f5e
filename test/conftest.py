"""Fixtures for every test."""

from __future__ import annotations

import lift_ros  # noqa: F401  isort: skip  sets how OpenMP waits, before torch loads

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

CAPTURES = Path(os.environ.get("LIFT_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    """Tests give the same numbers and leave room for each other on small machines."""
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def captured() -> Callable[[str], Path]:
    """``captured(name)``: an optional capture in LIFT_TEST_DATA; where it is absent the test is skipped."""

    def find(name: str) -> Path:
        path = CAPTURES / name
        if not path.is_dir():
            pytest.skip(f"needs the capture {name} in LIFT_TEST_DATA")
        return path

    return find


@pytest.fixture(scope="session")
def demo_room(tmp_path_factory):
    """``lift_ros.demo.generate.Demo``: 8 small frames of a generated room, as capture and as bag; read only."""
    pytest.importorskip("embreex", reason="needs the demo extra")
    from lift_ros.demo.generate import generate

    out = tmp_path_factory.mktemp("demo_room")
    return generate(out, frames=8, size=(160, 120), objects=5, rate=3.0, mask_level="L0")
