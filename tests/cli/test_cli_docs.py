"""The page of all commands is what the commands say of themselves.

``DYNMM_WRITE_DOCS=1 pytest tests/cli/test_cli_docs.py`` writes it anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dynmm_framework.cli.app import COMMANDS, build_cli
from dynmm_framework.cli.command import LazyCommand

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
INTRODUCTION = """\
# Commands

What `dynmm … --help` prints, command by command; a test keeps this page as it is. Results go to
standard output, everything else to standard error. Exit codes: 0 success, 1 a bug or a
number that `dynmm registry verify` finds missed, 2 an error with a message that says what to do,
130 interrupted by Ctrl-C (the same command resumes).
`DYNMM_CACHE`, `DYNMM_RUNS`, `DYNMM_PLUGINS`, `DYNMM_STRICT_PLUGINS` and `DYNMM_DEBUG` in the
environment set the cache folder, the folder of runs, the plugins to load, whether a failing
plugin is an error, and whether errors show their traceback.
"""


def pages() -> list[tuple[str, ...]]:
    """Returns the words of every command, those of a group after it."""
    root = build_cli()
    found: list[tuple[str, ...]] = [()]
    for name in COMMANDS:
        found.append((name,))
        stub = root.commands[name]
        assert isinstance(stub, LazyCommand)
        command = stub.load()
        if isinstance(command, click.Group):
            found += [(name, sub) for sub in command.commands]
    return found


def document() -> str:
    parts = [INTRODUCTION]
    for words in pages():
        result = CliRunner().invoke(build_cli(), [*words, "--help"], env={"DYNMM_PLUGINS": ""})
        assert result.exit_code == 0
        text = "\n".join(line.rstrip() for line in result.stdout.splitlines())
        heading = "#" * max(2, len(words) + 1)
        parts.append(f"{heading} {' '.join(['dynmm', *words])}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def test_the_page_of_commands_is_up_to_date(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    if os.environ.get("DYNMM_WRITE_DOCS"):
        PAGE.write_text(document(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == document(), (
        "docs/commands.md is out of date: DYNMM_WRITE_DOCS=1 pytest tests/cli/test_cli_docs.py"
    )
