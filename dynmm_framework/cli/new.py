"""``dynmm new``: a plugin to start from."""

from __future__ import annotations

import importlib.util
import keyword
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dynmm_framework.cli.command import Group
from dynmm_framework.cli.invocation import Invocation

if TYPE_CHECKING:
    from dynmm_framework.catalogue import Catalogue

TEMPLATE = Path(__file__).parent.parent / "templates" / "plugin"
KINDS = ("backbone", "baseline", "encoder", "adapter", "evidence", "language_model", "dataset")
"""Kinds that the template knows."""
SLOTS = ("align", "online")
"""Slots of adapters that the template knows."""


@click.group(cls=Group, examples=("dynmm new plugin my_model --kind backbone",))
def command() -> None:
    """Starts a plugin of your own."""


@command.command(
    "plugin",
    examples=(
        "dynmm new plugin my_model --kind backbone",
        "dynmm new plugin my_adapter --kind adapter --slot online --to plugins/my-adapter",
    ),
)
@click.argument("name")
@click.option("--kind", required=True, metavar="KIND", help=f"One of {', '.join(KINDS)}.")
@click.option("--slot", metavar="SLOT", help="For adapters: align (the default) or online.")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the project, new or empty; by default dynmm-NAME here.",
)
@click.pass_obj
def plugin(
    invocation: Invocation, name: str, kind: str, slot: str | None, folder: Path | None
) -> None:
    """Writes a plugin that works, to be changed into your own.

    It is a distribution: entry point, settings, a minimal component, its conformance test, an
    example. NAME is what pipelines call it. The folder is written as a whole or not at all.
    """
    from dynmm_framework.errors import ConfigError, Problem

    target = folder if folder is not None else Path(f"dynmm-{name.replace('_', '-')}")
    problems = [
        *_name_problems(invocation.catalogue, name),
        *_kind_problems(kind, slot),
        *_folder_problems(target),
    ]
    if problems:
        raise ConfigError(map(Problem, problems), hint="Nothing was written.")
    _render(target, {"name": name, "kind": kind, "slot": slot or SLOTS[0]})
    invocation.line(f"{target}: the {kind.replace('_', ' ')} {name}. Next:")
    invocation.line(f"  cd {target} && pip install -e '.[test]'")
    invocation.line(f"  dynmm plugins info {name}")
    invocation.line("  pytest")


def _name_problems(catalogue: Catalogue, name: str) -> list[str]:
    """Returns what is wrong with a name; a later check is made only if the former ones pass."""
    from dynmm_framework.specs import KINDS as ALL
    from dynmm_framework.specs import fold

    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
        suggestion = fold(name)
        better = suggestion.isidentifier() and not keyword.iskeyword(suggestion)
        also = f"; write {suggestion}" if better else "; begin with a letter, as in my_model"
        if keyword.iskeyword(name):
            return [f"name {name!r} is a keyword of Python; choose another, as my_{name}"]
        return [f"name {name!r} is not an identifier of Python{also}"]
    if fold(name) != name:
        return [f"name {name!r} is not lower case with single underscores; write {fold(name)}"]
    taken = [found for kind in ALL for found in catalogue.components(kind) if found.name == name]
    if taken:
        found = taken[0]
        return [
            f"name {name!r} would shadow the installed {found.kind.replace('_', ' ')}"
            f" {found.name} of {found.provider.distribution}; choose another"
        ]
    entries = [status for status in catalogue.plugins if status.name == name]
    if entries:
        return [
            f"name {name!r} would shadow the installed plugin {name} of"
            f" {entries[0].provider.distribution}; choose another"
        ]
    if any(spec.name == name for spec, _ in catalogue.metrics()):
        return [f"name {name!r} is that of a metric; choose another"]
    if importlib.util.find_spec(f"dynmm_{name}") is not None:
        return [
            f"name {name!r}: a package dynmm_{name} is installed already, which the new one would"
            " shadow; choose another"
        ]
    return []


def _kind_problems(kind: str, slot: str | None) -> list[str]:
    from dynmm_framework.specs import did_you_mean

    problems = []
    if kind not in KINDS:
        guess = did_you_mean(kind, KINDS) or f"; there are {', '.join(KINDS)}"
        problems.append(f"no such kind: {kind!r}{guess}")
    if slot is not None and kind in KINDS and kind != "adapter":
        problems.append(f"slot {slot!r}: only adapters have one")
    elif slot == "prompt":
        problems.append(
            "slot 'prompt': there is no template for it yet; PromptConformance tests one of yours"
        )
    elif slot is not None and slot not in SLOTS:
        guess = did_you_mean(slot, SLOTS) or f"; there are {', '.join(SLOTS)}"
        problems.append(f"no such slot: {slot!r}{guess}")
    return problems


def _folder_problems(folder: Path) -> list[str]:
    if folder.exists() and not folder.is_dir():
        return [f"folder {folder}: there is a file of that name; choose another with --to"]
    if folder.is_dir() and any(folder.iterdir()):
        return [f"folder {folder}: exists and is not empty; choose another with --to"]
    return []


def _render(folder: Path, answers: dict[str, str]) -> None:
    """Renders the template as a whole.

    Raises:
        PluginError: If the library that renders is not installed.
        ArtifactError: If the folder cannot be written.
    """
    from dynmm_framework.artifacts.atomic import atomic_folder
    from dynmm_framework.errors import PluginError

    try:
        import copier
    except ModuleNotFoundError as error:
        raise PluginError(
            f"dynmm new needs {error.name}, which is not installed",
            hint="pip install 'dynmm-framework[new]'",
        ) from error
    with atomic_folder(folder) as temporary:
        copier.run_copy(str(TEMPLATE), temporary, data=answers, defaults=True, quiet=True)
