"""``dynmm tune``: searches for better settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dynmm_framework.cli.arguments import (
    json_option,
    offline_option,
    pipeline_argument,
    runs_option,
)
from dynmm_framework.cli.command import Command
from dynmm_framework.cli.invocation import Invocation

if TYPE_CHECKING:
    from dynmm_framework.tuning.results import Search


@click.command(
    cls=Command,
    examples=(
        "dynmm tune examples/search.yaml",
        "dynmm tune examples/search.yaml --trials 64 --resume",
        "dynmm tune examples/search.yaml search.sampler=random --address auto",
    ),
)
@pipeline_argument
@click.option(
    "--trials", type=click.IntRange(1), metavar="N", help="Trials in all; as search.trials."
)
@click.option(
    "--address", metavar="ADDRESS", help="Ray cluster: auto or host:port; as search.address."
)
@click.option("--resume", is_flag=True, help="Go on with the search where it stopped.")
@click.option("--no-test", is_flag=True, help="Do not run the best pipeline on test users.")
@runs_option
@offline_option
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    pipeline: str,
    overrides: tuple[str, ...],
    trials: int | None,
    address: str | None,
    resume: bool,
    no_test: bool,
    runs_dir: Path,
    offline: bool,
    as_json: bool,
) -> None:
    """Searches for better settings of a pipeline.

    The block search of the file says what varies and what decides. Trials are judged on validation
    users alone and share finished stages; the best is run once on test users. The search's folder
    has best.yaml, an ordinary pipeline for dynmm run, every trial in trials.jsonl, and a report.
    """
    from dynmm_framework.config.load import load_pipeline

    loaded = load_pipeline(pipeline, overrides=overrides, catalogue=invocation.catalogue)

    from dynmm_framework.api import tune

    try:
        found = tune(
            loaded,
            runs_dir=runs_dir,
            trials=trials,
            address=address,
            resume=resume,
            test=not no_test,
            offline=offline,
            console=None if invocation.quiet else invocation.err,
        )
    except KeyboardInterrupt:
        invocation.note("\nThe trials that were finished are kept; go on with --resume.")
        raise
    if as_json:
        invocation.json(
            {
                "search": found.id,
                "folder": found.folder,
                "report": found.report,
                "best": found.best.model_dump(mode="json") if found.best else None,
                "front": found.manifest.front,
                "trials": found.manifest.trials,
                "test": found.manifest.test,
            }
        )
        return
    _show(invocation, found)


def _show(invocation: Invocation, found: Search) -> None:
    from dynmm_framework.reports.search import shown
    from dynmm_framework.reports.text import duration, number
    from dynmm_framework.tuning.records import BEST_FILE

    manifest, best = found.manifest, found.best
    counts = ", ".join(f"{count} {state}" for state, count in manifest.trials.items())
    invocation.line(f"{counts or 'no'} trials in {duration(manifest.seconds)}")
    if best is None:
        last = found.trials[-1].reason if found.trials else ""
        invocation.line(f"No trial was finished. {last}".rstrip())
    else:
        rows = [(path, shown(value)) for path, value in best.params.items()]
        reached = ", ".join(f"{o.name} {number(best.metrics[o.name])}" for o in manifest.objectives)
        title = f"Trial {best.number}: {reached} on {best.users:,} validation users"
        invocation.table(("setting", "value"), rows, title=title)
        if manifest.front:
            invocation.line(f"Beaten by none in every objective: trials {manifest.front}")
        if manifest.test:
            metric = manifest.objectives[0].name
            value = manifest.test["metrics"].get(metric)
            missing = "is not among evaluate.metrics and evaluate.at"
            told = f"{metric} {missing if value is None else number(value)}"
            invocation.line(
                f"On test users, whom no trial saw: {told} (run {manifest.test['run']})"
            )
        invocation.line(f"Best pipeline: {found.folder / BEST_FILE}")
    invocation.line(f"Report: {found.report}")
