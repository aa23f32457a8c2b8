"""Commands that pages show exist, with their options; of dynmm, make, pip and Python."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
from documented import PAGES, ROOT, Block, blocks, lines_of

from dynmm_framework.catalogue import Catalogue, load_catalogue
from dynmm_framework.cli.app import build_cli
from dynmm_framework.cli.command import LazyCommand
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.errors import DynmmError
from dynmm_framework.specs import KINDS

OVERRIDABLE = ("run", "validate", "plan", "tune")
SIGNS = "|&;<>"


def commands(line: str) -> Iterator[list[str]]:
    """Yields the commands of a line of the shell, without redirections and assignments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=SIGNS)
    lexer.whitespace_split = True
    words: list[str] = []
    skipped = False
    for word in lexer:
        if set(word) <= set(SIGNS):
            skipped = "<" in word or ">" in word
            if not skipped:
                yield words
                words = []
        elif skipped:
            skipped = False
        elif words or not re.fullmatch(r"[A-Z_]+=.*", word):
            words.append(word)
    if words:
        yield words


@cache
def root() -> click.Group:
    return build_cli()


def complaint(words: list[str], *, whole: bool = True) -> str:
    """Returns what the command line has against a command, without running it.

    Args:
        words: The command, from the word after ``dynmm`` on.
        whole: Whether it is meant to be run as it stands, with all that is required.
    """
    command: click.Command = root()
    context = click.Context(command, info_name="dynmm")
    try:
        while True:
            options, rest, _ = command.make_parser(context).parse_args(list(words))
            if not isinstance(command, click.Group):
                return _unfit(command, context, options, rest, whole=whole)
            if not rest:
                return ""
            name, words = rest[0], rest[1:]
            found = command.commands.get(name)  # without those of plugins
            if found is None:
                return f"there is no command {name!r}"
            command = found.load() if isinstance(found, LazyCommand) else found
            context = click.Context(command, info_name=name, parent=context)
    except click.UsageError as error:
        return error.format_message()


def _unfit(
    command: click.Command,
    context: click.Context,
    options: dict[str, object],
    rest: list[str],
    *,
    whole: bool,
) -> str:
    if rest:
        return f"takes no {rest}"
    if not whole or options.get("help"):
        return ""
    for parameter in command.get_params(context):
        value = options.get(str(parameter.name))
        given = value is not None and value != () and not str(value).startswith("Sentinel")
        if not given and parameter.required:
            return f"lacks {parameter.name}"
        if given and isinstance(parameter.type, click.Choice | click.IntRange):
            for part in value if isinstance(value, list | tuple) else (value,):
                parameter.type.convert(part, parameter, context)
    return ""


def misnamed(words: list[str], catalogue: Catalogue) -> str:
    """Returns which setting of a command does not exist."""
    settings = [word.partition("=")[0] for word in words if re.match(r"[a-z_.]+=", word)]
    if words[0] in OVERRIDABLE:
        unknown = [key for key in settings if key.partition(".")[0] not in Pipeline.model_fields]
        if (ROOT / words[1]).is_file():
            overrides = [word for word in words[2:] if re.match(r"[a-z_.]+=", word)]
            try:
                load_pipeline(ROOT / words[1], overrides=overrides, catalogue=catalogue)
            except DynmmError as error:
                return str(error)
    elif words[:2] == ["plugins", "check"] and len(words) > 2 and settings:
        model = catalogue.config_model(catalogue.find(KINDS, words[2]))
        unknown = [key for key in settings if key.partition(".")[0] not in model.model_fields]
    else:
        return ""
    return f"there is no {unknown}" if unknown else ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run pipeline.yaml seed=1 --offline", ""),
        ("--help", ""),
        ("run --help", ""),
        ("-v run pipeline.yaml", ""),
        ("plugins list --kind backbone", ""),
        ("rum pipeline.yaml", "there is no command 'rum'"),
        ("plugins lst", "there is no command 'lst'"),
        ("run pipeline.yaml --ofline", "No such option"),
        ("recommend", "lacks run"),
        ("recommend RUN -k 0", "0 is not in the range"),
        ("vectors RUN --format csv", "'csv' is not one of"),
        ("doctor now", "takes no ['now']"),
    ],
)
def test_a_wrong_command_is_told_from_a_right_one(line: str, said: str):
    found = complaint(shlex.split(line))
    assert said in found
    assert bool(said) == bool(found)


def test_lines_of_the_shell_are_taken_apart():
    line = "A=1 dynmm schema > x.json && tail -f x | dynmm stream RUN --from-file -"
    assert list(commands(line)) == [
        ["dynmm", "schema"],
        ["tail", "-f", "x"],
        ["dynmm", "stream", "RUN", "--from-file", "-"],
    ]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture(scope="module")
def extras() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"])


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("block", blocks("bash", "sh", "console", "shell"), ids=str)
def test_commands_of_a_block_exist(block: Block, catalogue: Catalogue, extras: set[str]):
    for line in lines_of(block):
        for program, *words in commands(re.sub(r"(^|\s)#.*", "", line)):
            if program == "dynmm":
                own = "third_party" in str(block.page) or block.page.stem == "tutorial"
                wrong = complaint(words) or ("" if own else misnamed(words, catalogue))
                assert not wrong, f"{line}: {wrong}"
            elif program == "make":
                assert {word for word in words if "=" not in word} <= targets(), line
            elif program == "pip":
                named = re.findall(r"(?:^|\s)(?:\.|dynmm-framework)\[([\w,]+)\]", " ".join(words))
                assert {extra for text in named for extra in text.split(",")} <= extras, line
            elif program == "python" and words[0].endswith(".py"):
                assert (ROOT / words[0]).is_file(), line
            elif program == "nox":
                sessions = re.findall(r"def (\w+)\(session", (ROOT / "noxfile.py").read_text())
                assert words[-1] in sessions, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_sentences_exist(page: Path, extras: set[str]):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for found in re.findall(r"`((?:dynmm|make|pip install) [^`]+)`", text):
        line = " ".join(found.split())
        if any(sign in line for sign in "…|<>") or "COMMAND" in line:
            continue
        program, *words = shlex.split(line)
        if program == "dynmm":
            words = [word for word in words if not re.fullmatch(r"\[.*\]\.*", word)]
            wrong = complaint(words, whole=False)
            assert not wrong, f"{line}: {wrong}"
        elif program == "make":
            assert {word for word in words if "=" not in word} <= targets(), line
        else:
            named = re.findall(r"(?:\.|dynmm-framework)\[([\w,]+)\]", line)
            assert {extra for part in named for extra in part.split(",")} <= extras, line
