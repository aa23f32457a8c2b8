"""The commands on a small dataset of one's own, from validation to recommendations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from dynmm_framework.cli.app import build_cli

FIVE_MISTAKES = """\
version: 1
seeed: 3
data: {name: interaction_file, config: {path: DATA, separator: 3}}
split: {strategy: leave_on_out}
baseline: item_knm
evaluate:
  at: [0]
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small_pipeline) -> Path:
    """A folder with two runs of the small pipeline."""
    folder = tmp_path_factory.mktemp("runs")
    for overrides in ([], ["baseline.config.neighbours=3", "seeds=[1,2]"]):
        words = ["run", str(small_pipeline), *overrides, "--runs", str(folder)]
        result = CliRunner().invoke(build_cli(), words)
        assert result.exit_code == 0, result.stderr
        (line,) = [line for line in result.stdout.splitlines() if line.startswith("Report: ")]
        report = Path(line.removeprefix("Report: "))
        assert report.is_file()
        assert "item_knn" in result.stdout
        assert "NDCG@10" in result.stdout
        assert "rank/item_knn" in result.stderr
    return folder


def ids(runs: Path) -> list[str]:
    return sorted(path.parent.name for path in runs.glob("*/manifest.json"))


def test_validate_prints_one_line_for_each_mistake(dynmm, small_data, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(FIVE_MISTAKES.replace("DATA", str(small_data)), encoding="utf-8")
    result = dynmm("validate", path)
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert len(lines) == 5, result.stdout
    assert [line.removeprefix(f"{path}:").partition(":")[0] for line in lines] == list("23457")
    assert "did you mean item_knn?" in lines[3]
    assert result.stderr == ""


def test_validate_says_ok_and_checks_several_files(dynmm, json_of, small_pipeline, tmp_path):
    assert dynmm("validate", small_pipeline).stdout == f"{small_pipeline}: ok\n"
    result = dynmm("validate", small_pipeline, tmp_path / "absent.yaml")
    assert result.exit_code == 2
    assert result.stdout.splitlines()[0] == f"{small_pipeline}: ok"
    assert "absent.yaml" in result.stdout.splitlines()[1]
    result = dynmm("validate", small_pipeline, "evaluate.att=[5]", "--json")
    assert result.exit_code == 2
    (document,) = json.loads(result.stdout)
    assert not document["ok"]
    assert "did you mean at?" in document["problems"][0]["message"]
    assert dynmm("validate", "seed=1").exit_code == 2


def test_plan_lists_stages_and_what_is_cached(dynmm, json_of, small_pipeline, runs, tmp_path):
    document = json_of(dynmm("plan", small_pipeline, "--runs", tmp_path, "--json"))
    names = [stage["name"] for stage in document["stages"]]
    assert names[:2] == ["data", "split"]
    assert "rank/popularity/seed-7/sampled:5" in names
    assert not any(stage["cached"] for stage in document["stages"])
    assert all(len(stage["key"]) == 64 for stage in document["stages"])
    document = json_of(dynmm("plan", small_pipeline, "--runs", runs, "--json"))
    assert all(stage["cached"] for stage in document["stages"])
    assert document["run"] in ids(runs)
    text = dynmm("plan", small_pipeline, "--runs", tmp_path).stdout
    assert f"{len(names)} of {len(names)} stages to run" in text


def test_plan_names_every_local_file_that_is_missing(dynmm, small_pipeline, small_data):
    split = "split={strategy: given, train: no-train.txt, test: no-test.txt}"
    result = dynmm("plan", small_pipeline, split, "data.config.path=no-data.csv")
    assert result.exit_code == 2
    for name in ("no-data.csv", "no-train.txt", "no-test.txt"):
        assert f"{name}: does not exist" in result.stderr
    result = dynmm("plan", small_pipeline, split)
    assert "no-test.txt: does not exist" in result.stderr
    assert "Check the paths in the split block." in result.stderr
    # A dataset that is not fetched yet is no reason to stay silent about the split's files.
    result = dynmm("plan", small_pipeline, split, "data={name: movielens_100k}")
    assert result.exit_code == 2
    assert "no-train.txt: does not exist" in result.stderr


def test_a_second_run_is_all_cached_and_prints_the_same(dynmm, small_pipeline, runs):
    result = dynmm("run", small_pipeline, "--runs", runs)
    assert result.exit_code == 0
    assert "cached" in result.stderr
    quiet = dynmm("run", small_pipeline, "--runs", runs, "-q")
    assert quiet.stderr == ""
    assert quiet.stdout == result.stdout
    verbose = dynmm("run", small_pipeline, "--runs", runs, "-v")
    assert " … " in verbose.stdout


def test_the_device_is_a_setting_like_any_other(dynmm, json_of, small_pipeline, tmp_path):
    words = ("run", small_pipeline, "evaluate.compare_with=[]", "--runs", tmp_path)
    document = json_of(dynmm(*words, "--device", "cpu", "--json"))
    manifest = json.loads(Path(document["folder"], "manifest.json").read_text(encoding="utf-8"))
    assert manifest["pipeline"]["compute"]["device"] == "cpu"
    assert document["metrics"]["comparisons"] == []


def test_run_prints_json_alone(dynmm, json_of, small_pipeline, runs):
    document = json_of(dynmm("run", small_pipeline, "--runs", runs, "--json"))
    assert Path(document["report"]).is_file()
    assert document["metrics"]["recommenders"]["item_knn"]["full"]["ndcg@10"]["mean"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.yaml"], "absent.yaml"),
        (["PIPELINE", "seed"], "path=value"),
        (["PIPELINE", "--device", "tpu"], "compute.device"),
        (["PIPELINE", "--runs", "PIPELINE"], "is a file"),
        ([], "Missing argument"),
    ],
)
def test_run_refuses_what_it_cannot_do(dynmm, small_pipeline, words, message, tmp_path):
    words = [str(small_pipeline) if word == "PIPELINE" else word for word in words]
    result = dynmm("run", *words, *(() if "--runs" in words else ("--runs", tmp_path / "r")))
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stdout == ""
    assert not list(tmp_path.glob("r/*/manifest.json"))


