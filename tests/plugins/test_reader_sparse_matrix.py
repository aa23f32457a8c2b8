"""The reader of sparse matrices, alone and with a given split, features and a recommender."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from reader_samples import ReaderContext

from dynmm_framework.config.load import load_pipeline
from dynmm_framework.engine.run import run
from dynmm_framework.errors import DataError
from dynmm_plugins.sparse_matrix.config import SparseMatrixConfig
from dynmm_plugins.sparse_matrix.reader import SparseMatrix


def save(path: Path, dense: Any) -> Path:
    sp.save_npz(path, sp.coo_matrix(np.asarray(dense)))
    return path


def read(path: Path, **config: Any) -> tuple[Any, ReaderContext]:
    ctx: Any = ReaderContext()
    return SparseMatrix(SparseMatrixConfig(path=str(path), **config)).read(ctx), ctx


def test_columns_are_items_whether_used_or_not(tmp_path: Path) -> None:
    made, ctx = read(save(tmp_path / "clips.npz", [[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]]))
    assert made.name == "clips"
    assert made.items["id"].to_pylist() == ["0", "1", "2", "3"]
    assert made.users["id"].to_pylist() == ["0", "2"]
    assert [items.tolist() for items in map(made.interactions.histories().__getitem__, (0, 1))] == [
        [1, 3],
        [0, 1],
    ]
    assert made.interactions.timestamps is None
    assert ctx.lines[0] == (
        "clips.npz: a matrix has no order, so a user's items stand in the order of their numbers; "
        "models of sequences and splits by time would learn from that"
    )


def test_further_matrices_are_added(tmp_path: Path) -> None:
    one = save(tmp_path / "train.npz", [[1, 0, 0], [0, 1, 0]])
    two = save(tmp_path / "test.npz", [[0, 0, 1], [1, 0, 0]])
    made, _ = read(one, more=[str(two)])
    assert len(made.interactions) == 4
    three = save(tmp_path / "valid.npz", [[0, 0], [1, 0]])
    with pytest.raises(DataError, match="has 2 users × 2 items"):
        read(one, more=[str(three)])


def test_missing_files_are_named_with_their_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / "no.npz", more=[str(tmp_path / "nor.npz")])
    assert "no.npz: does not exist" in str(caught.value)
    assert "nor.npz: does not exist" in str(caught.value)
    assert "data.config.path" in caught.value.hint


def test_a_pipeline_runs_on_matrices_and_rows_of_features(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chosen = rng.random((30, 20)) < 0.4
    part = np.where(chosen, rng.choice(3, (30, 20), p=[0.6, 0.2, 0.2]), -1)
    files = {
        name: str(save(tmp_path / f"{name}.npz", part == code))
        for code, name in enumerate(("train", "valid", "test"))
    }
    np.save(tmp_path / "image.npy", rng.normal(size=(20, 6)).astype(np.float16))
    encoder = {"name": "precomputed", "config": {"path": str(tmp_path / "image.npy")}}
    encoder["config"]["rows"] = "number"
    short = {"epochs": 2, "dim": 4, "feature_dim": 4}
    others = [{"name": "vbpr", "config": short}]
    mapping = {
        "version": 1,
        "data": {"name": "sparse_matrix", "config": {"path": files["train"]}},
        "split": {"strategy": "given", **files},
        "encoders": {"vision": encoder},
        "baseline": {"name": "lattice", "config": short},
        "evaluate": {"at": [5], "compare_with": others, "metrics": ["recall"]},
    }
    done = run(load_pipeline(mapping), runs_dir=tmp_path / "runs")
    assert list(done.metrics["recommenders"]) == ["lattice", "vbpr"]
    assert done.dataset.n_items == 20
    assert len(done.recommend(history=["3", "4"], k=3)) == 3
