"""Fixtures of the catalogue's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from on_disk import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv("DYNMM_PLUGINS", raising=False)
    monkeypatch.delenv("DYNMM_STRICT_PLUGINS", raising=False)
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder, monkeypatch)
