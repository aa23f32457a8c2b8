"""``dynmm registry``: the reviewed records of datasets, models, components and pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dynmm_framework.cli.arguments import json_option, offline_option, runs_option
from dynmm_framework.cli.command import Group
from dynmm_framework.cli.guard import MISSED, OK, USER_ERROR
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
    examples=(
        "dynmm registry verify",
        "dynmm registry verify movielens_100k --json",
        "dynmm registry verify popularity --data ~/data",
        "dynmm registry verify --all --data ~/data --threads 1",
    ),
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every number of the registry.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="FOLDER",
    help="Take data files that are under this folder instead of fetching them.",
)
@runs_option
@offline_option
@click.option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N; as compute.device.")
@click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads; as compute.threads."
)
@json_option
@click.pass_obj
def verify(
    invocation: Invocation,
    names: tuple[str, ...],
    everything: bool,
    data: Path | None,
    runs_dir: Path,
    offline: bool,
    device: str | None,
    threads: int | None,
    as_json: bool,
) -> int:
    """Checks cached files by their digests, and recorded numbers by running their pipelines.

    What NAME is decides. A dataset or a model: its files in the cache are read and compared with
    the record's digests; nothing is fetched. A component or a pipeline: the pipelines of its
    numbers run, as dynmm run would run them, and each number is met (within its tolerance),
    exceeded (better by more) or missed. If several kinds have the name, write kind/name. Without
    NAME the files of all datasets and models are looked at.

    Exits with code 1 if a number is missed, with code 2 if a file is damaged or a record is wrong.
    """
    if everything and names:
        raise click.UsageError("give names, or --all for every number")
    registry = load_registry(invocation)
    chosen = [registry.find(name) for name in names]
    with_files = [record for record in chosen if record.kind in ("dataset", "model")]
    wanted = [record for record in chosen if record not in with_files]
    rows: list[dict[str, Any]] = []
    if with_files or not (everything or names):
        rows += _verify_files(invocation, registry, with_files, show=not as_json)
    if everything or wanted:
        from dynmm_framework.cli.numbers import verify_numbers

        invocation.resumable = True
        settings = {"device": device, "threads": threads}
        rows += verify_numbers(
            invocation,
            registry,
            None if everything else wanted,
            overrides=[f"compute.{k}={v}" for k, v in settings.items() if v is not None],
            runs_dir=runs_dir,
            data=data,
            offline=offline,
            show=not as_json,
        )
    if as_json:
        invocation.json(rows)
    found = {row["status"] for row in rows}
    if found & {"damaged", "wrong"}:
        return USER_ERROR
    return MISSED if "missed" in found else OK


def _verify_files(
    invocation: Invocation, registry: Registry, chosen: Sequence[Record], *, show: bool
) -> list[dict[str, Any]]:
    """Reads the cached files of datasets and models, and says which records are wrong."""
    fetcher = cache_fetcher()
    findings = [
        finding
        for record in chosen or registry.records()
        if record.kind == "dataset" or record.kind == "model"
        for finding in fetcher.verify(record)
    ]
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
    if show:
        invocation.table(
            ("record", "status", "file", "reason"),
            (
                (row["record"] or "", row["status"], row["file"] or "", row["message"])
                for row in rows
            ),
        )
    return rows
