"""Plugins as `dynmm new plugin` writes them, installed without pip."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

KINDS = (
    "backbone", "baseline", "encoder", "align", "online", "evidence", "language_model", "dataset",
)  # fmt: skip
"""What the template knows: kinds, and the slots of adapters."""


def words(name: str, kind: str) -> list[str]:
    """Returns the arguments that make a plugin of a kind, or of an adapter's slot."""
    slot = ["--slot", kind] if kind in ("align", "online") else []
    return ["new", "plugin", name, "--kind", "adapter" if slot else kind, *slot]


def installed(project: Path, site: Path) -> dict[str, str]:
    """Puts a project on the path as an editable installation does; returns the environment.

    What pip would write is a folder of metadata with the entry points of pyproject.toml, which is
    all by which plugins are found.
    """
    meta = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    info = site / f"{meta['name'].replace('-', '_')}-{meta['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {meta['name']}\nVersion: {meta['version']}\n"
    )
    ((group, entries),) = meta["entry-points"].items()
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    path = [str(site), str(project / "src"), os.environ.get("PYTHONPATH", "")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    kept.pop("DYNMM_PLUGINS", None)
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, path)), "DYNMM_STRICT_PLUGINS": "1"}


def call(env: dict[str, str], cwd: Path, *arguments: str) -> tuple[int, str]:
    """Runs a Python module; returns its exit status and output."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)
    return done.returncode, done.stdout + done.stderr


def run_its_tests(project: Path, env: dict[str, str]) -> tuple[int, str]:
    """Runs a project's own tests."""
    return call(env, project, "pytest", "-q", "-p", "no:cacheprovider", "-W", "error")