def test_report_finds_a_run_by_folder_id_or_beginning(dynmm, json_of, runs):
    first = ids(runs)[0]
    report = runs / first / "report.html"
    before = report.read_text(encoding="utf-8")
    report.unlink()
    for name in (first, first[:-2], runs / first, str(runs / first)[:-1], report):
        result = dynmm("report", name, "--runs", runs)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == f"Report: {report}\n"
    assert report.read_text(encoding="utf-8") == before
    assert json_of(dynmm("report", first, "--runs", runs, "--json")) == {"report": str(report)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("small", "several runs in RUNS begin with 'small': FIRST, SECOND"),
        ("smalll", "no run 'smalll' in RUNS"),
        ("x/y", "no run 'y' in x"),
        (".", "no run in .: manifest.json is missing"),
    ],
)
def test_an_unknown_run_is_answered_with_those_that_exist(dynmm, runs, name, message):
    result = dynmm("report", name, "--runs", runs)
    assert result.exit_code == 2
    first, second = ids(runs)
    message = message.replace("RUNS", str(runs)).replace("FIRST", first).replace("SECOND", second)
    assert message in result.stderr


def test_the_beginning_of_an_id_means_the_run_that_finished(dynmm, runs, tmp_path):
    first, second = ids(runs)
    folder = tmp_path / "runs"
    shutil.copytree(runs / first, folder / "small-1a")
    shutil.copytree(runs / second, folder / "small-1b")
    manifest = folder / "small-1b" / "manifest.json"
    document = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({**document, "status": "failed"}), encoding="utf-8")
    result = dynmm("report", "small", "--runs", folder)
    assert result.exit_code == 0, result.stderr
    assert "small-1a" in result.stdout


def test_an_unknown_component_comes_with_the_command_that_installs_it(
    dynmm, small_pipeline, monkeypatch
):
    from dynmm_framework.artifacts.records import Registry

    commands = {"acme_rec": "pip install 'dynmm-acme-rec[torch]'"}
    monkeypatch.setattr(Registry, "install_hint", lambda self, name: commands.get(name))
    result = dynmm("validate", small_pipeline, "baseline=acme_rec")
    assert result.exit_code == 2
    assert "to install it: pip install 'dynmm-acme-rec[torch]'" in result.stdout
    monkeypatch.setenv("DYNMM_PLUGINS", "interaction_file,popularity,ranking_metrics")
    result = dynmm("validate", small_pipeline)
    assert (
        "unknown baseline 'item_knn' (loaded: popularity; DYNMM_PLUGINS leaves out" in result.stdout
    )
    assert "readers and metrics too: add item_knn to it)" in result.stdout
    monkeypatch.setenv("DYNMM_PLUGINS", "interaction_file,popularity,item_knn")
    result = dynmm("validate", small_pipeline)
    assert "unknown metric 'hit' (loaded: none; DYNMM_PLUGINS leaves out" in result.stdout
    assert "readers and metrics too: add the one that has it, or unset it)" in result.stdout


