"""Searches over toys on generated data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from search_toys import toys_catalogue

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.config.load import LoadedPipeline, load_pipeline
from dynmm_framework.testing import generate_dataset


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small dataset; searches share nothing else."""
    folder = tmp_path_factory.mktemp("search")
    generate_dataset(folder / "media", n_users=60, n_items=40).save(folder / "data")
    return folder


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return toys_catalogue()


@pytest.fixture
def settings(saved: Path) -> dict[str, Any]:
    return {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(saved / "data")}},
        "split": {"strategy": "leave_one_out"},
        "baseline": {"name": "toy"},
        "evaluate": {"at": [10]},
        "compute": {"device": "cpu", "threads": 1},
        "search": {
            "engine": "local",
            "trials": 4,
            "space": {"baseline.config.quality": {"float": {"low": 0.0, "high": 1.0}}},
        },
    }


@pytest.fixture
def load(settings: dict[str, Any], catalogue: Catalogue) -> Callable[..., LoadedPipeline]:
    """Loads the pipeline; keywords change the search, ``config`` the toy, ``blocks`` the rest."""

    def load(*, config: Any = None, blocks: Any = None, **search: Any) -> LoadedPipeline:
        changed = {**settings, **(blocks or {})}
        changed["search"] = {**settings["search"], **search}
        if config is not None:
            changed["baseline"] = {"name": "toy", "config": config}
        kept = {key: value for key, value in changed.items() if value is not None}
        return load_pipeline(kept, catalogue=catalogue)

    return load
