"""Fixtures for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    """Tests give the same numbers and leave room for each other on small machines."""
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of optional captures beside the checkout; tests that use it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the captures in {SHARED_DATA}")
    return SHARED_DATA
