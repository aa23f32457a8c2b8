"""``dynmm run``: from a pipeline to its numbers and its report."""

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
    from dynmm_framework.engine.results import Run


SHOWN = 5
"""Explanations that the terminal shows."""


@click.command(
    cls=Command,
    examples=(
        "dynmm run examples/quickstart.yaml",
        "dynmm run pipeline.yaml seed=1 backbone.config.hidden_size=128",
        "dynmm run pipeline.yaml --device cpu --offline --json",
    ),
)
@pipeline_argument
@runs_option
@offline_option
@click.option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N; as compute.device.")
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    pipeline: str,
    overrides: tuple[str, ...],
    runs_dir: Path,
    offline: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Runs a pipeline and writes its report.

    KEY=VALUE overrides one setting by its dotted path. Stages that are finished already are not
    computed again, so the same command resumes an interrupted run.
    """
    from dynmm_framework.config.load import load_pipeline

    invocation.resumable = True
    if device is not None:
        overrides = (*overrides, f"compute.device={device}")
    loaded = load_pipeline(pipeline, overrides=overrides, catalogue=invocation.catalogue)
    if loaded.pipeline.search is not None:
        invocation.note(f"The search block is left aside; dynmm tune {pipeline} searches.")

    from dynmm_framework.api import run
    from dynmm_framework.reports.content import group_grids, missing_tables
    from dynmm_framework.reports.page import REPORT_FILE
    from dynmm_framework.reports.table import metric_tables

    console = None if invocation.quiet else invocation.err
    finished = run(loaded, runs_dir=runs_dir, offline=offline, console=console)
    report = finished.folder / REPORT_FILE
    if as_json:
        invocation.json(
            {
                "run": finished.id,
                "folder": finished.folder,
                "report": report,
                "metrics": finished.metrics,
            }
        )
        return
    invocation.metric_tables(metric_tables(finished.metrics))
    if finished.metrics.get("stream"):
        from dynmm_framework.cli.stream import show_stream

        show_stream(invocation, finished.metrics["stream"])
    if len(finished.metrics.get("prompts", {})) > 1:
        from dynmm_framework.cli.report import show_prompts
        from dynmm_framework.reports.prompts import prompt_table

        show_prompts(invocation, prompt_table([finished]))
    _show_explanations(invocation, finished)
    missing = list(missing_tables(finished.metrics))
    if invocation.verbosity > 0:
        for grid in (*group_grids(finished), *missing):
            numbers = range(1, len(grid.columns))
            invocation.table(grid.columns, grid.rows, right=numbers, title=grid.caption)
            invocation.line("")
    elif missing:
        invocation.note("What missing modalities cost is in the report; -v prints it here.")
    invocation.line(f"Report: {report}")


def _show_explanations(invocation: Invocation, run: Run) -> None:
    """Prints the best recommendation of a few users, each with its sentence."""
    best = [row for row in run.explanations if row["rank"] == 1]
    for row in best[:SHOWN]:
        invocation.line(f"User {row['user']}: {row['sentence']}")
    if best:
        user = best[0]["user"]
        invocation.note(f"More, with the evidence: dynmm explain {run.id} --user {user}")
