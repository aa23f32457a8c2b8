"""``dynmm compress``: what it prints, measures and refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dynmm_framework.cli.app import build_cli
from dynmm_framework.engine.results import Run

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small_pipeline) -> Path:
    """A folder with a run of a backbone and a baseline."""
    folder = tmp_path_factory.mktemp("runs")
    backbone = "{name: bpr_mf, config: {dim: 7, epochs: 3}}"
    overrides = ("baseline=item_knn", f"evaluate.compare_with=[{backbone}]", "evaluate.at=[10]")
    words = ["run", str(small_pipeline), *overrides, "--runs", str(folder)]
    result = CliRunner().invoke(build_cli(), words)
    assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture
def words(runs) -> tuple[object, ...]:
    return ("compress", "small", "--runs", runs, "--recommender", "bpr_mf")


def test_what_is_measured_before_is_what_the_run_measured(dynmm, json_of, runs, words):
    document = json_of(dynmm(*words, "--json"))
    assert (document["items"], document["dim"]) == (30, 8)
    rows = document["rows"]
    assert [row["ratio"] for row in rows] == [1, 4, 8, 16, 32]
    run = Run.load(next(runs.glob("small-*")))
    measured = run.metrics["recommenders"]["bpr_mf"]["full"]["ndcg@10"]
    for row in rows:
        assert row["ndcg_before"] == pytest.approx(measured["mean"], abs=1e-6)
        assert row["recall_reranked"] >= row["recall"]
        assert row["recall_reranked"] == 1  # all 30 items are scored again
    assert rows[0]["ndcg_after"] == rows[0]["ndcg_before"]
    assert [row["compression"] for row in rows] == ["none", "sq8", "sq4", "sq4", "sq4"]
    assert [row["scalar_instead"] for row in rows] == [False, False, True, True, True]
    assert rows[1]["bytes_before"] == 30 * 8 * 4


def test_the_table_marks_scalar_quantisation_in_place_of_product(dynmm, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # a narrow terminal wraps the table
    result = dynmm(*words, "--ratio", "16", "--kind", "opq", "--users", "9")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == ("bpr_mf, seed 7: 30 items of width 8, 9 test users, best 50 re-ranked")
    assert lines[3].split()[:2] == ["none", "1×"]
    assert lines[4].split()[:2] == ["sq4*", "16×"]
    assert lines[5].startswith("* ratio 16: 30 vectors are too few to train product quantisation")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--recommender", "item_knn"], "With vectors, this run has: bpr_mf."),
        (["--seed", "3"], "has no model seed 3"),
        (["--kind", "sq8", "--ratio", "16"], "sq8 makes vectors 4 times smaller, never 16"),
        (["--ratio", "5"], "'5' is not one of"),
        (["--kind", "zip"], "'zip' is not one of"),
    ],
)
def test_compress_refuses_with_one_clear_error(dynmm, words, more, message):
    result = dynmm(*words, *more)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_without_faiss_the_error_names_the_package(dynmm, words, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    result = dynmm(*words)
    assert result.exit_code == 2
    assert "pip install faiss-cpu" in result.stderr
