"""``dynmm report``: the page of a run, written again from the run's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dynmm_framework.cli.arguments import find_run, json_option, run_argument, runs_option
from dynmm_framework.cli.command import Command
from dynmm_framework.cli.invocation import Invocation

if TYPE_CHECKING:
    from dynmm_framework.engine.results import Run
    from dynmm_framework.reports.prompts import PromptTable


@click.command(
    cls=Command,
    examples=(
        "dynmm report runs/quickstart-1a2b3c4d",
        "dynmm report quickstart --open",
        "dynmm report movielens_explained --table components",
        "dynmm report prompt_length --table prompts",
    ),
)
@run_argument(nargs=-1, required=True)
@click.option(
    "--table",
    type=click.Choice(["components", "prompts"]),
    help="Print a table of all the runs named in place of writing a page. components: what each"
    " component of the first run's recommender adds, tested. prompts: what the length of a prompt"
    " costs and brings.",
)
@click.option("--protocol", metavar="NAME", help="Protocol of the table; by default the first.")
@runs_option
@click.option("--open", "show", is_flag=True, help="Open the page in a browser.")
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    run_names: tuple[str, ...],
    table: str | None,
    protocol: str | None,
    runs_dir: Path,
    show: bool,
    as_json: bool,
) -> None:
    """Writes a run's report.html again.

    RUN is a run's folder, its id, or the beginning of its id. Everything is read from the run's
    own files; nothing is computed.
    """
    runs = [find_run(name, runs_dir) for name in run_names]
    if table is not None:
        shown = _components if table == "components" else _prompts
        shown(invocation, runs, protocol, as_json)
        return
    if len(runs) > 1:
        raise click.UsageError("name one run; several are for --table")
    if protocol is not None:
        raise click.UsageError("--protocol is for --table")
    from dynmm_framework.reports.page import write_report

    path = write_report(runs[0])
    if as_json:
        invocation.json({"report": path})
    else:
        invocation.line(f"Report: {path}")
    if show:
        click.launch(str(path))


def _components(
    invocation: Invocation, runs: Sequence[Run], protocol: str | None, as_json: bool
) -> None:
    """Prints what components add and what is lost without them."""
    from dynmm_framework.reports.components import component_table
    from dynmm_framework.reports.table import protocol_title

    table = component_table(runs, protocol=protocol)
    if as_json:
        invocation.json(asdict(table))
        return
    columns = table.columns
    invocation.table(
        columns,
        table.cells(),
        right=range(2, len(columns) - 1),
        title=f"Components: {protocol_title(table.protocol)}",
    )
    invocation.line(
        "p: paired t-test over users, of rows that add with the row before, of rows that remove"
        " and of controls with the whole; of the stream over windows."
    )
    for note in table.notes:
        invocation.note(f"Note: {note}.")


def _prompts(
    invocation: Invocation, runs: Sequence[Run], protocol: str | None, as_json: bool
) -> None:
    """Prints what prompts hold, cost and bring."""
    from dynmm_framework.reports.prompts import prompt_table

    table = prompt_table(runs, protocol=protocol)
    if as_json:
        invocation.json(asdict(table))
    else:
        show_prompts(invocation, table)


def show_prompts(invocation: Invocation, table: PromptTable) -> None:
    """Prints the table of prompts, as ``dynmm run`` does too."""
    columns = table.columns
    invocation.table(columns, table.cells(), right=range(1, len(columns)), title=table.title)
    invocation.line(table.reading)
    for note in table.notes:
        invocation.note(f"Note: {note}.")
