"""``dynmm vectors``: where it writes, what it prints, what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dynmm_framework.artifacts.arrays import load_arrays
from dynmm_framework.cli.app import build_cli


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small_pipeline) -> Path:
    """A folder with a run of a backbone and a baseline."""
    folder = tmp_path_factory.mktemp("runs")
    backbone = "{name: bpr_mf, config: {dim: 4, epochs: 2}}"
    overrides = ("baseline=item_knn", f"evaluate.compare_with=[{backbone}]", "evaluate.at=[5]")
    words = ["run", str(small_pipeline), *overrides, "--runs", str(folder)]
    result = CliRunner().invoke(build_cli(), words)
    assert result.exit_code == 0, result.stderr
    return folder


def test_vectors_are_written_into_the_run_or_where_one_says(dynmm, json_of, runs, tmp_path):
    words = ("vectors", "small", "--runs", runs, "--recommender", "bpr_mf")
    result = dynmm(*words)
    assert result.exit_code == 0, result.stderr
    (folder,) = runs.glob("*/vectors/bpr_mf-seed-7")
    lines = result.stdout.splitlines()
    assert lines[-1] == f"Vectors: {folder}"
    assert [line.split() for line in lines[2:4]] == [["items", "30", "5"], ["users", "40", "5"]]
    arrays = load_arrays(folder / "vectors.safetensors")
    ids = pq.read_table(folder / "users.parquet")["id"].to_pylist()
    assert arrays["users"].shape == (len(ids), 5)
    assert set(ids) == {f"u{user}" for user in range(40)}
    document = json_of(
        dynmm(*words, "--part", "items", "--format", "npy", "-o", tmp_path / "out", "--json")
    )
    assert document["folder"] == str(tmp_path / "out")
    assert document["recommender"] == "bpr_mf"
    assert document["items"] == 30
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "items.npy"), arrays["items"])


def test_vectors_are_replaced_with_force_alone(dynmm, runs, tmp_path):
    words = ("vectors", "small", "--runs", runs, "--recommender", "bpr_mf", "-o", tmp_path / "out")
    assert dynmm(*words).exit_code == 0
    result = dynmm(*words, "--format", "parquet")
    assert result.exit_code == 2
    assert "holds vectors already" in result.stderr
    assert "--force" in result.stderr
    assert dynmm(*words, "--format", "parquet", "--force").exit_code == 0
    assert not (tmp_path / "out" / "vectors.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "item_knn of run small-"),
        ([], "With vectors, this run has: bpr_mf."),
        (["--recommender", "bpr"], "no recommender 'bpr'; did you mean bpr_mf?"),
        (["--recommender", "bpr_mf", "--seed", "3"], "has no model seed 3"),
        (["--recommender", "bpr_mf", "-o", "v.npy"], "they are several files"),
        (["--format", "csv"], "csv"),
    ],
)
def test_vectors_refuses_with_one_clear_error(dynmm, runs, words, message):
    result = dynmm("vectors", "small", "--runs", runs, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stdout == ""
