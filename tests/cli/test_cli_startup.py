"""Start-up: what is imported, and how long it takes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

HEAVY = {
    "torch", "transformers", "ray", "faiss", "sklearn", "scipy", "matplotlib", "polars", "pandas",
    "pyarrow", "numpy", "pydantic", "jinja2", "rich", "ruamel",
}  # fmt: skip
LIMIT = 0.25
"""Seconds of processor time; benchmarks hold the figure of a quiet machine (under 0.15)."""

MAIN = "from dynmm_framework.cli.app import main; main()"


def imported_by(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", MAIN, *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip() for line in lines}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["data"]])
def test_help_imports_nothing_heavy(arguments):
    names = imported_by(*arguments)
    assert {name.partition(".")[0] for name in names} & HEAVY == set()


def test_the_root_help_imports_no_command():
    from dynmm_framework.cli.app import COMMANDS

    assert imported_by("--help") & {entry.module for entry in COMMANDS.values()} == set()


def test_listing_and_the_schema_import_no_torch():
    for arguments in (["plugins", "list"], ["schema"], ["registry", "list"], ["data", "list"]):
        tops = {name.partition(".")[0] for name in imported_by(*arguments)}
        assert tops & {"torch", "transformers", "sklearn", "scipy", "matplotlib"} == set()


def test_help_starts_fast():
    best = float("inf")
    for _ in range(12):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", MAIN, "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best = min(best, spent)
        if best < LIMIT:
            return
    pytest.fail(f"dynmm --help needs {best:.3f} s of processor time")


def test_completion_knows_commands_without_importing_them():
    done = subprocess.run(
        [sys.executable, "-c", MAIN],
        env={
            **os.environ,
            "_DYNMM_COMPLETE": "bash_complete",
            "COMP_WORDS": "dynmm re",
            "COMP_CWORD": "1",
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    words = {line.partition(",")[2] for line in done.stdout.splitlines()}
    assert words == {"report", "recommend", "registry"}
