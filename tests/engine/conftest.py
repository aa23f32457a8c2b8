"""A pipeline over generated data in a file, small enough for every test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest

from dynmm_framework.config.load import LoadedPipeline, load_pipeline
from dynmm_framework.testing import generate_dataset


@pytest.fixture(scope="session")
def interactions_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset = generate_dataset(n_users=60, n_items=60)
    path = tmp_path_factory.mktemp("data") / "interactions.csv"
    table = dataset.interactions
    columns = {
        "user": dataset.users["id"].take(pa.array(table.users)),
        "item": dataset.items["id"].take(pa.array(table.items)),
        "timestamp": table.timestamps,
        "rating": table.ratings,
    }
    pyarrow.csv.write_csv(pa.table(columns), path)
    return path


@pytest.fixture
def tiny_sasrec() -> dict[str, Any]:
    config = {"hidden_size": 16, "layers": 1, "heads": 1, "max_length": 10, "epochs": 3}
    return {"name": "sasrec", "config": config}


@pytest.fixture
def settings(interactions_file: Path) -> dict[str, Any]:
    return {
        "version": 1,
        "data": {"name": "interaction_file", "config": {"path": str(interactions_file)}},
        "split": {"strategy": "leave_one_out"},
        "baseline": {"name": "popularity"},
        "evaluate": {"protocols": ["full", {"sampled": 10}], "compare_with": ["item_knn"]},
    }


@pytest.fixture
def load(settings: dict[str, Any]) -> Callable[..., LoadedPipeline]:
    """Loads the pipeline with top-level blocks replaced (``None`` removes one)."""

    def load(**blocks: Any) -> LoadedPipeline:
        changed = {**settings, **blocks}
        return load_pipeline({key: value for key, value in changed.items() if value is not None})

    return load
