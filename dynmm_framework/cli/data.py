"""``dynmm data``: datasets, from the list of readers to every problem of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dynmm_framework.cli.arguments import json_option, offline_option
from dynmm_framework.cli.command import Group
from dynmm_framework.cli.guard import OK, USER_ERROR
from dynmm_framework.cli.invocation import Invocation, clipped
from dynmm_framework.cli.media import media
from dynmm_framework.cli.registry import cache_fetcher, cache_state, cached_folder, load_registry

if TYPE_CHECKING:
    from dynmm_framework.config.pipeline import Filters
    from dynmm_framework.data.tables import Dataset
    from dynmm_framework.engine.context import RunContext
    from dynmm_framework.protocols import DatasetReader


@click.group(
    cls=Group,
    examples=(
        "dynmm data list",
        "dynmm data fetch movielens_100k",
        "dynmm data stats pipeline.yaml",
    ),
)
def command() -> None:
    """Lists, fetches, describes and checks datasets."""


command.add_command(media)


@command.command("list", examples=("dynmm data list", "dynmm data list --json"))
@json_option
@click.pass_obj
def list_datasets(invocation: Invocation, as_json: bool) -> None:
    """Lists the datasets that can be read, and where their files are.

    "own files": name them by the reader's settings (dynmm plugins info NAME).
    """
    registry, fetcher = load_registry(invocation), cache_fetcher()
    rows: list[dict[str, Any]] = []
    for component in invocation.catalogue.components("dataset"):
        record = registry.get("dataset", component.name)
        folder = cached_folder(record, fetcher) if record is not None else None
        rows.append(
            {
                "name": component.name,
                "summary": component.spec.summary,
                "distribution": component.provider.distribution,
                "version": component.provider.version,
                "files": cache_state(record, fetcher) if record is not None else "own files",
                "folder": folder,
                "licence": record.licence if record is not None else "",
            }
        )
    if as_json:
        invocation.json(rows)
        return
    invocation.table(
        ("name", "files", "summary"),
        ((row["name"], row["files"], clipped(row["summary"])) for row in rows),
    )


@command.command(
    "fetch",
    examples=(
        "dynmm data fetch movielens_100k",
        "dynmm data fetch amazon_beauty --from ~/Downloads",
    ),
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--from",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Copy the files from under this folder, by name and digest; fetch nothing.",
)
@offline_option
@json_option
@click.pass_obj
def fetch(
    invocation: Invocation,
    names: tuple[str, ...],
    folder: Path | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Fetches the files of registered datasets or models into the cache.

    The record's sources are tried in order and every file is checked by its digest. What is
    there already is not fetched again; DYNMM_CACHE names another cache folder.
    """
    from dynmm_framework.engine.context import Surroundings
    from dynmm_framework.engine.progress import Display

    invocation.resumable = True
    display = Display(None if invocation.quiet else invocation.err)
    surroundings = Surroundings(
        invocation.catalogue, display, offline or folder is not None, folder=folder
    )
    folders = {}
    for name in names:
        folders[name] = surroundings.fetch(name)
        if not as_json:
            invocation.line(f"{name}: {folders[name]}")
    if as_json:
        invocation.json([{"name": name, "folder": folder} for name, folder in folders.items()])


@dataclass(frozen=True)
class _Source:
    """A dataset that a person named: by itself, or as the one of a pipeline."""

    title: str
    reader: DatasetReader
    ctx: RunContext
    filters: Filters | None


def _dataset_options(function: Callable[..., Any]) -> Callable[..., Any]:
    function = json_option(function)
    function = offline_option(function)
    function = click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the reader."
    )(function)
    function = click.option(
        "--path", metavar="PATH", help="Where the files are; as --set path=PATH."
    )(function)
    return click.argument("source", metavar="NAME|PIPELINE.yaml")(function)


@command.command(
    "stats",
    examples=(
        "dynmm data stats movielens_100k",
        "dynmm data stats movielens_1m --path ~/data/ml-1m --json",
        "dynmm data stats pipeline.yaml --set filters.k_core=5",
    ),
)
@_dataset_options
@click.pass_obj
def stats(
    invocation: Invocation,
    source: str,
    path: str | None,
    settings: tuple[str, ...],
    offline: bool,
    as_json: bool,
) -> None:
    """Describes a dataset: users, items, interactions, sparsity, modalities.

    A dataset by NAME is described as it is read, that of a pipeline as its filters leave it.
    """
    from dynmm_framework.data.filters import apply_filters
    from dynmm_framework.data.stats import dataset_stats

    found = find_source(invocation, source, path, settings, offline)
    dataset = found.reader.read(found.ctx)
    if found.filters is not None:
        dataset = apply_filters(dataset, found.filters)
    figures = dataset_stats(dataset)
    if as_json:
        invocation.json(figures)
        return
    invocation.table((found.title, ""), _rows(figures))
    if figures["log"]:
        invocation.line("")
        invocation.table(
            ("step", "users", "items", "interactions"),
            (
                (
                    step["step"],
                    f"{step['users']:,}",
                    f"{step['items']:,}",
                    f"{step['interactions']:,}",
                )
                for step in figures["log"]
            ),
            right=(1, 2, 3),
        )


