"""``dynmm stream``: the run's own stream, events from files and pipes, and going on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dynmm_framework.cli.app import build_cli
from dynmm_framework.testing import generate_dataset

PIPELINE = """
version: 1
data: {{name: saved_dataset, config: {{path: "{data}"}}}}
split: {{strategy: streaming}}
backbone: {{name: bpr_mf, config: {{epochs: 2, dim: 8}}}}
online:
  name: gated_mlp
  config: {{window: 80, steps: 1, hidden: 8, replay: 20}}
  controls: false
  baselines: false
evaluate: {{at: [10]}}
compute: {{device: cpu, threads: 1}}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    generate_dataset(n_users=80, n_items=48).save(folder / "data")
    (folder / "small.yaml").write_text(PIPELINE.format(data=folder / "data"))
    words = ["run", str(folder / "small.yaml"), "--runs", str(folder)]
    result = CliRunner().invoke(build_cli(), words)
    assert result.exit_code == 0, result.stderr
    assert "The stream:" in result.stdout
    return folder


@pytest.fixture
def lines() -> list[str]:
    """Events after the run's data, some of which cannot be used."""
    events: list[Any] = [
        {"user": f"n{n % 17}", "item": f"i{n * 7 % 48}", "time": 2_000_000_000 + n}
        for n in range(260)
    ]
    found = [json.dumps(event) for event in events]
    found[30] = "broken"
    found[40] = json.dumps({"user": "n1", "item": "no such item", "time": 2_000_000_040})
    return found


def invoke(runs: Path, *words: str, given: str | None = None) -> Any:
    arguments = ["stream", "small", "--runs", str(runs), *words]
    return CliRunner().invoke(build_cli(), arguments, input=given)


def test_the_runs_own_stream_is_shown_window_by_window(runs: Path):
    result = invoke(runs, "--compare", "adapter,static,retrain")
    assert result.exit_code == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0][:6] == ["window", "events", "hit@10", "ndcg@10", "strength", "popularity"]
    assert all(0 <= float(cell) <= 1 for row in rows[1:5] for cell in row[4:6])
    assert [row[0] for row in rows[1:5]] == ["1", "2", "3", "4"]
    assert [row[0] for row in rows[-3:]] == ["adapter", "static", "retrain"]


def test_the_adapter_meets_it_without_each_of_its_parts(runs: Path):
    words = ("--compare", "adapter", "--ablations", "--windows", "2", "--json")
    told = json.loads(invoke(runs, *words).stdout)
    names = list(told["means"])
    assert names[0] == "adapter"
    assert {"without_replay", "without_gate", "paper"} < set(names)
    assert set(told["retained"]) == set(told["retained_as_present"]) == set(names)
    assert set(told["seconds"]) == set(names)
    assert 0 <= told["windows"][0]["served"]["adapter"]["popularity"] <= 1
    result = invoke(runs, "--windows", "1")
    assert "of which nothing is learned" in result.stdout


def test_a_stream_that_stopped_goes_on_with_the_next_event(runs: Path, tmp_path: Path):
    whole = json.loads(invoke(runs, "--json").stdout)
    words = ("--checkpoint", str(tmp_path / "s.safetensors"), "--checkpoint-every", "1")
    first = json.loads(invoke(runs, *words, "--windows", "2", "--json").stdout)
    assert len(first["windows"]) == 2
    rest = json.loads(invoke(runs, *words, "--resume", "--json").stdout)
    assert rest["state"] == whole["state"]
    assert rest["means"] == whole["means"]
    assert rest["windows"] == whole["windows"]


def test_events_come_from_a_file_or_a_pipe(runs: Path, lines: list[str], tmp_path: Path):
    text = "\n".join(lines) + "\n"
    (tmp_path / "events.jsonl").write_text(text)
    by_file = json.loads(
        invoke(runs, "--from-file", str(tmp_path / "events.jsonl"), "--json").stdout
    )
    by_pipe = json.loads(invoke(runs, "--from-file", "-", "--json", given=text).stdout)
    assert by_file == by_pipe
    assert by_file["events"] == 260
    assert by_file["skipped"] == {"malformed": 1, "unknown item": 1}


def test_a_pipe_that_broke_is_taken_up_again(runs: Path, lines: list[str], tmp_path: Path):
    def words(name: str) -> tuple[str, ...]:
        return ("--from-file", "-", "--checkpoint", str(tmp_path / name), "--checkpoint-every", "1")

    text = "\n".join(lines) + "\n"
    whole = json.loads(invoke(runs, *words("a"), "--json", given=text).stdout)
    invoke(runs, *words("b"), "--windows", "1", given=text)  # ends with the window, as by a kill
    rest = json.loads(invoke(runs, *words("b"), "--resume", "--json", given=text).stdout)
    assert rest == whole


def test_what_a_checkpoint_cannot_go_on_from_is_said(runs: Path, lines: list[str], tmp_path: Path):
    text = "\n".join(lines) + "\n"
    path = tmp_path / "s.safetensors"
    words = ("--from-file", "-", "--checkpoint", str(path), "--resume")
    nothing = invoke(runs, *words, given=text)
    assert nothing.exit_code == 0
    assert f"There is no checkpoint {path}" in nothing.stderr
    first = invoke(runs, *words, "--checkpoint-every", "1", given=text)
    assert "wait in the open window for what comes next" in first.stdout
    short = invoke(runs, *words, given=lines[0] + "\n")
    assert short.exit_code == 2
    assert "ends after 1 of the 260 events" in short.stderr
    table = invoke(runs, "--from-file", "-", given="user,item\n1,2\n")
    assert "A line is {" in table.stderr


def test_what_cannot_be_is_refused(runs: Path, tmp_path: Path):
    both = invoke(runs, "--from-file", "-", "--compare", "static", given="")
    assert both.exit_code == 2
    assert "--compare is for the run's own stream" in both.stderr
    both = invoke(runs, "--from-file", "-", "--ablations", given="")
    assert "--ablations is for the run's own stream" in both.stderr
    missing = invoke(runs, "--from-file", str(tmp_path / "nothing.jsonl"))
    assert missing.exit_code == 2
    assert "nothing.jsonl" in missing.stderr
    unknown = invoke(runs, "--compare", "adaptor")
    assert unknown.exit_code == 2
    assert "there is no strategy adaptor" in unknown.stderr
