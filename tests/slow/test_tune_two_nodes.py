"""A search on a real Ray cluster of two nodes, one of which is killed while it works."""

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

from dynmm_framework.testing import generate_dataset
from dynmm_framework.tuning.results import Search

pytestmark = pytest.mark.slow

TOYS = Path(__file__).parents[1] / "tuning"
TRIALS = 10


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets every process that is started here find the toys."""
    monkeypatch.syspath_prepend(str(TOYS))
    from search_toys import USED, toys_site

    (tmp_path / "site").mkdir()
    monkeypatch.setenv("PYTHONPATH", toys_site(tmp_path / "site"))
    monkeypatch.setenv("DYNMM_PLUGINS", ",".join([*USED, "toys"]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def pipeline(folder: Path, **search: Any) -> Path:
    generate_dataset(folder / "media", n_users=60, n_items=40).save(folder / "data")
    document = {
        "version": 1,
        "data": {"name": "saved_dataset", "config": {"path": str(folder / "data")}},
        "split": {"strategy": "leave_one_out"},
        "baseline": {
            "name": "toy",
            "config": {"seconds": 2.0, "epochs": 10, "log": str(folder / "log")},
        },
        "compute": {"device": "cpu"},
        "search": {
            "trials": TRIALS,
            "engine": "ray",
            "space": {"baseline.config.quality": {"float": {"low": 0.0, "high": 1.0}}},
            **search,
        },
    }
    path = folder / "p.yaml"
    path.write_text(json.dumps(document))
    return path


def begin(*words: str) -> subprocess.Popen[str]:
    start = "from dynmm_framework.cli.app import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", start, "tune", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Ctrl-C is for this command alone, and a shell may have told its children to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def trained(folder: Path) -> list[str]:
    log = folder / "log"
    return log.read_text().splitlines() if log.exists() else []


def wait_for(folder: Path, n: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while len(trained(folder)) < n and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("attempt", range(3))
def test_a_killed_node_costs_no_trial(attempt: int, tmp_path: Path, toys: None) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=node)
    try:
        second = cluster.add_node(**node)
        path = pipeline(tmp_path)
        process = begin(
            str(path), "--address", cluster.address, "--runs", str(tmp_path / "runs"), "--no-test"
        )
        wait_for(tmp_path, 4, process)
        cluster.remove_node(second, allow_graceful=False)
        output, _ = process.communicate(timeout=400)
    finally:
        cluster.shutdown()
    assert process.returncode == 0, output
    found = Search.load(next((tmp_path / "runs").glob("*-search-*")))
    assert found.manifest.engine.startswith("ray: 2 at once")
    assert [trial.number for trial in found.trials] == list(range(1, TRIALS + 1))
    assert {trial.state for trial in found.trials} == {"finished"}
    again = [trial for trial in found.trials if trial.attempts > 1]
    assert len(again) == 1  # what ran on the killed node was begun anew on the other
    assert len(trained(tmp_path)) == TRIALS + 1
    assert found.best_file.is_file()


@pytest.mark.timeout(600)
def test_ctrl_c_ends_workers_and_leaves_a_usable_result(tmp_path: Path, toys: None) -> None:
    pytest.importorskip("ray")
    path = pipeline(tmp_path, concurrency=2)
    process = begin(str(path), "--runs", str(tmp_path / "runs"))
    wait_for(tmp_path, 4, process)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "go on with --resume" in output
    (folder,) = (tmp_path / "runs").glob("*-search-*")
    left = Search.load(folder)
    assert left.manifest.status == "interrupted"
    assert left.best_file.is_file()
    assert left.report.is_file()
    n = len(trained(tmp_path))
    time.sleep(3)
    assert len(trained(tmp_path)) == n  # nobody works on
    process = begin(str(path), "--runs", str(tmp_path / "runs"), "--resume")
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    found = Search.load(folder)
    assert len(found.trials) == TRIALS
    assert found.trials[: len(left.trials)] == left.trials
    assert "On test users, whom no trial saw" in output
