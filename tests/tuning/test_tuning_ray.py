"""Searches on Ray workers: shared stages, lost workers, what is not there."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from search_toys import USED, toys_site

from dynmm_framework import run, tune
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.errors import ConfigError, StageError

FAILS = "baseline.config.fails"
QUALITY = "baseline.config.quality"
BPR = {"epochs": 6, "dim": 8, "patience": 0, "validate_every": 1}
SCHEDULE = "backbone.config.schedule"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    """A Ray cluster on this machine whose workers know the toys."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[tune]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    path = toys_site(tmp_path_factory.mktemp("site"))
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=80 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": path, "DYNMM_PLUGINS": ",".join([*USED, "toys"])}},
    )
    yield
    ray.shutdown()


def test_concurrent_trials_share_stages(cluster, saved, tmp_path, catalogue, monkeypatch):
    monkeypatch.chdir(tmp_path)  # workers are elsewhere, and --runs is a relative path
    pipeline: dict[str, Any] = {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(saved / "data")}},
        "split": {"strategy": "leave_one_out"},
        "backbone": {"name": "bpr_mf", "config": {"epochs": 20, "dim": 8, "patience": 0}},
        "encoders": {"text": {"name": "tfidf_text", "config": {"dim": 8}}},
        "align": {"name": "joint_alignment", "config": {"epochs": 2, "hidden": 8}},
        "search": {
            "engine": "ray",
            "trials": 4,
            "concurrency": 2,
            "space": {"align.config.learning_rate": {"log": {"low": 1e-3, "high": 1e-1}}},
        },
    }
    found = tune(load_pipeline(pipeline, catalogue=catalogue), runs_dir=Path("runs"), test=False)
    assert {trial.state for trial in found.trials} == {"finished"}
    assert found.manifest.engine.startswith("ray: 2 at once")
    assert len({trial.worker for trial in found.trials}) == 2
    trained = [trial for trial in found.trials if trial.epochs[0]["stage"] == "fit/bpr_mf/seed-7"]
    assert len(trained) == 1  # both of the first two wanted it at once
    assert len([e for e in trained[0].epochs if e["stage"].startswith("fit/")]) == 20
    for stage, computed in {"fit__bpr_mf__seed-7": 1, "align__joint_alignment__seed-7": 4}.items():
        assert len(list(Path("runs", ".cache", stage).glob("*"))) == computed


def test_a_lost_worker_costs_a_trial_at_most(cluster, load, tmp_path):
    config = {"log": str(tmp_path / "log")}
    space = {FAILS: ["crash", "nan", "kill", "kill_once", "no"]}
    search = load(config=config, space=space, sampler="grid", trials=5, engine="ray")
    found = tune(search, runs_dir=tmp_path / "runs", test=False)
    by_fault = {trial.params[FAILS]: trial for trial in found.trials}
    assert {fault: trial.state for fault, trial in by_fault.items()} == {
        "crash": "failed",
        "nan": "failed",
        "kill": "failed",
        "kill_once": "finished",
        "no": "finished",
    }
    assert by_fault["kill"].attempts == by_fault["kill_once"].attempts == 2
    assert by_fault["kill"].reason.startswith("its worker was lost 2 times: The actor ")
    assert by_fault["no"].attempts == 1
    assert "ZeroDivisionError" in by_fault["crash"].reason
    assert [epoch["epoch"] for epoch in by_fault["kill"].epochs] == [1]


