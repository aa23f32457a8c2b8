"""``dynmm registry``: the reviewed records of datasets, models, components and pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dynmm_framework.cli.arguments import json_option
from dynmm_framework.cli.command import Group
from dynmm_framework.cli.guard import OK, USER_ERROR
from dynmm_framework.cli.invocation import Invocation, clipped

if TYPE_CHECKING:
    from dynmm_framework.artifacts.records import Record, Registry
    from dynmm_framework.artifacts.sources import Fetcher

KIND = click.Choice(["dataset", "model", "component", "pipeline"])


@click.group(
    cls=Group,
    examples=("dynmm registry list", "dynmm registry show movielens_100k"),
)
def command() -> None:
    """Looks into the registry's records."""


def load_registry(invocation: Invocation) -> Registry:
    """Returns the records that are in order; the others are warned about."""
    from dynmm_framework.artifacts.records import Registry

    registry = Registry.load(invocation.catalogue.record_folders(), strict=False)
    for problem in registry.problems:
        invocation.note(f"Warning: a record is left out: {problem}")
    return registry


def cache_fetcher() -> Fetcher:
    """Returns a fetcher that only looks at what is in the cache."""
    from dynmm_framework.artifacts.sources import Fetcher, default_cache

    return Fetcher(default_cache(), offline=True)


def cached_folder(record: Record, fetcher: Fetcher) -> Path | None:
    """Returns where a record's files are in the cache; ``None`` if they are not."""
    if record.kind == "dataset" or record.kind == "model":
        return fetcher.folder(record)
    return None


def cache_state(record: Record, fetcher: Fetcher) -> str:
    """Returns ``cached``, ``not fetched`` or ``by hand``; empty for records without files."""
    if record.kind != "dataset" and record.kind != "model":
        return ""
    if cached_folder(record, fetcher) is not None:
        return "cached"
    return "not fetched" if record.sources else "by hand"


@command.command(
    "list",
    examples=("dynmm registry list", "dynmm registry list --kind model --json"),
)
@click.option("--kind", type=KIND, help="Only this kind.")
@json_option
@click.pass_obj
def list_records(invocation: Invocation, kind: str | None, as_json: bool) -> None:
    """Lists the records, with what is in the cache."""
    registry, fetcher = load_registry(invocation), cache_fetcher()
    rows = [
        {
            "kind": record.kind,
            "name": record.name,
            "summary": record.summary,
            "licence": record.licence,
            "state": cache_state(record, fetcher),
        }
        for record in registry.records()
        if kind in (None, record.kind)
    ]
    if as_json:
        invocation.json(rows)
        return
    invocation.table(
        ("kind", "name", "files", "summary"),
        ((row["kind"], row["name"], row["state"], clipped(row["summary"])) for row in rows),
    )


@command.command(
    "show",
    examples=(
        "dynmm registry show movielens_100k",
        "dynmm registry show dataset/movielens_1m --json",
    ),
)
@click.argument("name")
@json_option
@click.pass_obj
def show(invocation: Invocation, name: str, as_json: bool) -> None:
    """Shows a record: paper, licence, sources, digests, verified metrics.

    NAME is a record's name, or kind/name if several kinds have it.
    """
    registry = load_registry(invocation)
    record = registry.find(name)
    fields = record.model_dump(mode="json", exclude_defaults=True)
    document = {"kind": record.kind, "name": record.name, **fields}
    if as_json:
        invocation.json({**document, "file": registry.path(record)})
        return
    from dynmm_framework.reports.text import as_yaml, printable

    for line in as_yaml(document).splitlines():
        invocation.line(printable(line))
    if record.kind in ("dataset", "model"):
        fetcher = cache_fetcher()
        found = cached_folder(record, fetcher) or cache_state(record, fetcher)
        invocation.line(f"# files: {found}")
    invocation.line(f"# record: {registry.path(record)}")


@command.command(
    "verify",
    examples=("dynmm registry verify", "dynmm registry verify movielens_100k --json"),
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
@click.pass_obj
def verify(invocation: Invocation, names: tuple[str, ...], as_json: bool) -> int:
    """Compares the cached files with their records' digests.

    Every byte is read; nothing is fetched. Exits with code 2 if a file is damaged or a record is
    wrong. Without NAME all datasets and models are looked at.
    """
    from dynmm_framework.artifacts.records import Registry

    registry = Registry.load(invocation.catalogue.record_folders(), strict=False)
    fetcher = cache_fetcher()
    chosen = (
        [registry.find_files(name) for name in names]
        if names
        else [record for record in registry.records() if record.kind in ("dataset", "model")]
    )
    findings = [finding for record in chosen for finding in fetcher.verify(record)]
    rows: list[dict[str, Any]] = [
        {
            "record": finding.record,
            "file": None if finding.file is None else str(finding.file),
            "status": finding.status,
            "message": finding.message,
        }
        for finding in findings
    ]
    rows += [
        {"record": None, "file": problem.file, "status": "wrong", "message": str(problem)}
        for problem in registry.problems
    ]
    if as_json:
        invocation.json(rows)
    else:
        invocation.table(
            ("record", "status", "file", "reason"),
            (
                (row["record"] or "", row["status"], row["file"] or "", row["message"])
                for row in rows
            ),
        )
    bad = any(row["status"] in ("damaged", "wrong") for row in rows)
    return USER_ERROR if bad else OK
