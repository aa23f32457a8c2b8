"""The table of prompts: what they hold, cost and bring, on the page, in words and as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fake_run import write_fake_run

from dynmm_framework.cli.app import build_cli
from dynmm_framework.engine.metrics import PromptResults
from dynmm_framework.engine.prompts import over_seeds
from dynmm_framework.engine.results import Run
from dynmm_framework.errors import ArtifactError
from dynmm_framework.reports.page import render
from dynmm_framework.reports.prompts import prompt_table

LONG, SHORT = "soft_prompt", "soft_prompt-l_20_e_8"
SKILL = {LONG: 0.45, "sasrec": 0.2, SHORT: 0.4}


def told(history: int = 50, evidence: int = 16, **changed: Any) -> dict[str, Any]:
    return {
        "soft_tokens": {"history": history, "evidence": evidence},
        "tokens_of_a_prompt": {"system": 12.0, "history": float(history), "evidence": evidence},
        "batch": 16,
        "seconds_a_batch": 0.2 * history,
        "validation_targets": 100,
        "gamma": 0.0,
        "ndcg_before": 0.328,
        "ndcg_held_out": 0.3135,
        "ndcg_alone": 0.31,
        "standard_error_of_the_gain": 0.0551,
        **changed,
    }


def write(folder: Path, prompts: dict[str, Any]) -> Run:
    write_fake_run(folder, skill=SKILL)
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps({**metrics, "prompts": prompts}))
    return Run.load(folder)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return write(tmp_path / "run", {LONG: told(), SHORT: told(20, 8, gamma=1.25)})


def test_the_shortest_prompt_comes_first_with_what_it_costs_and_brings(run: Run) -> None:
    table = prompt_table([run])
    assert [row.recommender for row in table.rows] == [SHORT, LONG]
    first = table.rows[0]
    assert (first.history, first.evidence, first.tokens) == (20, 8, 40.0)
    assert first.seconds_a_batch == pytest.approx(4.0)
    assert first.test == run.metrics["recommenders"][SHORT]["full"]["ndcg@10"]["mean"]
    assert table.protocol == "full"
    assert table.metric == "ndcg@10"
    cells = [dict(zip(table.columns, row, strict=True)) for row in table.cells()]
    assert cells[0] == {
        "prompt": SHORT, "L": "20", "E": "8", "tokens": "40", "s/batch": "4", "without": "0.3280",
        "with": "0.3135", "± s.e.": "0.0551", "alone": "0.3100", "γ": "1.25",
        "test": f"{first.test:.4f}",
    }  # fmt: skip
    assert "16 prompts" in table.reading
    other = prompt_table([run], protocol="sampled:100")
    assert other.rows[0].test != first.test
    assert "among 100 sampled negatives" in other.title


def test_a_control_without_a_prompt_has_no_length(tmp_path: Path) -> None:
    control = told(tokens_of_a_prompt={}, soft_tokens={"history": 0, "evidence": 0})
    table = prompt_table([write(tmp_path / "run", {LONG: told(), SHORT: control})])
    assert [row.tokens for row in table.rows] == [None, 78.0]
    assert next(iter(table.cells()))[1:4] == ("–", "–", "–")


def test_several_runs_stand_in_one_table(run: Run, tmp_path: Path) -> None:
    other = write(tmp_path / "other", {LONG: told(80, 32)})
    without = Run.load(write_fake_run(tmp_path / "third"))
    table = prompt_table([run, other, without])
    assert [row.recommender for row in table.rows] == [
        f"run/{SHORT}", f"run/{LONG}", f"other/{LONG}",
    ]  # fmt: skip
    assert table.notes == ("the run third tells of no prompt",)


def test_a_run_without_prompts_says_so(run: Run, tmp_path: Path) -> None:
    without = Run.load(write_fake_run(tmp_path / "third"))
    with pytest.raises(ArtifactError, match="no prompt told what it costs in third\n  Name a run"):
        prompt_table([without])
    with pytest.raises(ArtifactError, match=r"has no protocol 'sampled:9'\n  It has: full, samp"):
        prompt_table([run], protocol="sampled:9")


def test_the_command_prints_the_table_and_the_page_has_it(run: Run, tmp_path: Path) -> None:
    words = ["report", str(run.folder), "--table", "prompts"]
    result = CliRunner().invoke(build_cli(), words)
    assert result.exit_code == 0, result.stderr
    assert "s/batch" in result.stdout
    assert "0.3135" in result.stdout
    document = json.loads(CliRunner().invoke(build_cli(), [*words, "--json"]).stdout)
    assert [row["history"] for row in document["rows"]] == [20, 50]
    page = render(run)
    assert '<section id="prompts">' in page
    assert "<td>0.3135</td>" in page
    assert 'id="prompts"' not in render(Run.load(write_fake_run(tmp_path / "third")))


def test_seeds_are_averaged_and_their_users_counted() -> None:
    one = told(seconds_a_batch=2.0, ndcg_before=0.2, gamma=1.0)
    two = told(seconds_a_batch=4.0, ndcg_before=0.4, gamma=0.0, added_to="retrieval")
    two["tokens_of_a_prompt"] = {"system": 14.0, "history": 40.0}
    found = over_seeds([one, two])
    assert isinstance(found, PromptResults)
    assert found.tokens_of_a_prompt == {"system": 13.0, "history": 45.0, "evidence": 8.0}
    assert found.seconds_a_batch == 3.0
    assert found.ndcg_before == pytest.approx(0.3)
    assert found.gamma == 0.5
    assert found.validation_targets == 200
    assert found.soft_tokens == {"history": 50, "evidence": 16}
