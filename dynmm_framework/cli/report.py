"""``dynmm report``: the page of a run, written again from the run's files."""

from __future__ import annotations

from pathlib import Path

import click

from dynmm_framework.cli.arguments import find_run, json_option, run_argument, runs_option
from dynmm_framework.cli.command import Command
from dynmm_framework.cli.invocation import Invocation


@click.command(
    cls=Command,
    examples=(
        "dynmm report runs/quickstart-1a2b3c4d",
        "dynmm report quickstart --open",
    ),
)
@run_argument()
@runs_option
@click.option("--open", "show", is_flag=True, help="Open the page in a browser.")
@json_option
@click.pass_obj
def command(
    invocation: Invocation, run_name: str, runs_dir: Path, show: bool, as_json: bool
) -> None:
    """Writes a run's report.html again.

    RUN is a run's folder, its id, or the beginning of its id. Everything is read from the run's
    own files; nothing is computed.
    """
    from dynmm_framework.reports.page import write_report

    path = write_report(find_run(run_name, runs_dir))
    if as_json:
        invocation.json({"report": path})
    else:
        invocation.line(f"Report: {path}")
    if show:
        click.launch(str(path))
