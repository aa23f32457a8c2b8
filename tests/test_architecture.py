"""The house rules that a machine can check: layers, light doors, wheel contents."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {
    "torch", "torchaudio", "torchvision", "transformers", "ray", "faiss", "sklearn", "scipy",
    "matplotlib", "polars", "pandas", "pyarrow", "open_clip", "peft", "datasets",
}  # fmt: skip


def imported_by(*arguments: str) -> set[str]:
    """Returns the top-level names of the modules that a Python call imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().partition(".")[0] for line in lines}


def command_line(*arguments: str) -> str:
    """Returns a program that does what ``dynmm ARGUMENTS`` does."""
    start = "from dynmm_framework.cli.app import main; main()"
    return f"import sys; sys.argv = {['dynmm', *arguments]!r}; {start}"


def test_the_package_and_the_help_import_nothing_heavy():
    program = command_line("--help")
    assert imported_by("-c", "import dynmm_framework") & HEAVY == set()
    assert imported_by("-c", program) & HEAVY == set()


def test_validating_and_planning_do_not_import_torch(tmp_path):
    for command in (["validate"], ["plan", "--runs", str(tmp_path)]):
        program = command_line(*command, "examples/quickstart.yaml")
        assert "torch" not in imported_by("-c", program)


@pytest.mark.parametrize(
    "entry", entry_points(group="dynmm_framework.plugins"), ids=lambda e: e.name
)
def test_a_plugin_door_imports_nothing_heavy(entry):
    if not entry.module.startswith("dynmm_"):
        pytest.skip("not ours")
    assert imported_by("-c", f"import {entry.module}") & HEAVY == set()


def test_every_plugin_folder_has_an_entry_point_and_the_same_files():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    doors = set(project["entry-points"]["dynmm_framework.plugins"].values())
    for folder in (ROOT / "plugins" / "dynmm_plugins").iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            assert f"dynmm_plugins.{folder.name}.plugin" in doors
            assert (folder / "plugin.py").is_file()


def test_the_wheel_holds_three_packages_and_no_plugins_folder(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        check=True, capture_output=True, cwd=ROOT,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {
        "dynmm_framework",
        "dynmm_plugins",
        "dynmm_registry",
    }
    files = zipfile.ZipFile(wheel).namelist()
    assert "dynmm_framework/py.typed" in files
    assert any(name.endswith("datasets/movielens_100k.yaml") for name in files)
    assert any(name.endswith("pipelines/sasrec_beauty.pipeline.yaml") for name in files)
    template = ROOT / "dynmm_framework" / "templates"
    wanted = {str(path.relative_to(ROOT)) for path in template.rglob("*") if path.is_file()}
    assert wanted <= set(files)
    assert "dynmm_framework/templates/plugin/copier.yml" in wanted


def test_modules_stay_short_enough_to_read():
    rooms = ["dynmm_framework", "plugins", "registry"]
    long = {
        str(path.relative_to(ROOT)): lines
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert long == {}
