"""``dynmm tune`` on the command line: what it prints, writes and refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SEARCH = """\
extends: {base}
search:
  engine: local
  trials: 3
  space:
    baseline.config.neighbours: [5, 20]
    baseline.config.decay: {{float: {{low: 0.5, high: 1.0}}}}
"""


@pytest.fixture
def pipeline(small_pipeline: Path, tmp_path: Path) -> Path:
    path = tmp_path / "found.yaml"
    path.write_text(SEARCH.format(base=small_pipeline), encoding="utf-8")
    return path


def test_a_search_prints_its_best_and_dynmm_run_takes_it(
    dynmm: Callable, pipeline: Path, json_of: Callable
):
    done = dynmm("tune", pipeline)
    assert done.exit_code == 0, done.stderr
    assert "3 finished trials in" in done.stdout
    assert "baseline.config.decay" in done.stdout
    assert "On test users, whom no trial saw: ndcg@10" in done.stdout
    assert "Trials run one after another in this process" in done.stderr
    assert "trial 3 finished ndcg@10" in done.stderr
    (best,) = Path("runs").glob("found-search-*/best.yaml")
    assert f"Best pipeline: {best}" in done.stdout
    again = json_of(dynmm("run", best, "--json"))
    assert again["metrics"]["recommenders"]["item_knn"]["full"]["ndcg@10"]
    more = json_of(dynmm("tune", pipeline, "--resume", "--trials", "4", "--json"))
    assert more["trials"] == {"finished": 4}
    assert more["best"]["metrics"]["ndcg@10"] > 0
    assert Path(more["report"]).is_file()


def test_a_run_says_that_it_leaves_the_search_aside(dynmm: Callable, pipeline: Path):
    done = dynmm("run", pipeline)
    assert done.exit_code == 0
    assert f"The search block is left aside; dynmm tune {pipeline} searches." in done.stderr


def test_mistakes_are_one_error_before_anything_starts(
    dynmm: Callable, pipeline: Path, small_pipeline: Path
):
    done = dynmm("tune", small_pipeline)
    assert done.exit_code == 2
    assert f"Error: {small_pipeline}: there is no search block" in done.stderr
    done = dynmm("tune", pipeline, "search.trials=0", "search.metric=bleu@5")
    assert done.exit_code == 2
    assert "search.trials: must be at least 1, not 0" in done.stderr
    assert "search.metric: no stage reports bleu@5" in done.stderr
    assert dynmm("tune", pipeline, "--trials", "0").exit_code == 2
    done = dynmm("tune", pipeline, "--address", "127.0.0.1:1")
    assert done.exit_code == 2
    assert "address: 127.0.0.1:1 needs engine: ray" in done.stderr
    done = dynmm("tune", pipeline, "--resume")
    assert done.exit_code == 2
    assert "there is no search to resume" in done.stderr
    dynmm("tune", pipeline, "-q", "--no-test")
    done = dynmm("tune", pipeline)
    assert done.exit_code == 2
    assert "holds this search already, with 3 trials (finished)" in done.stderr