def test_compare_shows_numbers_differences_and_tests(dynmm, json_of, runs):
    first, second = ids(runs)
    words = ("compare", first, second, "--runs", runs, "--metric", "ndcg@10")
    text = dynmm(*words, "--protocol", "full").stdout
    assert f"A = {runs / first}" in text
    assert "baseline.config.neighbours" in text
    assert "B item_knn" in text
    assert "sampled" not in text.partition("Full ranking")[2]
    document = json_of(dynmm(*words, "--json"))
    assert set(document["recommenders"]) >= {"A item_knn", "B item_knn", "B popularity"}
    tested = {(test["protocol"], test["b"]) for test in document["comparisons"]}
    assert ("full", "B item_knn") in tested
    assert ("sampled:5", "B item_knn") in tested
    assert document["runs"] == {"A": str(runs / first), "B": str(runs / second)}
    assert dynmm("compare", first, "--runs", runs).exit_code == 2
    result = dynmm("compare", first, second, "--runs", runs, "--metric", "ndcg@11")
    assert result.exit_code == 2
    assert "did you mean ndcg@10?" in result.stderr


def test_recommend_serves_users_and_strangers(dynmm, json_of, runs):
    name = ids(runs)[0]
    known = json_of(dynmm("recommend", name, "--user", "u3", "-k", 4, "--runs", runs, "--json"))
    assert [entry["rank"] for entry in known] == [1, 2, 3, 4]
    words = ("recommend", name, "--runs", runs, "--recommender", "popularity")
    new = json_of(dynmm(*words, "--history", "i1, i2", "--history", "i3", "--json"))
    assert len(new) == 10
    assert not {"i1", "i2", "i3"} & {entry["item"] for entry in new}
    text = dynmm(*words, "--history", "i1")
    assert text.exit_code == 0
    assert text.stdout.splitlines()[0].split() == ["#", "item", "title", "score"]
    result = dynmm(*words, "--user", "u3", "-k", 1000)
    assert "Note: only" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either --user or --history"),
        (["--user", "u1", "--history", "i1"], "give either --user or --history"),
        (["--history", " , "], "names no item"),
        (["--user", "nobody"], "no user 'nobody'"),
        (["--history", "i1,i99"], "no item 'i99'"),
        (["--user", "u1", "--recommender", "populrity"], "did you mean popularity?"),
        (["--user", "u1", "-k", "0"], "-k"),
    ],
)
def test_recommend_refuses_what_does_not_exist(dynmm, runs, words, message):
    result = dynmm("recommend", ids(runs)[0], *words, "--runs", runs)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_data_stats_and_check_read_a_file_by_name_or_pipeline(
    dynmm, json_of, small_data, small_pipeline
):
    by_name = json_of(dynmm("data", "stats", "interaction_file", "--path", small_data, "--json"))
    by_pipeline = json_of(dynmm("data", "stats", small_pipeline, "--json"))
    assert by_name["users"] == by_pipeline["users"] == 40
    assert 0 < by_name["sparsity"] < 1
    text = dynmm("data", "stats", small_pipeline, "--set", "filters.k_core=3").stdout
    assert "sparsity" in text
    assert "k_core" in text
    result = dynmm("data", "check", "interaction_file", "--path", small_data)
    assert result.stdout.startswith("interaction_file: ok (40 users, 30 items, ")
    assert json_of(dynmm("data", "check", small_pipeline, "--json"))["ok"]


