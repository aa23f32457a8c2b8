"""The command line under test, and a small dataset with a pipeline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dynmm_framework.cli.app import build_cli

PIPELINE = """\
version: 1
data:
  name: interaction_file
  config: {path: DATA}
split: {strategy: leave_one_out}
baseline: item_knn
evaluate:
  protocols: [full, {sampled: 5}]
  at: [5, 10]
  compare_with: [popularity]
"""


@pytest.fixture
def dynmm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Runs a command in this process, in an empty folder with an empty cache."""
    monkeypatch.setenv("DYNMM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DYNMM_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str | Path, **settings: Any) -> Result:
        return CliRunner().invoke(build_cli(), [str(a) for a in arguments], **settings)

    return invoke


def start(*arguments: str | Path, env: Mapping[str, str] | None = None, **settings: Any) -> Any:
    """Starts a command in a process of its own."""
    program = "from dynmm_framework.cli.app import main; main()"
    environment = {"OMP_NUM_THREADS": "1", **os.environ, **(env or {})}
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=settings.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # A shell that starts the tests in the background has Ctrl-C ignored by all they start.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        **settings,
    )


@pytest.fixture
def process() -> Callable[..., Any]:
    return start


def the_json(result: Result) -> Any:
    """Returns standard output, which is one JSON document and nothing else."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def json_of() -> Callable[[Result], Any]:
    return the_json


def write_ratings(path: Path, *, n_users: int = 40, n_items: int = 30) -> Path:
    """Writes interactions in which neighbours in item number are liked together."""
    rng = np.random.default_rng(3)
    lines = ["user,item,timestamp"]
    for user in range(n_users):
        centre = rng.integers(n_items)
        items = rng.permutation(n_items)[:4].tolist()
        items += [(centre + step) % n_items for step in range(6)]
        lines += [f"u{user},i{item},{t}" for t, item in enumerate(dict.fromkeys(items))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ratings(tmp_path_factory.mktemp("data") / "ratings.csv")


@pytest.fixture(scope="session")
def small_pipeline(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Path:
    path = tmp_path_factory.mktemp("pipelines") / "small.yaml"
    path.write_text(PIPELINE.replace("DATA", str(small_data)), encoding="utf-8")
    return path
