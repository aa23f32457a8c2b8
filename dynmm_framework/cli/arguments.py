"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dynmm_framework.cli.invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynmm_framework.engine.results import Run

RUNS_FOLDER = Path("runs")


def _reserve_stdout(ctx: click.Context, _: click.Parameter, wanted: bool) -> bool:
    if wanted and not ctx.resilient_parsing:
        invocation = ctx.find_object(Invocation)
        assert invocation is not None
        invocation.reserve_stdout(ctx)
    return wanted


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--json``: one document on standard output, and nothing else there."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        callback=_reserve_stdout,
        help="Print JSON instead of a table.",
    )(function)


def runs_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--runs``: the folder of runs and of the stage cache."""
    return click.option(
        "--runs",
        "runs_dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=RUNS_FOLDER,
        show_default=True,
        envvar="DYNMM_RUNS",
        help="Folder of runs and of the stage cache.",
    )(function)


def recommender_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--recommender``: one of a run's recommenders, by its label."""
    return click.option(
        "--recommender",
        "label",
        metavar="LABEL",
        help="One of the run's recommenders; by default the pipeline's own.",
    )(function)


def seed_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--seed``: one of a run's model seeds."""
    return click.option(
        "--seed", type=int, metavar="N", help="Model seed; by default the run's first."
    )(function)


def known_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--known``: what users are known by."""
    return click.option(
        "--known",
        type=click.Choice(["all", "test", "train"]),
        default="all",
        show_default=True,
        help="What a user is known by: all interactions, test targets included; those before the "
        "test, as in the report; those of training.",
    )(function)


def offline_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--offline``: nothing is fetched."""
    return click.option("--offline", is_flag=True, help="Fetch nothing; use what is here.")(
        function
    )


def pipeline_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the pipeline's file and dotted overrides."""
    function = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")(function)
    return click.argument("pipeline", type=click.Path(), metavar="PIPELINE.yaml")(function)


def _complete_run(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    folder = Path(ctx.params.get("runs_dir") or RUNS_FOLDER)
    return [name for name in _run_names(folder) if name.startswith(incomplete)]


def run_argument(**settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds runs, each by its folder, its id or the beginning of its id."""
    return click.argument(
        "run_name" if settings.get("nargs", 1) == 1 else "run_names",
        metavar="RUN" if settings.get("nargs", 1) == 1 else "RUN...",
        shell_complete=_complete_run,
        **settings,
    )


def _run_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.parent.name for path in folder.glob("*/manifest.json"))


def _is_finished(folder: Path) -> bool:
    from dynmm_framework.engine.results import Run
    from dynmm_framework.errors import ArtifactError

    try:
        Run.load(folder)
    except ArtifactError:
        return False
    return True


def find_run(name: str, runs_dir: Path) -> Run:
    """Returns the run that a person means.

    Args:
        name: A folder, the id of a run in ``runs_dir``, or the beginning of either.
        runs_dir: Folder of runs.

    Raises:
        ArtifactError: If there is no such run, or several.
    """
    from dynmm_framework.engine.results import Run
    from dynmm_framework.errors import ArtifactError
    from dynmm_framework.specs import did_you_mean

    path = Path(name)
    if path.is_file():
        path = path.parent  # someone named report.html
    if path.is_dir():
        return Run.load(path)
    folder = runs_dir if path.name == name else path.parent
    names = _run_names(folder)
    matching = [known for known in names if known.startswith(path.name)]
    if path.name in names:
        return Run.load(folder / path.name)
    if len(matching) > 1:  # a run that failed is hardly the one that is meant
        matching = [known for known in matching if _is_finished(folder / known)] or matching
    if len(matching) == 1:
        return Run.load(folder / matching[0])
    if matching:
        raise ArtifactError(
            f"several runs in {folder} begin with {path.name!r}: {', '.join(matching)}",
            hint="Write more of the id.",
        )
    raise ArtifactError(
        f"no run {path.name!r} in {folder}{did_you_mean(path.name, names)}",
        hint=f"There are: {', '.join(names)}." if names else "Make one with `dynmm run`.",
    )
