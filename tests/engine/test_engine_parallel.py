"""Fit stages on Ray workers: the same pipeline, the same numbers."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from rich.console import Console

from dynmm_framework.artifacts.arrays import load_arrays
from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.engine import device as device_module
from dynmm_framework.engine.plan import make_plan
from dynmm_framework.engine.run import Run, run
from dynmm_framework.errors import ConfigError, PluginError, StageError
from dynmm_framework.hookspecs import hookimpl

TWO = {"engine": "ray", "workers": 2}
BPR = {
    "name": "bpr_mf",
    "config": {"dim": 8, "epochs": 12, "batch_size": 128, "checkpoint_seconds": 0},
}


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster on this machine for all tests of the module."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=80 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


def state(found: Run, label: str) -> dict[str, np.ndarray]:
    return load_arrays(next((found.folder / "models" / label).rglob("*.safetensors")))


def means(found: Run) -> dict[str, float]:
    return {
        label: protocols["full"]["ndcg@10"]["mean"]
        for label, protocols in found.metrics["recommenders"].items()
    }


@pytest.fixture
def blocks(tiny_sasrec: dict[str, Any]) -> dict[str, Any]:
    return {
        "baseline": None,
        "backbone": BPR,
        "evaluate": {"compare_with": [tiny_sasrec, "popularity"]},
    }


# Without Ray.


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        ({"workers": 2}, "workers: 2 without engine: ray"),
        ({"address": "auto", "gpus_per_worker": 1}, "gpus_per_worker: 1, address: auto without"),
        ({**TWO, "gpus_per_worker": 1, "device": "cpu"}, "contradicts device: cpu"),
        ({**TWO, "gpus_per_worker": 2}, "gpus_per_worker"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(load, compute, message) -> None:
    with pytest.raises(ConfigError, match=message):
        load(compute=compute)


def test_defaults_filled_in_are_accepted_again(load) -> None:
    resolved = load().resolved()
    assert load_pipeline(resolved).resolved() == resolved


def test_ray_that_is_not_installed_is_one_clear_error(load, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(device_module, "find_spec", lambda name: None)
    with pytest.raises(PluginError) as caught:
        run(load(compute=TWO), runs_dir=tmp_path)
    assert str(caught.value) == (
        "compute.engine: ray needs Ray, which is not installed\n"
        "  Install it: pip install 'dynmm-framework[ray]', or set compute.engine: local"
    )


def test_only_the_number_of_workers_and_only_of_what_is_shared_is_in_the_keys(
    load, blocks, tmp_path
) -> None:
    def keys(**compute: Any) -> dict[str, str]:
        plan = make_plan(load(**blocks, compute=compute), runs_dir=tmp_path)
        return {stage.name: stage.key for stage in plan.stages}

    local, two = keys(), keys(**TWO)
    changed = {name for name in local if local[name] != two[name]}
    assert changed == {
        f"{kind}/{label}/seed-7{end}"
        for label in ("bpr_mf", "sasrec")
        for kind, end in (("fit", ""), ("rank", "/full"))
    }
    assert keys(engine="ray", workers=1) == local
    assert keys(engine="ray", workers=2, address="auto", threads=3, gpus_per_worker=0) == two


def test_the_plan_shows_workers_and_their_device(load, blocks, tmp_path) -> None:
    plan = make_plan(load(**blocks, compute={**TWO, "gpus_per_worker": 1}), runs_dir=tmp_path)
    shown = {stage.label: (stage.workers, stage.device) for stage in plan.of_kind("fit")}
    assert shown["bpr_mf"] == shown["sasrec"] == (2, "cuda")
    assert shown["popularity"][0] == 0


# With Ray.


class Watcher:
    """Sees epochs, and kills a worker when one is finished."""

    def __init__(self, kills_at: int = 0) -> None:
        self.epochs: list[tuple[str, int]] = []
        self.kills_at = kills_at

    @hookimpl
    def dynmm_epoch_finished(self, stage, epoch):
        self.epochs.append((stage, epoch))
        if self.kills_at and epoch >= self.kills_at:
            self.kills_at = 0
            workers = [p for p in psutil.Process().children(recursive=True) if _trains(p)]
            assert len(workers) == 2
            workers[-1].kill()


def _trains(process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def run_watched(
    settings: dict[str, Any], runs_dir: Path, watcher: Watcher, log: Path | None = None
) -> Run:
    catalogue = load_catalogue()
    catalogue.register(watcher, name="watcher")
    pipeline = load_pipeline(
        {name: block for name, block in settings.items() if block is not None},
        catalogue=catalogue,
    )
    if log is None:
        return run(pipeline, runs_dir=runs_dir)
    with log.open("w") as file:
        return run(pipeline, runs_dir=runs_dir, console=Console(file=file, width=200))


def test_two_workers_give_the_metrics_of_one_process(
    cluster, load, settings, blocks, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)  # workers are in other folders, and --runs is a relative one
    alone = run(load(**blocks), runs_dir=tmp_path / "alone")
    watcher = Watcher()
    together = run_watched(
        {**settings, **blocks, "compute": TWO}, Path("two"), watcher, tmp_path / "log"
    )
    one, two = means(alone), means(together)
    # A batch's halves are exactly a batch of BPR, whose negatives are drawn for the whole epoch.
    assert two["bpr_mf"] == pytest.approx(one["bpr_mf"], abs=1e-6)
    for name, array in state(alone, "bpr_mf").items():
        np.testing.assert_allclose(state(together, "bpr_mf")[name], array, rtol=1e-3, atol=1e-4)
    # SASRec draws other dropout and other negatives.
    assert two["sasrec"] == pytest.approx(one["sasrec"], abs=0.08)
    assert two["popularity"] == one["popularity"]
    curves = [found.training["sasrec"]["7"] for found in (alone, together)]
    assert [len(curve) for curve in curves] == [3, 3]
    assert curves[1][-1]["loss"] == pytest.approx(curves[0][-1]["loss"], rel=0.05)
    assert [epoch for stage, epoch in watcher.epochs if "sasrec" in stage] == [1, 2, 3]
    log = (tmp_path / "log").read_text()
    assert "fit/bpr_mf/seed-7: on 2 Ray workers, 64 rows of a batch each" in log
    assert "fit/popularity/seed-7: in this process: there are no batches to share" in log


def test_a_killed_worker_is_replaced_and_nothing_is_lost(
    cluster, settings, blocks, tiny_sasrec, tmp_path
) -> None:
    config = {**tiny_sasrec["config"], "epochs": 12, "checkpoint_seconds": 0, "patience": 0}
    wanted = {
        **settings,
        "baseline": None,
        "backbone": {"name": "sasrec", "config": config},
        "evaluate": {},
        "compute": TWO,
    }
    killed, undisturbed = Watcher(kills_at=2), Watcher()
    first = run_watched(wanted, tmp_path / "killed", killed, tmp_path / "log")
    second = run_watched(wanted, tmp_path / "undisturbed", undisturbed)
    assert "resumed after epoch" in (tmp_path / "log").read_text()
    assert sorted({epoch for _, epoch in killed.epochs}) == list(range(1, 13))
    assert [epoch for _, epoch in undisturbed.epochs] == list(range(1, 13))
    for name, array in state(second, "sasrec").items():
        np.testing.assert_array_equal(state(first, "sasrec")[name], array)
    assert means(first) == means(second)


def test_what_fails_in_a_worker_fails_as_it_would_here(cluster, load, tmp_path) -> None:
    broken = {**BPR, "config": {**BPR["config"], "learning_rate": 1e38, "optimizer": "sgd"}}
    pipeline = load(baseline=None, backbone=broken, evaluate={}, compute=TWO)
    with pytest.raises(StageError) as caught:
        run(pipeline, runs_dir=tmp_path)
    assert "stage fit/bpr_mf/seed-7, epoch" in str(caught.value)
    assert "Lower the learning rate" in str(caught.value)
    assert not list((tmp_path / ".cache").glob("fit__*/*"))