def _rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for count in ("users", "items", "interactions"):
        yield count, f"{figures[count]:,}"
    yield "sparsity", f"{100 * figures['sparsity']:.3f} %"
    for name in ("interactions_per_user", "interactions_per_item"):
        spread = figures[name]
        text = (
            f"{spread['min']:,} … {spread['max']:,}, median {spread['median']:,.4g},"
            f" mean {spread['mean']:,.1f}"
        )
        none = f"; {spread['none']:,} have none" if spread["none"] else ""
        yield name.replace("_", " "), f"{text}{none}"
    yield "repeated pairs", f"{figures['repeated_pairs']:,}"
    if time := figures["time"]:
        yield "time", f"{time['first']} … {time['last']} ({time['days']:,.0f} days)"
    else:
        yield "time", "none; the order is known"
    if ratings := figures["ratings"]:
        text = f"{ratings['min']:g} … {ratings['max']:g}, mean {ratings['mean']:.2f}"
        yield "ratings", text
    for name, share in figures["coverage"].items():
        yield f"items with {name}", f"{100 * share:.1f} %"
    yield "columns of items", ", ".join(figures["columns"])


@command.command(
    "check",
    examples=(
        "dynmm data check movielens_100k --path ~/data/ml-100k",
        "dynmm data check interaction_file --path ratings.csv --set columns.user=uid",
        "dynmm data check pipeline.yaml",
    ),
)
@_dataset_options
@click.pass_obj
def check(
    invocation: Invocation,
    source: str,
    path: str | None,
    settings: tuple[str, ...],
    offline: bool,
    as_json: bool,
) -> int:
    """Reports every problem of a dataset's files, with line numbers.

    Prints one line for each problem and exits with code 2 if there is any.
    """
    from dynmm_framework.data.filters import apply_filters
    from dynmm_framework.data.rows import RowsError
    from dynmm_framework.errors import DataError, Problem

    found = find_source(invocation, source, path, settings, offline)
    problems: tuple[Problem, ...] = ()
    dataset: Dataset | None = None
    try:
        dataset = found.reader.read(found.ctx)
        if found.filters is not None:
            apply_filters(dataset, found.filters)
    except RowsError as error:
        problems = error.everything
    except DataError as error:
        problems = tuple(error.problems)
    if as_json:
        invocation.json(
            {
                "dataset": found.title,
                "ok": not problems,
                "problems": [
                    {"file": p.file, "line": p.line or None, "path": p.path, "message": p.message}
                    for p in problems
                ],
                "users": dataset.n_users if dataset else None,
                "items": dataset.n_items if dataset else None,
                "interactions": len(dataset.interactions) if dataset else None,
            }
        )
    for problem in problems if not as_json else ():
        invocation.line(" ".join(str(problem).split()))
    if not problems and not as_json and dataset is not None:
        counts = (
            f"{dataset.n_users:,} users, {dataset.n_items:,} items,"
            f" {len(dataset.interactions):,} interactions"
        )
        invocation.line(f"{found.title}: ok ({counts})")
    return USER_ERROR if problems else OK


def find_source(
    invocation: Invocation,
    source: str,
    path: str | None,
    settings: tuple[str, ...],
    offline: bool,
) -> _Source:
    """Makes the reader that a person means.

    Raises:
        DynmmError: If there is no such dataset or pipeline, or a setting is wrong.
    """
    from dynmm_framework.engine.context import bare_context
    from dynmm_framework.engine.progress import Display

    catalogue = invocation.catalogue
    display = Display(None if invocation.quiet else invocation.err)
    ctx = bare_context(catalogue, offline=offline, display=display)
    if path is not None:
        settings = (*settings, f"path={path}")
    if Path(source).suffix.lower() in (".yaml", ".yml") or Path(source).is_file():
        from dynmm_framework.config.load import load_pipeline

        overrides = [
            f"data.{text}" if text.startswith("filters.") else f"data.config.{text}"
            for text in settings
        ]
        loaded = load_pipeline(source, overrides=overrides, catalogue=catalogue)
        reader = catalogue.create(loaded.components["data"], loaded.configs["data"])
        return _Source(source, reader, ctx, loaded.pipeline.data.filters)
    component = catalogue.find("dataset", source)
    reader = catalogue.create(component, _config(catalogue.config_model(component), settings))
    return _Source(component.name, reader, ctx, None)


def _config(model: Any, settings: tuple[str, ...]) -> Any:
    """Checks a reader's settings as a pipeline's would be."""
    from dynmm_framework.config.merge import Settings, dotted, override
    from dynmm_framework.config.validate import check as check_settings
    from dynmm_framework.errors import ConfigError, Problem

    given = Settings({})
    problems = override(given, settings)
    value, findings = check_settings(model, given.data)
    problems += [Problem(finding.message, path=dotted(finding.path)) for finding in findings]
    if problems:
        raise ConfigError(problems, hint="Settings: --path PATH, --set KEY=VALUE.")
    return value
