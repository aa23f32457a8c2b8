"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# pytest-xdist gives every core a process: more threads than that only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output is as wide as in a pipe, whatever terminal, or pytest-xdist, says."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data for development; skips the test if it is absent."""
    folder = Path(os.environ.get("DYNMM_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set DYNMM_DATA")
    return folder
