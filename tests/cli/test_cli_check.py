"""``dynmm plugins check``: the conformance kit on what is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FORGETFUL = """
import numpy as np
from dynmm_framework import ComponentSpec, hookimpl
from dynmm_framework.config.blocks import Block


class Config(Block):
    noise: float
    '''How much is added.'''


class Forgetful:
    def __init__(self, config):
        self.noise = config.noise

    def fit(self, data, ctx):
        self.counts = data.train.item_counts().astype(np.float32)

    def score(self, histories, candidates=None):
        everyone = np.tile(self.counts + self.noise, (len(histories), 1))
        return everyone if candidates is None else np.take_along_axis(everyone, candidates, 1)

    def get_state(self):
        return {}

    def load_state(self, state):
        pass


@hookimpl
def dynmm_register_baselines():
    return [ComponentSpec(name="forgetful", target="acme_plugin:Forgetful",
                          config="acme_plugin:Config", summary="Forgets")]
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment with a plugin that forgets what it learned, and one that does not load."""
    site = tmp_path / "site"
    info = site / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_plugin.py").write_text(FORGETFUL)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[dynmm_framework.plugins]\nforgetful = acme_plugin\ngone = acme_gone\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONPATH": path, "PYTEST_ADDOPTS": "--no-such-option"}


def run(env: dict[str, str], cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = "from dynmm_framework.cli.app import main; main()"
    command = [sys.executable, "-c", program, "plugins", "check", *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, check=False)


def test_what_fails_is_named_with_its_reason(environment, tmp_path):
    (tmp_path / "conftest.py").write_text("raise RuntimeError('not this project')")
    done = run(environment, tmp_path, "acme/forgetful", "noise=0.5", "--json")
    assert done.returncode == 2, done.stderr
    findings = {found["check"]: found for found in json.loads(done.stdout)}
    bad = {check for check, found in findings.items() if found["outcome"] in ("failed", "error")}
    assert bad == {"saved and restored scores are equal"}
    (name,) = bad
    assert "get_state() must return the learned arrays" in findings[name]["reason"]
    assert findings["it trains"] | {"seconds": 0} == {
        "kind": "baseline", "component": "forgetful", "check": "it trains",
        "outcome": "passed", "reason": "", "seconds": 0,
    }  # fmt: skip
    assert findings["metrics are in the expected range"]["outcome"] == "passed"
    assert "checking baseline forgetful of acme==1.0" in done.stderr


def test_without_a_name_registration_and_settings_of_all_are_checked(environment, tmp_path):
    only = {**environment, "DYNMM_PLUGINS": "popularity,forgetful,gone,ranking_metrics"}
    done = run(only, tmp_path)
    assert done.returncode == 2, done.stderr
    assert "baseline popularity: 5 of 5 checks pass" in done.stdout
    assert "baseline forgetful: 4 of 5 checks pass" in done.stdout
    assert "it has no defaults for noise" in done.stderr
    assert "plugin gone: plugin gone of acme==1.0: ModuleNotFoundError" in done.stdout
    assert done.stdout.splitlines()[-1] == "9 passed, 1 skipped, 1 error"


MISTAKES = {
    "popularitee": "unknown backbone or encoder",
    "ease regularisation=x alpa=1": "2 problems",
    "interaction_file": "path: Field required",
    "interaction_file path": "write it as path=value",
    "loss=ce": "settings are those of a component: write NAME before loss=ce",
    "ndcg": "ndcg is a metric; there is no conformance class for metrics",
    "ease --kind basline": "no such kind: 'basline'; did you mean baseline?",
    "sasrec --kind baseline": "it is a backbone",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_are_said_before_anything_runs(dynmm, monkeypatch, line):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it ran"))
    result = dynmm("plugins", "check", *line.split())
    assert result.exit_code == 2, result.stderr
    assert MISTAKES[line] in result.stderr


def test_without_pytest_the_message_says_what_to_install(dynmm, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pytest" else find(name)
    )
    result = dynmm("plugins", "check", "popularity")
    assert result.exit_code == 2
    assert "the conformance kit needs pytest, not installed here" in result.stderr
    assert "pip install pytest 'dynmm-framework[torch]'" in result.stderr
