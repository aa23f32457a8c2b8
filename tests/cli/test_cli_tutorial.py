"""The tutorial and the quickstart, done as they say: every file written, every command run.

Data are generated, trainings are short, and the plugin is installed without pip; nothing else
differs from what a reader does.
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from documented import ROOT, Block, blocks_of, lines_of, write_events
from rendered_plugin import installed, run_its_tests

DOCS = ROOT / "docs"
PACKAGE = "dynmm_decayed_popularity"


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("events") / "events.csv"
    write_events(path)
    return path


@pytest.fixture
def small(events: Path) -> list[str]:
    """Overrides that put generated data in the place of MovieLens-100K."""
    return ["data.name=interaction_file", f"data.config.path={events}", "data.filters.k_core=0"]


def said(result: Result) -> str:
    return " ".join((result.stdout + result.stderr).split())


def settled(line: str) -> list[str]:
    """Returns the words of a command of dynmm."""
    program, *words = shlex.split(line, comments=True)
    assert program == "dynmm", line
    return words


# The tutorial


@pytest.fixture
def forgotten() -> Iterator[Callable[[], None]]:
    """Makes this process read the tutorial's package anew, as each command does that is started."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
        importlib.invalidate_caches()

    yield forget
    forget()


def put_in_place(block: Block, project: Path) -> None:
    """Writes a file of the page under the name that its first line gives."""
    path = project / block.title
    assert block.title, block
    assert path.parent.is_dir(), block
    path.write_text(block.text.partition("\n")[2])


def test_the_tutorial_does_what_it_says(dynmm, tmp_path, monkeypatch, small, forgotten):
    pytest.importorskip("copier", reason="the extra `new` is not installed: no copier")
    pytest.importorskip("optuna", reason="the extra `tune` is not installed: no optuna")
    project = tmp_path / "dynmm-decayed-popularity"
    env: dict[str, str] = {}
    output, tested = "", 0
    ran = []

    def do(line: str) -> str:
        nonlocal env, tested
        if line.startswith("cd "):
            monkeypatch.chdir(line.removeprefix("cd "))
            assert Path.cwd() == project
        elif line.startswith("pip "):
            assert line == "pip install -e '.[test]'"
            env = installed(project, tmp_path / "site")
            for folder in (tmp_path / "site", project / "src"):
                monkeypatch.syspath_prepend(folder)
        elif line == "pytest":
            tested += 1
            if tested > 1:  # what is rendered passes its tests in test_cli_new.py
                status, output = run_its_tests(project, env)
                assert status == 0, output
                return output
        else:
            words = settled(line)
            ran.append(words[0])
            if words[0] in ("run", "tune"):
                words += small
            if words[0] == "tune":
                words += ["--trials", "2"]
            forgotten()
            result = dynmm(*words)
            assert result.exit_code == 0, f"{line}: {said(result)}"
            return said(result)
        return ""

    for block in blocks_of(DOCS / "tutorial.md"):
        if block.language == "bash":
            for line in lines_of(block):
                output = do(line)
        elif block.language == "text" and block.text.startswith("override"):
            result = dynmm("validate", "example.yaml", "backbone.config.half_life=0")
            assert result.exit_code == 2
            assert said(result) == " ".join(block.text.split())
        elif block.language == "text":
            for line in block.text.splitlines():
                assert "──" in line or " ".join(line.split()) in output, line
        else:
            put_in_place(block, project)
    assert tested == 2
    assert ran == ["new", "plugins", "plugins", "plugins", "validate", "run", "run", "tune"]
    assert list((project / "runs").glob("*/best.yaml"))
    reports = list((project / "runs").glob("example-*/report.html"))
    assert len(reports) >= 2


# The quickstart


def test_the_quickstart_does_what_it_says(dynmm, tmp_path, monkeypatch, small):
    page = DOCS / "quickstart.md"
    (pipeline,) = blocks_of(page, "yaml")
    Path("first.yaml").write_text(pipeline.text)
    quick = [*small, "backbone.config.epochs=1"]
    placeholders: dict[str, str] = {}

    def run_of(word: str) -> str:
        """Puts the runs that there are in the place of the page's, in their order."""
        if not re.fullmatch(r"first-[0-9a-f]{2}", word):
            return word
        if word not in placeholders:
            runs = sorted(Path("runs").glob("first-*"), key=lambda path: path.stat().st_mtime)
            placeholders[word] = runs[len(placeholders)].name
        return placeholders[word]

    ran = []
    for block in blocks_of(page, "bash"):
        for line in lines_of(block):
            if not line.startswith("dynmm "):
                assert line.partition(" ")[0] in ("make", "source"), line
                continue
            words = [run_of(word) for word in settled(line)]
            result = dynmm(*words, *(quick if words[0] in ("plan", "run") else ()))
            # A machine that lacks something is no fault of the page.
            assert result.exit_code == 0 or words == ["doctor"], f"{line}: {result.stderr}"
            ran.append(words[0])
    assert ran == [
        "--help", "doctor", "validate", "plan", "run",
        "plugins", "run", "compare", "recommend", "recommend", "vectors",
    ]  # fmt: skip
    assert len(placeholders) == 2
    (example,) = blocks_of(page, "python")
    text = example.text.replace('"first.yaml"', f'"first.yaml", overrides={quick!r}')
    exec(compile(text, "quickstart.md", "exec"), {})
