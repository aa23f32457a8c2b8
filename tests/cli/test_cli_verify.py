"""``dynmm registry verify`` for numbers, and files from a folder of the user's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy_registry import sequences, write_component, write_registry

from dynmm_framework.catalogue import Catalogue


@pytest.fixture
def toy(tmp_path: Path, dynmm, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write_registry(tmp_path / "records")
    monkeypatch.setattr(Catalogue, "record_folders", lambda _: (folder,))
    (tmp_path / "mine" / "below").mkdir(parents=True)
    (tmp_path / "mine" / "below" / "toy.txt").write_bytes(sequences())
    return folder


def test_numbers_are_shown_with_verdicts_source_and_command(dynmm, toy):
    note = ", note: as a test wants it"
    numbers = [("full", "hit@10", 0.001), ("sampled:5", "hit@5", 1.5)]
    write_component(toy, "popularity", *numbers, more=note)
    result = dynmm("registry", "verify", "popularity", "--data", "mine", "--threads", "1")
    assert result.exit_code == 1, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "toy, on toy"
    head = ["recommender", "protocol", "metric", "published", "ours", "difference", "verdict"]
    assert lines[1].split() == head
    assert lines[3].split()[:4] == ["popularity", "full", "Hit@10", "0.0010"]
    assert lines[3].split()[-1] == "exceeded"
    assert lines[4].split()[:3] == ["popularity", "sampled:5", "Hit@5"]
    assert lines[4].split()[-1] == "missed"
    assert "Published: somebody 2020" in lines
    assert "Note: as a test wants it" in lines
    assert any(line.startswith("Command: dynmm registry verify toy (") for line in lines)
    assert any(line.startswith("Report: runs/toy-") for line in lines)
    assert lines[-1] == "2 numbers: 1 exceeded, 1 missed."
    assert "taking dataset toy from mine" in result.stderr
    assert "fit/popularity/seed-7" in result.stderr
    again = dynmm("registry", "verify", "pipeline/toy")
    assert again.exit_code == 1
    assert again.stdout == result.stdout
    assert "stages cached" in again.stderr


def test_numbers_as_json(dynmm, json_of, toy):
    write_component(toy, "popularity", ("full", "hit@10", 0.001), more=", published: false")
    document = json_of(dynmm("registry", "verify", "--all", "--data", "mine", "--json"))
    (row,) = document
    assert row["record"] == "component/popularity"
    assert row["status"] == "exceeded"
    assert row["published"] is False
    assert row["value"] == 0.001
    assert row["difference"] == pytest.approx(row["ours"] / 0.001 - 1)
    assert Path(row["run"], "manifest.json").is_file()
    both = dynmm("registry", "verify", "dataset/toy", "popularity", "--json")
    assert [row["status"] for row in json.loads(both.stdout)] == ["ok", "exceeded"]
    head = dynmm("registry", "verify", "popularity").stdout.splitlines()[1].split()
    assert head[3] == "recorded"


def test_without_names_files_are_verified_and_nothing_runs(dynmm, json_of, toy):
    write_component(toy, "popularity", ("full", "hit@10", 0.001))
    rows = json_of(dynmm("registry", "verify", "--json"))
    assert [(row["record"], row["status"]) for row in rows] == [("dataset/toy", "absent")]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy"], "Write dataset/toy or pipeline/toy."),
        (["ease"], "no numbers of component ease, so there is nothing to verify"),
        (["popularty"], "did you mean popularity?"),
        (["--all", "popularity"], "give names, or --all for every number"),
        (["popularity", "--data", "gone"], "Directory 'gone' does not exist"),
        (["popularity", "--offline"], "dynmm data fetch toy --from FOLDER"),
        (["popularity", "--device", "cdua"], "must be auto, cpu, cuda or cuda:N"),
    ],
)
def test_what_a_user_may_get_wrong(dynmm, toy, arguments, message):
    write_component(toy, "popularity", ("full", "hit@10", 0.001))
    result = dynmm("registry", "verify", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("runs").exists()


def test_data_fetch_takes_files_from_a_folder(dynmm, toy):
    result = dynmm("data", "fetch", "dataset/toy", "--from", "mine")
    assert result.exit_code == 0, result.stderr
    folder = Path(result.stdout.split(": ")[1].strip())
    assert (folder / "toy.txt").read_bytes() == sequences()
    assert "ok" in dynmm("registry", "verify", "dataset/toy").stdout


def test_data_fetch_from_a_folder_never_falls_back_on_the_network(dynmm, toy):
    result = dynmm("data", "fetch", "toy", "--from", "records")
    assert result.exit_code == 2
    assert "dataset toy is not in records: it has no toy.txt" in result.stderr
    Path("mine/below/toy.txt").write_text("1 2 3\n")
    result = dynmm("data", "fetch", "toy", "--from", "mine")
    assert result.exit_code == 2
    assert "mine/below/toy.txt is not toy.txt" in result.stderr
    assert result.stderr.count("SHA-256") == 2
