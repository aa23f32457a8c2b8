"""Fixtures of the configuration's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from fake_components import Plugin

from dynmm_framework.catalogue import Catalogue

Write = Callable[..., Path]


@pytest.fixture
def catalogue() -> Catalogue:
    catalogue = Catalogue(strict=True)
    catalogue.register(Plugin(), name="fake", distribution="fakes", version="1.2")
    return catalogue


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file into the working folder, so that messages hold its bare name."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "pipeline.yaml") -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
        return path

    return write
