"""Observers and trackers: told everything, never in the way."""

from __future__ import annotations

import pytest

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.engine.run import run
from dynmm_framework.errors import ConfigError
from dynmm_framework.hookspecs import hookimpl


class Observer:
    def __init__(self):
        self.seen = []
        self.closed = ""

    @hookimpl
    def dynmm_run_started(self, run, pipeline):
        self.seen.append(("started", run, pipeline["version"]))

    @hookimpl
    def dynmm_stage_finished(self, stage, cached):
        self.seen.append(("stage", stage, cached))

    @hookimpl
    def dynmm_run_finished(self, folder, metrics):
        self.seen.append(("finished", folder.name, sorted(metrics["recommenders"])))

    @hookimpl
    def dynmm_run_failed(self, stage, error):
        self.seen.append(("failed", stage, type(error).__name__))

    @hookimpl
    def dynmm_create_tracker(self, name, options):
        self.options = options
        return self if name == "notebook" else None

    def log_params(self, params):
        self.seen.append(("params", params["seed"]))

    def log_metrics(self, metrics, *, step):
        self.seen.append(("metrics", "popularity/full/ndcg@10" in metrics))

    def close(self, *, status):
        self.closed = status


class Clumsy:
    @hookimpl
    def dynmm_stage_finished(self, stage):
        raise RuntimeError("an observer must not matter")


@pytest.fixture
def observer():
    return Observer()


def load_with(settings, *plugins):
    catalogue = load_catalogue()
    for plugin in plugins:
        catalogue.register(plugin, name=type(plugin).__name__.lower())
    return load_pipeline(settings, catalogue=catalogue)


def test_an_observer_sees_the_run_in_order(settings, observer, tmp_path):
    found = run(load_with(settings, observer), runs_dir=tmp_path)
    assert observer.seen[0] == ("started", found.id, 1)
    assert observer.seen[1] == ("stage", "data", False)
    assert observer.seen[-1] == ("finished", found.id, ["item_knn", "popularity"])


def test_a_failing_observer_does_not_end_the_run(settings, tmp_path, caplog):
    found = run(load_with(settings, Clumsy()), runs_dir=tmp_path)
    assert found.manifest.status == "finished"
    assert "an observer must not matter" in caplog.text


def test_a_tracker_gets_parameters_and_metrics(settings, observer, tmp_path):
    settings["tracking"] = {"name": "Notebook", "options": {"page": 3}}
    run(load_with(settings, observer), runs_dir=tmp_path)
    assert ("params", 7) in observer.seen
    assert ("metrics", True) in observer.seen
    assert observer.options == {"page": 3}
    assert observer.closed == "finished"


def test_an_unknown_tracker_stops_before_any_work(settings, tmp_path):
    settings["tracking"] = {"name": "nobody"}
    with pytest.raises(ConfigError, match="no plugin provides the tracker 'nobody'"):
        run(load_with(settings), runs_dir=tmp_path)
    assert not list(tmp_path.glob(".cache/data/*"))


def test_a_failure_is_observed_with_its_stage(settings, observer, tmp_path):
    settings["split"] = {"strategy": "leave_one_out", "min_interactions": 1000}
    loaded = load_with(settings, observer)
    with pytest.raises(Exception, match="no test user"):
        run(loaded, runs_dir=tmp_path)
    assert observer.seen[-1] == ("failed", "split", "DataError")
