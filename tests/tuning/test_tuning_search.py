"""Searches in this process: what is tried, what is shared, what survives, what is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from search_toys import toys_catalogue

from dynmm_framework import tune
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.engine.plan import make_plan
from dynmm_framework.engine.results import Run
from dynmm_framework.engine.run import run
from dynmm_framework.errors import ArtifactError
from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.tuning.results import Search
from dynmm_framework.tuning.trial import run_trial

QUALITY = "baseline.config.quality"
FAILS = "baseline.config.fails"


def stored(runs: Path, stage: str) -> int:
    """Number of results of a stage in the store: how often it was computed."""
    return len(list((runs / ".cache" / stage).glob("*")))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def content(saved: Path) -> dict[str, Any]:
    return {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(saved / "data")}},
        "split": {"strategy": "leave_one_out"},
        "backbone": {"name": "bpr_mf", "config": {"epochs": 3, "dim": 8}},
        "encoders": {"text": {"name": "tfidf_text", "config": {"dim": 8}}},
        "align": {"name": "joint_alignment", "config": {"epochs": 2, "hidden": 8}},
        "evaluate": {"at": [10], "compare_with": ["popularity"]},
        "compute": {"device": "cpu", "threads": 1},
    }


# What is tried, and what it gives.


def test_a_search_finds_and_writes_an_ordinary_pipeline(load, tmp_path, catalogue):
    space = {QUALITY: {"float": {"low": 0.0, "high": 1.0}}, "baseline.config.width": [4, 8]}
    found = tune(load(trials=8, space=space), runs_dir=tmp_path)
    assert [trial.number for trial in found.trials] == list(range(1, 9))
    assert {trial.state for trial in found.trials} == {"finished"}
    # The pipeline as it is comes first: its values are in the space.
    assert found.trials[0].params == {QUALITY: 0.5, "baseline.config.width": 8}
    best = max(found.trials, key=lambda trial: trial.metrics["ndcg@10"])
    assert found.best == best
    assert found.manifest.best == best.number
    text = found.best_file.read_text()
    assert f"# Trial {best.number} of {found.id}" in text
    loaded = load_pipeline(found.best_file, catalogue=catalogue)
    assert loaded.pipeline.search is None
    assert loaded.configs["toy"].quality == best.params[QUALITY]
    # The best, and nothing else, was looked at on test users.
    tested = Run.load(tmp_path / found.manifest.test["run"], catalogue=catalogue)
    assert tested.metrics["recommenders"]["toy"]["full"]["ndcg@10"]["mean"] == pytest.approx(
        found.manifest.test["metrics"]["ndcg@10"]
    )
    assert (tested.folder / "report.html").is_file()
    assert stored(tmp_path, "rank__toy__seed-7__full") == 1
    assert stored(tmp_path, "fit__toy__seed-7") == 8
    page = found.report.read_text()
    assert "Parallel coordinates" in page
    assert "Importance" in page
    assert found.manifest.importance[QUALITY] > found.manifest.importance["baseline.config.width"]


def test_the_best_pipeline_gives_the_same_validation_metric(load, tmp_path):
    config = {"epochs": 4, "hidden_size": 16, "layers": 1, "heads": 1, "max_length": 10}
    blocks = {"baseline": None, "backbone": {"name": "sasrec", "config": config}}
    space = {
        "backbone.config.learning_rate": {"log": {"low": 1e-3, "high": 1e-1}},
        "backbone.config.hidden_size": {"power_of_two": {"low": 8, "high": 16}},
    }
    search = load(blocks=blocks, trials=3, metric="hit@5", space=space)
    found = tune(search, runs_dir=tmp_path / "search")
    again = run(load_pipeline(found.best_file), runs_dir=tmp_path / "elsewhere")
    curve = again.training["sasrec"]["7"]
    assert max(epoch["hit@5"] for epoch in curve) == found.best.metrics["hit@5"]
    epochs = {e["epoch"]: e["value"] for e in found.best.epochs}
    assert epochs == {int(e["epoch"]): e["hit@5"] for e in curve}
    assert again.manifest.pipeline["evaluate"]["monitor"] == "hit@5"


def test_a_search_over_the_alignment_trains_the_backbone_and_encodes_once(content, tmp_path):
    seen: list[str] = []

    class Watcher:
        @hookimpl
        def dynmm_epoch_finished(self, stage, epoch):
            seen.append(stage)

    catalogue = toys_catalogue()
    catalogue.register(Watcher(), name="watcher")
    space = {
        "align.config.hidden": [8, 16],
        "align.config.align_weight": {"float": {"low": 0.0, "high": 1.0}},
    }
    search = {"engine": "local", "trials": 4, "space": space}
    loaded = load_pipeline({**content, "search": search}, catalogue=catalogue)
    found = tune(loaded, runs_dir=tmp_path, test=False)
    assert {trial.state for trial in found.trials} == {"finished"}
    assert stored(tmp_path, "fit__bpr_mf__seed-7") == stored(tmp_path, "encode__text") == 1
    assert stored(tmp_path, "align__joint_alignment__seed-7") == 4
    assert seen.count("fit/bpr_mf/seed-7") == 3  # epochs of one training
    assert seen.count("align/joint_alignment/seed-7") == 8
    # Nothing was asked of test users, and nothing that is only compared was trained.
    assert not list((tmp_path / ".cache").glob("rank__*"))
    assert not list((tmp_path / ".cache").glob("fit__popularity*"))


def test_component_names_are_searched_with_what_belongs_to_them(load, tmp_path):
    space = {
        "baseline.name": ["toy", "item_knn"],
        QUALITY: {"choice": [0.2, 0.9], "when": {"baseline.name": "toy"}},
        "baseline.config.neighbours": {"choice": [5], "when": {"baseline.name": "item_knn"}},
    }
    found = tune(load(space=space, sampler="grid", trials=10), runs_dir=tmp_path, test=False)
    tried = sorted(json.dumps(trial.params, sort_keys=True) for trial in found.trials)
    assert tried == sorted(
        json.dumps(params, sort_keys=True)
        for params in (
            {"baseline.name": "toy", QUALITY: 0.2},
            {"baseline.name": "toy", QUALITY: 0.9},
            {"baseline.name": "item_knn", "baseline.config.neighbours": 5},
        )
    )
    labels = {trial.stages[-1]["name"] for trial in found.trials}
    assert labels == {"fit/toy/seed-7", "fit/item_knn/seed-7"}


def test_the_same_seed_tries_the_same(load, tmp_path):
    runs = [tune(load(), runs_dir=tmp_path / name, test=False) for name in ("a", "b")]
    assert [t.params for t in runs[0].trials] == [t.params for t in runs[1].trials]
    assert runs[0].id == runs[1].id
    other = tune(load(seed=1), runs_dir=tmp_path / "a", test=False)
    assert other.id != runs[0].id
    assert other.trials[1].params != runs[0].trials[1].params


def test_tpe_learns_from_what_an_earlier_sitting_found(load, tmp_path):
    tune(load(trials=12), runs_dir=tmp_path, test=False)
    found = tune(load(trials=20), runs_dir=tmp_path, test=False, resume=True)
    late = [trial.params[QUALITY] for trial in found.trials[12:]]
    assert len(set(late)) == 8
    assert sum(quality > 0.5 for quality in late) >= 6  # what is better lies above


def test_several_objectives_give_a_front(load, tmp_path):
    found = tune(load(objectives=["ndcg@10", "latency"], trials=6), runs_dir=tmp_path, test=False)
    front = found.manifest.front
    assert found.best.number in front
    assert {path.name for path in (found.folder / "front").iterdir()} == {
        f"trial-{number}.yaml" for number in front
    }
    for number in front:
        mine = next(t for t in found.trials if t.number == number).metrics
        assert not any(
            t.metrics["ndcg@10"] > mine["ndcg@10"] and t.metrics["latency"] < mine["latency"]
            for t in found.trials
        )
    assert "against" in found.report.read_text()


def test_a_trial_of_a_split_that_refits_does_not_train_on_what_judges_it(load, tmp_path, saved):
    files = {}
    for part, items in (("train", range(1, 9)), ("test", (9,))):
        files[part] = str(tmp_path / f"{part}.txt")
        text = [f"{user} {' '.join(str((user + i) % 20) for i in items)}" for user in range(30)]
        Path(files[part]).write_text("\n".join(text))
    blocks = {
        "data": {"name": "sequence_file", "config": {"path": files["train"]}},
        "split": {"strategy": "given", **files, "valid_share": 0.2},
        "baseline": "item_knn",
    }
    search = load(blocks=blocks, space={"baseline.config.neighbours": [2, 5]}, trials=2)
    found = tune(search, runs_dir=tmp_path / "runs")
    assert all("refit" not in json.dumps(trial.stages) for trial in found.trials)
    fits = (tmp_path / "runs" / ".cache" / "fit__item_knn__seed-7").glob("*/stage.json")
    metas = [json.loads(path.read_text())["meta"] for path in fits]
    assert sorted("refit" in meta for meta in metas) == [False, False, True]
    assert load_pipeline(found.best_file).pipeline.split.refits


def test_an_online_adapter_is_judged_on_the_validation_part_window_by_window(content, tmp_path):
    online = {"window": 20, "steps": 1, "hidden": 8, "replay": 20}
    pipeline = {
        **{k: v for k, v in content.items() if k not in ("encoders", "align")},
        "split": {"strategy": "streaming", "valid": 0.2},
        "online": {"name": "gated_mlp", "config": online},
        "search": {
            "engine": "local",
            "trials": 4,
            "scheduler": {"name": "asha", "grace": 2, "factor": 2},
            "space": {"online.config.transitions": [0.0, 2.0], "online.config.steps": [0, 1]},
        },
    }
    found = tune(load_pipeline(pipeline), runs_dir=tmp_path, test=False)
    assert {trial.state for trial in found.trials} <= {"finished", "pruned"}
    windows = [e for e in found.best.epochs if e["stage"] == "stream/online/seed-7"]
    assert len(windows) >= 3
    assert windows[-1]["value"] == pytest.approx(found.best.metrics["ndcg@10"])
    assert stored(tmp_path, "fit__bpr_mf__seed-7") == 1
    split = json.loads(next((tmp_path / ".cache" / "split").glob("*/stage.json")).read_text())
    assert found.best.users < 0.2 * 0.7 * 60 * 20
    assert split["meta"]["hash"]
    assert not list((tmp_path / ".cache").glob("stream__*"))


# Stopping early.


def test_trials_that_are_behind_are_stopped(load, tmp_path):
    config = {"epochs": 9, "log": str(tmp_path / "log")}
    search = load(config=config, scheduler="asha", trials=8, sampler="random")
    found = tune(search, runs_dir=tmp_path, test=False)
    pruned = [trial for trial in found.trials if trial.state == "pruned"]
    assert pruned
    assert all(trial.reason.startswith("asha: ") for trial in pruned)
    assert all(trial.epochs[-1]["epoch"] in (1, 3, 9) for trial in pruned)
    assert all(len(trial.epochs) == 9 for trial in found.trials if trial.state == "finished")
    assert max(t.params[QUALITY] for t in pruned) < found.best.params[QUALITY]
    assert stored(tmp_path, "fit__toy__seed-7") == 8 - len(pruned)


def test_a_time_budget_ends_trials_at_their_next_epoch(load, tmp_path):
    config = {"epochs": 30, "seconds": 30.0}
    started = time.monotonic()
    found = tune(load(config=config, time_budget=1, trials=50), runs_dir=tmp_path, test=False)
    assert time.monotonic() - started < 15
    assert [t.state for t in found.trials] == ["pruned"]
    assert found.trials[0].reason == "the search's time budget is spent"
    with pytest.raises(ArtifactError, match=r"no trial of .* was finished"):
        _ = found.best_file


# Faults.


def test_what_fails_in_a_trial_is_its_reason_and_ends_nothing(load, tmp_path):
    space = {FAILS: ["crash", "memory", "disk", "nan", "no"]}
    found = tune(load(space=space, sampler="grid", trials=9), runs_dir=tmp_path, test=False)
    reasons = {trial.params[FAILS]: trial.reason for trial in found.trials}
    states = {trial.params[FAILS]: trial.state for trial in found.trials}
    assert states.pop("no") == "finished"
    assert set(states.values()) == {"failed"}
    assert (
        "toys==1.0/toy failed in stage fit/toy/seed-7: ZeroDivisionError: the" in reasons["crash"]
    )
    assert reasons["memory"] == "out of memory: the toy is too large"
    assert "the disk is full" in reasons["disk"]
    assert "toy" in reasons["nan"]
    assert "finite" in reasons["nan"]
    assert found.best.params == {FAILS: "no"}
    assert "ZeroDivisionError" in found.report.read_text()


def test_settings_that_contradict_each_other_cost_no_trial(load, tmp_path):
    space = {"baseline.config.width": [4, 9], "baseline.config.depth": [2, 3]}
    found = tune(load(space=space, sampler="grid", trials=4), runs_dir=tmp_path, test=False)
    invalid = [trial for trial in found.trials if trial.state == "invalid"]
    assert {tuple(t.params.values()) for t in invalid} == {(4, 3), (9, 2)}
    assert "depth (3) must divide width (4)" in " ".join(trial.reason for trial in invalid)
    assert all(not trial.stages for trial in invalid)


def test_a_search_without_a_finished_trial_says_so(load, tmp_path):
    found = tune(load(config={"fails": "crash"}, trials=2), runs_dir=tmp_path)
    assert found.best is None
    assert found.manifest.test == {}
    assert "None of 2 trials was finished." in found.report.read_text()


def test_ctrl_c_leaves_what_is_finished_and_resume_goes_on(load, tmp_path, catalogue):
    loaded = load(space={QUALITY: [0.1, 0.5, 0.9], "baseline.config.width": [4, 8]}, trials=6)
    begun: list[int] = []

    def interrupted(order, surroundings, report):
        begun.append(order["number"])
        if order["number"] == 4:
            raise KeyboardInterrupt
        return run_trial(order, surroundings, report)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynmm_framework.tuning.local.run_trial", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(loaded, runs_dir=tmp_path)
    (folder,) = tmp_path.glob("*-search-*")
    left = Search.load(folder)
    assert left.manifest.status == "interrupted"
    assert [trial.number for trial in left.trials] == [1, 2, 3]
    assert load_pipeline(left.best_file, catalogue=catalogue).configs["toy"].quality
    assert left.report.is_file()
    wanted = json.loads((folder / "running.json").read_text())
    with pytest.raises(ArtifactError) as caught:
        tune(loaded, runs_dir=tmp_path)
    assert "holds this search already, with 3 trials (interrupted)" in str(caught.value)
    assert "--resume" in str(caught.value)
    found = tune(loaded, runs_dir=tmp_path, resume=True)
    assert [trial.number for trial in found.trials] == [1, 2, 3, 4, 5, 6]
    assert found.trials[3].params == wanted["4"]
    assert [t.model_dump() for t in found.trials[:3]] == [t.model_dump() for t in left.trials]
    more = tune(loaded, runs_dir=tmp_path, resume=True, trials=7)
    assert len(more.trials) == 7


def test_what_was_cut_off_is_not_lost_by_another_interruption(load, tmp_path):
    loaded = load(space={QUALITY: [0.1, 0.5, 0.9]}, sampler="random", trials=5)
    found = tune(
        load(space={QUALITY: [0.1, 0.5, 0.9]}, sampler="random", trials=2), runs_dir=tmp_path
    )
    path = found.folder / "running.json"
    cut_off = {"3": {QUALITY: 0.9}, "4": {QUALITY: 0.1}, "5": {"of.another.search": 1}}
    path.write_text(json.dumps(cut_off))

    def interrupted(order, surroundings, report):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynmm_framework.tuning.local.run_trial", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(loaded, runs_dir=tmp_path, resume=True)
    assert json.loads(path.read_text()) == {"3": {QUALITY: 0.9}, "4": {QUALITY: 0.1}}
    again = tune(loaded, runs_dir=tmp_path, resume=True, test=False)
    assert [t.number for t in again.trials] == [1, 2, 3, 4, 5]
    assert [t.params[QUALITY] for t in again.trials[2:4]] == [0.9, 0.1]


def test_a_search_in_progress_is_not_taken_over(load, tmp_path):
    loaded = load(trials=1)
    found = tune(loaded, runs_dir=tmp_path, test=False)
    from filelock import FileLock

    with (
        FileLock(found.folder / ".lock"),
        pytest.raises(ArtifactError, match="another process works on"),
    ):
        tune(loaded, runs_dir=tmp_path, resume=True)


def test_there_must_be_something_to_resume(load, tmp_path):
    with pytest.raises(ArtifactError, match="there is no search to resume in"):
        tune(load(), runs_dir=tmp_path, resume=True)


def test_a_line_that_was_cut_off_is_left_out_and_a_damaged_one_named(load, tmp_path):
    found = tune(load(trials=2), runs_dir=tmp_path, test=False)
    path = found.folder / "trials.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert [trial.number for trial in Search.load(found.folder).trials] == [1]
    again = tune(load(trials=2), runs_dir=tmp_path, resume=True, test=False)
    assert [trial.number for trial in again.trials] == [1, 2]
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(ArtifactError, match=r"trials\.jsonl, line 1: "):
        Search.load(found.folder)


# The driver killed.

DRIVER = """
import json
import sys
sys.path.insert(0, {tests!r})
from search_toys import toys_catalogue
from dynmm_framework import tune
from dynmm_framework.config.load import load_pipeline
loaded = load_pipeline(json.loads({pipeline!r}), catalogue=toys_catalogue())
tune(loaded, runs_dir={runs!r}, test=False)
"""


def test_a_killed_driver_s_search_goes_on(load, settings, tmp_path, catalogue):
    log = tmp_path / "log"
    config = {"seconds": 0.2, "log": str(log)}
    pipeline = {
        **settings,
        "baseline": {"name": "toy", "config": config},
        "search": {**settings["search"], "trials": 6},
    }
    runs = tmp_path / "runs"
    program = DRIVER.format(
        tests=str(Path(__file__).parent), pipeline=json.dumps(pipeline), runs=str(runs)
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    deadline = time.monotonic() + 120
    while len(lines(log)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (folder,) = runs.glob("*-search-*")
    before = Search.load(folder)
    assert before.manifest.status == "running"
    assert 1 <= len(before.trials) <= 3
    running = json.loads((folder / "running.json").read_text())
    loaded = load_pipeline(pipeline, catalogue=catalogue)
    found = tune(loaded, runs_dir=runs, resume=True, test=False)
    assert [trial.number for trial in found.trials] == [1, 2, 3, 4, 5, 6]
    for trial in before.trials:
        assert trial == found.trials[trial.number - 1]
    for number, params in running.items():
        assert found.trials[int(number) - 1].params == params
    assert found.manifest.status == "finished"
    # Only what was cut off was trained again.
    assert len(lines(log)) <= 7


# A plain run.


def test_a_plain_run_leaves_the_search_aside(load, tmp_path):
    loaded = load()
    plan = make_plan(loaded.without_search(), runs_dir=tmp_path)
    done = run(loaded, runs_dir=tmp_path)
    assert done.id == plan.run_id == make_plan(loaded, runs_dir=tmp_path).run_id
    assert done.manifest.pipeline["search"] is None


# What a person sees.


def test_on_a_terminal_a_table_is_drawn(load, tmp_path):
    with (tmp_path / "log").open("w") as file:
        console = Console(file=file, width=120, force_terminal=True, color_system=None)
        config = {"epochs": 2, "seconds": 1.2}
        space = {FAILS: ["no", "crash"]}
        search = load(config=config, space=space, sampler="grid", trials=2)
        tune(search, runs_dir=tmp_path / "runs", test=False, console=console)
    text = (tmp_path / "log").read_text()
    assert "fails=no" in text
    assert "ZeroDivisionError" in text
    assert "2 of 2; best ndcg@10" in text
