"""``dynmm explain``: sentences, evidence, claims, and what is said when there are none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dynmm_framework.cli.app import build_cli
from dynmm_framework.testing import generate_dataset

PIPELINE = """
version: 1
data: {{name: saved_dataset, config: {{path: "{data}"}}}}
split: {{strategy: leave_one_out}}
backbone: {{name: bpr_mf, config: {{epochs: 2, dim: 8}}}}
evidence: [cf_neighbours, trend]
evaluate: {{at: [10]}}
compute: {{device: cpu, threads: 1}}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    generate_dataset(n_users=60, n_items=48).save(folder / "data")
    (folder / "small.yaml").write_text(PIPELINE.format(data=folder / "data"))
    words = ["run", str(folder / "small.yaml"), "--runs", str(folder)]
    result = CliRunner().invoke(build_cli(), words)
    assert result.exit_code == 0, result.stderr
    return folder


def invoke(runs: Path, *words: str) -> Any:
    return CliRunner().invoke(build_cli(), ["explain", "small", "--runs", str(runs), *words])


def told(runs: Path, *words: str) -> list[dict[str, Any]]:
    result = invoke(runs, *words, "--json")
    assert result.exit_code == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)["explanations"]
    return found


def test_sentence_evidence_and_claims_are_shown(runs: Path):
    (best,) = told(runs, "--user", "u3", "-k", "1")
    result = invoke(runs, "--user", "u3", "-k", "1")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"1. {best['title']}  item {best['item']}, score ")
    assert lines[1] == best["sentence"]
    assert re.split(r" {2,}", lines[2].strip()) == [
        "id", "evidence", "found by", "strength", "said in the sentence",
    ]  # fmt: skip
    for record in best["evidence"]:
        (line,) = [text for text in lines if text.startswith(f"{record['id']} ")]
        assert record["extractor"] in line


def test_an_item_is_explained_by_name(runs: Path):
    third = told(runs, "--user", "u3")[2]
    (found,) = told(runs, "--user", "u3", "--item", third["item"])
    assert (found["item"], found["rank"]) == (third["item"], 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--user", "nobody"], "has no user 'nobody'"),
        (["--user", "u3", "--item", "nothing"], "has no item 'nothing'"),
        ([], "Missing option '--user'"),
        (["--user", "u3", "--seed", "99"], "has no model seed 99"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(runs: Path, words: list[str], message: str):
    result = invoke(runs, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_run_without_evidence_says_what_to_add(runs: Path):
    (runs / "bare.yaml").write_text(
        PIPELINE.format(data=runs / "data").replace("evidence: [cf_neighbours, trend]\n", "")
    )
    words = ["run", str(runs / "bare.yaml"), "--runs", str(runs)]
    assert CliRunner().invoke(build_cli(), words).exit_code == 0
    asked = ["explain", "bare", "--user", "u3", "--runs", str(runs)]
    result = CliRunner().invoke(build_cli(), asked)
    assert result.exit_code == 2
    assert "evidence: [cf_neighbours, trend]" in result.stderr


def test_what_is_known_of_the_user_is_chosen(runs: Path):
    everything, before = told(runs, "--user", "u3"), told(runs, "--user", "u3", "--known", "test")
    assert [e["item"] for e in everything] == [
        e["item"] for e in told(runs, "--user", "u3", "--known", "all")
    ]
    assert everything != before
    shown = invoke(runs, "--user", "u3", "--known", "test")
    assert shown.stdout.splitlines()[1] == before[0]["sentence"]
    assert invoke(runs, "--user", "u3", "--known", "tomorrow").exit_code == 2