def test_trials_that_are_behind_are_stopped_by_tune(cluster, load, tmp_path):
    config = {"epochs": 9, "log": str(tmp_path / "log")}
    scheduler = {"name": "asha", "factor": 2}
    search = load(config=config, scheduler=scheduler, trials=8, sampler="random", engine="ray")
    found = tune(search, runs_dir=tmp_path / "runs", test=False)
    pruned = [trial for trial in found.trials if trial.state == "pruned"]
    assert pruned
    for trial in pruned:
        assert trial.reason == f"asha: behind at epoch {trial.epochs[-1]['epoch']}"
        assert trial.epochs[-1]["epoch"] in (1, 2, 4, 8)
        assert {stage["name"] for stage in trial.stages} == {"data", "split"}
    finished = [trial for trial in found.trials if trial.state == "finished"]
    assert all(len(trial.epochs) == 9 for trial in finished)
    assert len(finished) + len(pruned) == 8
    assert not (found.folder / ".ray").exists()
    # What an earlier sitting has found counts in the next.
    more = tune(search, runs_dir=tmp_path / "runs", test=False, resume=True, trials=9)
    assert more.trials[:8] == found.trials
    quality = more.trials[8].params[QUALITY]
    assert (more.trials[8].state == "finished") == (quality >= found.best.params[QUALITY] * 0.9)


def test_a_population_finds_a_schedule_that_can_be_run_again(cluster, saved, tmp_path, catalogue):
    rates = {"backbone.config.learning_rate": {"log": {"low": 1e-4, "high": 3e-1}}}
    pipeline: dict[str, Any] = {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(saved / "data")}},
        "split": {"strategy": "leave_one_out"},
        "backbone": {"name": "bpr_mf", "config": BPR},
        "search": {
            "engine": "ray",
            "trials": 3,
            "seed": 3,
            "scheduler": {"name": "pbt", "interval": 2},
            "space": rates,
        },
    }
    loaded = load_pipeline(pipeline, catalogue=catalogue)
    found = tune(loaded, runs_dir=tmp_path / "runs", test=False)
    assert {trial.state for trial in found.trials} == {"finished"}
    schedules = [t.params.get("backbone.config.schedule", []) for t in found.trials]
    assert any(schedules)
    assert all(change["after"] in (2, 4) for changes in schedules for change in changes)
    for trial in found.trials:
        assert {e["epoch"] for e in trial.epochs} == set(range(1, 7))
    assert not any((tmp_path / "runs" / ".cache" / ".work").iterdir())
    # Every member's way is a pipeline of its own; trained from scratch it ends at the same weights.
    by_schedule = max(found.trials, key=lambda t: len(t.params.get(SCHEDULE, [])))
    for trial in {found.best.number: found.best, by_schedule.number: by_schedule}.values():
        settings = {"learning_rate": trial.params["backbone.config.learning_rate"]}
        config = {**pipeline["backbone"]["config"], **settings}
        config["schedule"] = trial.params.get(SCHEDULE, [])
        plain = {key: value for key, value in pipeline.items() if key != "search"}
        plain["backbone"] = {"name": "bpr_mf", "config": config}
        again = run(load_pipeline(plain, catalogue=catalogue), runs_dir=tmp_path / "elsewhere")
        curve = again.training["bpr_mf"]["7"]
        assert max(e["ndcg@10"] for e in curve) == trial.metrics["ndcg@10"]
    assert load_pipeline(found.best_file).resolved()["search"] is None


def test_more_than_any_machine_has_is_refused(cluster, load, tmp_path):
    wanted = {"gpus": 2, "cpus": 64}
    blocks = {"compute": {"device": "auto"}}
    search = load(engine="ray", address="auto", resources=wanted, blocks=blocks)
    with pytest.raises(ConfigError) as caught:
        tune(search, runs_dir=tmp_path)
    text = str(caught.value)
    assert "search.resources.gpus: a trial asks for 2 GPUs, and no machine of the cluster" in text
    assert "search.resources.cpus: a trial asks for 64 CPUs, and no machine of the cluster" in text
    assert "has more than 2" in text


def test_an_address_that_nobody_answers_is_one_error(load, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    search = load(engine="ray", trials=1)
    with pytest.raises(StageError) as caught:
        tune(search, runs_dir=tmp_path, address="127.0.0.1:1")
    assert str(caught.value).startswith("nobody answers at the Ray address 127.0.0.1:1: ")
    assert "ray start --head" in str(caught.value)
    with pytest.raises(ConfigError, match=r"search\.address: must be auto or host:port, not 'x'"):
        tune(search, runs_dir=tmp_path, address="x")