def test_data_check_prints_every_problem_with_its_line(dynmm, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("user,item,timestamp\nu1,i1,1\nu2,,2\nu3,i3,soon\n", encoding="utf-8")
    result = dynmm("data", "check", "interaction_file", "--path", path)
    assert result.exit_code == 2
    assert [f"{path}:{line}:" in result.stdout for line in (2, 3, 4)] == [False, True, True]
    assert result.stderr == ""
    result = dynmm("data", "check", "interaction_file", "--path", path, "--json")
    assert result.exit_code == 2
    assert {problem["line"] for problem in json.loads(result.stdout)["problems"]} == {3, 4}


def test_a_wrong_setting_of_a_reader_is_explained(dynmm):
    words = ("--set", "pathh=x", "--set", "header=3")
    result = dynmm("data", "stats", "interaction_file", *words)
    assert result.exit_code == 2
    assert "did you mean path?" in result.stderr
    assert "header" in result.stderr
    result = dynmm("data", "stats", "interaction_fil", "--path", "x")
    assert result.exit_code == 2
    assert "did you mean interaction_file?" in result.stderr


def test_data_list_and_fetch_offline(dynmm, json_of):
    rows = {row["name"]: row for row in json_of(dynmm("data", "list", "--json"))}
    assert rows["movielens_100k"]["files"] == "not fetched"
    assert rows["interaction_file"]["files"] == "own files"
    assert "movielens_100k" in dynmm("data", "list").stdout
    result = dynmm("data", "fetch", "movielens_100k", "--offline")
    assert result.exit_code == 2
    assert "offline" in result.stderr
    result = dynmm("data", "fetch", "movilens_100k")
    assert result.exit_code == 2
    assert "did you mean" in result.stderr


def test_registry_list_show_and_verify(dynmm, json_of):
    names = {row["name"] for row in json_of(dynmm("registry", "list", "--json"))}
    assert {"movielens_100k", "sasrec"} <= names
    assert "movielens_100k" in dynmm("registry", "list", "--kind", "dataset").stdout
    text = dynmm("registry", "show", "movielens_100k").stdout
    assert text.startswith("kind: dataset\nname: movielens_100k\n")
    assert "# files: not fetched" in text
    document = json_of(dynmm("registry", "show", "dataset/movielens_100k", "--json"))
    assert document["files"]
    result = dynmm("registry", "show", "movilens_100k")
    assert result.exit_code == 2
    assert "did you mean" in result.stderr
    rows = json_of(dynmm("registry", "verify", "movielens_100k", "--json"))
    assert [row["status"] for row in rows] == ["absent"]


def test_registry_verify_finds_a_damaged_file(dynmm, json_of, tmp_path):
    from dynmm_framework.artifacts.records import Registry
    from dynmm_framework.artifacts.sources import Fetcher
    from dynmm_framework.catalogue import load_catalogue

    record = Registry.load(load_catalogue().record_folders()).find_files("movielens_100k")
    folder = Fetcher(tmp_path / "cache", offline=True)._folder(record, record.files)
    folder.mkdir(parents=True)
    for name in record.files:
        (folder / name).write_text("not it", encoding="utf-8")
    result = dynmm("registry", "verify", "movielens_100k")
    assert result.exit_code == 2
    assert result.stdout.count("damaged") == len(record.files)


def test_plugins_list_and_info(dynmm, json_of, monkeypatch):
    rows = json_of(dynmm("plugins", "list", "--json"))
    keys = {"kind", "name", "distribution", "version", "status", "reason", "summary"}
    assert all(set(row) == keys for row in rows)
    by_name = {(row["kind"], row["name"]): row for row in rows}
    assert by_name["baseline", "popularity"]["status"] == "ok"
    assert by_name["metric", "ndcg"]["distribution"] == "dynmm-framework"
    rows = json_of(dynmm("plugins", "list", "--kind", "metric", "--json"))
    assert {row["kind"] for row in rows} == {"metric"}
    record = json_of(dynmm("plugins", "info", "sasrec", "--json"))
    settings = {field["name"]: field for field in record["settings"]}
    assert settings["epochs"]["type"] == "integer ≥ 1"
    assert all(field["description"] for field in record["settings"])
    assert "hidden_size" in dynmm("plugins", "info", "sasrec").stdout
    assert "NDCG" not in dynmm("plugins", "info", "ndcg").stderr
    assert json_of(dynmm("plugins", "info", "ndcg", "--json"))["higher_is_better"] is True
    nested = json_of(dynmm("plugins", "info", "interaction_file", "--json"))["settings"]
    assert {"columns.user", "items.title"} <= {field["name"] for field in nested}
    for name, guess in (("sasrecc", "sasrec"), ("ndgc", "ndcg")):
        result = dynmm("plugins", "info", name)
        assert result.exit_code == 2
        assert f"did you mean {guess}?" in result.stderr
    monkeypatch.setenv("DYNMM_PLUGINS", "popularity")
    statuses = {row["name"]: row["status"] for row in json_of(dynmm("plugins", "list", "--json"))}
    assert statuses["popularity"] == "ok"
    assert statuses["sasrec"] == "filtered"


def test_the_schema_is_json_and_knows_the_plugins(dynmm, json_of):
    document = json_of(dynmm("schema"))
    assert "$schema" in document
    assert "sasrec" in json.dumps(document)


def test_doctor_finds_nothing_to_mend_here(dynmm, json_of, tmp_path):
    findings = json_of(dynmm("doctor", "--json"))
    by_name = {finding["what"]: finding for finding in findings}
    assert by_name["python"]["status"] == "ok"
    assert by_name["libraries"]["status"] == "ok", by_name["libraries"]
    assert str(tmp_path / "cache") in by_name["cache folder"]["detail"]
    assert "torch" in dynmm("doctor").stdout
    assert not (tmp_path / "cache").exists()


def test_doctor_reports_a_folder_that_cannot_be_written(dynmm, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("DYNMM_CACHE", str(tmp_path / "file" / "cache"))
    result = dynmm("doctor", "--json")
    assert result.exit_code == 2
    findings = {finding["what"]: finding for finding in json.loads(result.stdout)}
    assert findings["cache folder"]["status"] == "failed"
    assert "DYNMM_CACHE" in findings["cache folder"]["advice"]
