"""``dynmm compare``: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dynmm_framework.cli.arguments import find_run, json_option, run_argument, runs_option
from dynmm_framework.cli.command import Command
from dynmm_framework.cli.invocation import Invocation

if TYPE_CHECKING:
    from dynmm_framework.reports.comparison import Comparison


@click.command(
    cls=Command,
    examples=(
        "dynmm compare runs/quickstart-1a2b3c4d runs/quickstart-5e6f7a8b",
        "dynmm compare quickstart-1a quickstart-5e --metric ndcg@10 --protocol full",
        "dynmm compare quickstart-1a quickstart-5e --json",
    ),
)
@run_argument(nargs=-1, required=True)
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="Only this one; repeatable."
)
@click.option(
    "--protocol", "protocols", multiple=True, metavar="NAME", help="Only this one; repeatable."
)
@runs_option
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    run_names: tuple[str, ...],
    metrics: tuple[str, ...],
    protocols: tuple[str, ...],
    runs_dir: Path,
    as_json: bool,
) -> None:
    """Compares runs, with significance.

    RUN is a run's folder, its id, or the beginning of its id. Every recommender is tested
    against the first run's own one over the users that both ranked, as long as both runs were
    made on the same split.
    """
    if len(run_names) < 2:
        raise click.UsageError("name at least two runs")
    from dynmm_framework.reports.comparison import compare_runs

    runs = [find_run(name, runs_dir) for name in run_names]
    comparison = compare_runs(runs, metrics=metrics, protocols=protocols)
    if as_json:
        invocation.json(
            {
                "runs": {name: run.folder for name, run in comparison.runs.items()},
                "settings": comparison.differences,
                "notes": comparison.notes,
                **comparison.metrics,
            }
        )
        return
    for name, run in comparison.runs.items():
        invocation.line(f"{name} = {run.folder}")
    _show_settings(invocation, comparison)
    invocation.line("")
    invocation.metric_tables(comparison.tables)
    for note in comparison.notes:
        invocation.note(f"Note: {note}")


def _show_settings(invocation: Invocation, comparison: Comparison) -> None:
    if not comparison.differences:
        return
    invocation.line("")
    invocation.table(
        ("setting", *comparison.runs),
        (
            (path, *("–" if value is None else str(value) for value in values))
            for path, values in comparison.differences.items()
        ),
        title="Settings that differ",
    )
