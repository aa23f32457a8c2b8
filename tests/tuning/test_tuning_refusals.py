"""Searches that are refused before anything starts, and what is not installed."""

from __future__ import annotations

import sys

import pytest
from rich.console import Console

from dynmm_framework import tune
from dynmm_framework.errors import ConfigError, PluginError
from dynmm_framework.tuning import engine as engine_module


def test_a_pipeline_without_a_search_is_refused(load, tmp_path):
    with pytest.raises(ConfigError, match="there is no search block"):
        tune(load().without_search(), runs_dir=tmp_path)


def test_an_endless_grid_is_refused(load, tmp_path):
    with pytest.raises(ConfigError, match=r"a grid needs values to count, and baseline\.config"):
        tune(load(sampler="grid"), runs_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_more_gpus_than_exist_are_refused(load, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "gpu_count", lambda: 1)
    wanted = {"gpus": 2, "cpus": 4000 / 4}
    search = load(engine="ray", resources=wanted, blocks={"compute": {"device": "auto"}})
    with pytest.raises(ConfigError) as caught:
        tune(search, runs_dir=tmp_path)
    text = str(caught.value)
    assert "search.resources.gpus: a trial asks for 2 GPUs, and this machine has 1" in text
    assert "search.resources.cpus: a trial asks for 1000 CPUs, and this machine has" in text
    with pytest.raises(ConfigError, match=r"gpus: 0\.5 contradicts compute\.device: cpu"):
        tune(load(engine="ray", resources={"gpus": 0.5}), runs_dir=tmp_path)


def test_workers_of_one_trial_are_refused(load, tmp_path):
    compute = {"engine": "ray", "workers": 2}
    with pytest.raises(ConfigError, match=r"compute\.workers: a trial trains in one process"):
        tune(load(blocks={"compute": compute}), runs_dir=tmp_path)


def test_a_split_without_validation_users_is_refused(load, tmp_path):
    for part in ("train", "test"):
        (tmp_path / f"{part}.txt").write_text("1 2 3\n2 3 4\n")
    files = {part: str(tmp_path / f"{part}.txt") for part in ("train", "test")}
    blocks = {
        "data": {"name": "sequence_file", "config": {"path": files["train"]}},
        "split": {"strategy": "given", **files, "valid_share": 0},
    }
    with pytest.raises(ConfigError, match="the split holds out no validation users"):
        tune(load(blocks=blocks), runs_dir=tmp_path / "runs")


def test_what_is_not_installed_is_named(load, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(PluginError, match=r"a search needs Optuna.*\n.*dynmm-framework\[tune\]"):
        tune(load(), runs_dir=tmp_path)


def test_without_ray_the_same_file_runs_here_and_says_so(load, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "find_spec", lambda name: None)
    with (tmp_path / "log").open("w") as file:
        console = Console(file=file, width=200)
        loaded = load(engine="auto", concurrency=2, trials=2)
        found = tune(loaded, runs_dir=tmp_path / "runs", test=False, console=console)
    text = (tmp_path / "log").read_text()
    assert "Ray is not installed: trials run on Optuna alone, one after another" in text
    assert "trial 2 finished ndcg@10" in text
    assert found.manifest.engine == "local"
    with pytest.raises(
        PluginError, match=r"search\.engine: ray needs Ray Tune, which is not installed"
    ):
        tune(load(engine="ray"), runs_dir=tmp_path / "runs")
