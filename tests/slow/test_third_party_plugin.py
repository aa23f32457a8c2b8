"""The example of a plugin in a distribution of its own, used as if it were installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "examples" / "third_party_plugin"
pytestmark = pytest.mark.slow


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment in which it is found; the metadata are those that pip writes."""
    info = tmp_path / "dynmm_gru4rec-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dynmm-gru4rec\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(
        "[dynmm_framework.plugins]\ngru4rec = dynmm_gru4rec.plugin\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(PROJECT / "src")])}


def call(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=PROJECT, env=env, check=False
    )


def test_its_own_tests_pass(env: dict[str, str]) -> None:
    done = call(env, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_pipeline_is_valid_and_its_settings_are_described(env: dict[str, str]) -> None:
    program = "from dynmm_framework.cli.app import main; main()"
    done = call(env, "-c", program, "validate", "pipeline.yaml")
    assert done.stdout == "pipeline.yaml: ok\n", done.stdout + done.stderr
    done = call(env, "-c", program, "plugins", "info", "gru4rec")
    assert "gru4rec (backbone): Recurrent network" in done.stdout
    assert "Recurrent layers (paper: 1)." in done.stdout
