"""Help, versions and misspelt words."""

from __future__ import annotations

import importlib
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from dynmm_framework.cli.app import COMMANDS, build_cli
from dynmm_framework.cli.command import Command, LazyCommand


def leaves() -> Iterator[tuple[str, click.Command]]:
    """Yields every command of ours with its words, groups included."""
    for name, entry in COMMANDS.items():
        command = importlib.import_module(entry.module).command
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", c) for sub, c in command.commands.items())


LEAVES = dict(leaves())


@pytest.mark.parametrize("words", LEAVES)
def test_every_command_has_a_summary_examples_and_documented_options(words):
    command = LEAVES[words]
    assert isinstance(command, Command)
    assert (command.help or "").partition("\n")[0].endswith(".")
    assert command.examples
    for example in command.examples:
        assert example.startswith((f"dynmm {words}", "#")), example
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, param.name


@pytest.mark.parametrize("words", LEAVES)
def test_the_help_of_every_command_ends_with_its_examples(dynmm, words):
    result = dynmm(*words.split(), "--help")
    assert result.exit_code == 0
    assert result.stdout.rstrip().endswith(LEAVES[words].examples[-1])
    assert "Examples:" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "\x1b" not in result.stdout


def test_examples_use_options_that_exist():
    for command in LEAVES.values():
        for example in command.examples:
            words = example.partition("|")[0].split()
            if words[0] == "#" or "COMMAND" in words:
                continue
            used = LEAVES.get(" ".join(words[1:3])) or LEAVES[words[1]]
            known = {name for param in used.params for name in param.opts} | {"--help"}
            assert {word for word in words if word.startswith("-")} <= known, example


def test_the_table_of_summaries_agrees_with_the_commands():
    for name, entry in COMMANDS.items():
        command = importlib.import_module(entry.module).command
        first = (command.help or "").partition("\n\n")[0]
        assert " ".join(first.split()) == entry.summary, name
        assert command.name == "command" or command.name == name


def test_the_root_help_lists_every_command_by_section(dynmm):
    lines = dynmm("--help").stdout.splitlines()
    for section in ("Pipelines:", "Runs:", "Resources:", "Options:", "Examples:"):
        assert section in lines
    for name, entry in COMMANDS.items():
        assert any(line.split()[:1] == [name] and entry.summary in line for line in lines)


def test_no_arguments_print_the_help(dynmm):
    result = dynmm()
    assert result.exit_code == 2
    assert "Pipelines:" in result.stderr


def test_version_is_that_of_the_distribution(dynmm):
    from importlib.metadata import version

    assert dynmm("--version").stdout == f"dynmm {version('dynmm-framework')}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu"], "no such command: 'rnu'; did you mean run?"),
        (["data", "chekc"], "no such command: 'chekc'; did you mean check?"),
        (["frobnicate"], "no such command: 'frobnicate'; the commands are run, validate, plan"),
        (["plan", "x.yaml", "--jsn"], "--jsn"),
        (["plugins", "list", "--kind", "backbon"], "did you mean backbone?"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_closest_one(dynmm, words, message):
    result = dynmm(*words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "--help" in result.stderr
    assert result.stdout == ""


def test_common_options_are_understood_after_the_command_too(dynmm):
    for words in (["-q", "plugins", "list"], ["plugins", "list", "-q"], ["plugins", "-v", "list"]):
        assert dynmm(*words).exit_code == 0


def test_the_root_stands_for_its_commands_without_importing_them():
    root = build_cli()
    assert all(isinstance(root.commands[name], LazyCommand) for name in COMMANDS)


def test_a_terminal_gets_panels_and_no_color_is_respected(tmp_path):
    program = "from dynmm_framework.cli.app import main; main()"
    texts = {}
    for no_color in ("", "1"):
        parent, child = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
        environment.pop("NO_COLOR", None)
        if no_color:
            environment["NO_COLOR"] = no_color
        done = subprocess.Popen(
            [sys.executable, "-c", program, "run", "--help"], stdout=child, env=environment
        )
        os.close(child)
        chunks = []
        while True:
            try:
                chunk = os.read(parent, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            chunks.append(chunk)
        os.close(parent)
        assert done.wait() == 0
        texts[no_color] = b"".join(chunks).decode()
    assert "╭" in texts[""]
    assert "Examples" in texts[""]
    assert "\x1b[36m" in texts[""] or "\x1b[1;36m" in texts[""]
    assert "36m" not in texts["1"]
