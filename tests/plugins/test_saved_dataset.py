"""In-memory data in a pipeline: saved, then named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from dynmm_framework.config.load import load_pipeline
from dynmm_framework.data.tables import Dataset
from dynmm_framework.engine.run import run
from dynmm_framework.errors import ArtifactError, DataError


def pipeline(folder):
    return load_pipeline(
        {
            "version": 1,
            "data": {"name": "saved_dataset", "config": {"path": str(folder)}},
            "split": {"strategy": "leave_one_out"},
            "baseline": "popularity",
        }
    )


@pytest.mark.parametrize("library", [pd, pl])
def test_a_frame_becomes_a_run(library, tmp_path):
    rng = np.random.default_rng(0)
    frame = library.DataFrame(
        {
            "uid": np.repeat(np.arange(20), 5),
            "item": np.concatenate([rng.permutation(12)[:5] for _ in range(20)]),
            "timestamp": np.arange(100),
        }
    )
    make = Dataset.from_pandas if library is pd else Dataset.from_polars
    folder = make(frame, name="mine", columns={"user": "uid"}).save(tmp_path / "mine")
    found = run(pipeline(folder), runs_dir=tmp_path / "runs")
    assert found.metrics["users"]["full"] == 20
    assert found.dataset.name == "mine"


def test_saving_again_replaces_and_changes_the_run(dynmm_dataset, tmp_path):
    folder = dynmm_dataset.save(tmp_path / "data")
    first = run(pipeline(folder), runs_dir=tmp_path / "runs")
    fewer = Dataset.from_arrow({"user": [1, 1, 1, 2, 2, 2], "item": [1, 2, 3, 1, 2, 3]})
    fewer.save(folder)
    second = run(pipeline(folder), runs_dir=tmp_path / "runs")
    assert first.id != second.id
    assert second.dataset.n_users == 2
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_folder_of_something_else_is_left_alone(dynmm_dataset, tmp_path):
    (tmp_path / "precious.txt").write_text("keep me")
    with pytest.raises(ArtifactError, match="it exists and is no saved dataset"):
        dynmm_dataset.save(tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "keep me"


def test_a_folder_without_a_dataset_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match=r"dataset\.json"):
        run(pipeline(tmp_path / "nowhere"), runs_dir=tmp_path / "runs")
