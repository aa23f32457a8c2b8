"""``dynmm recommend``: a run's model at work."""

from __future__ import annotations

from pathlib import Path

import click

from dynmm_framework.cli.arguments import (
    find_run,
    json_option,
    recommender_option,
    run_argument,
    runs_option,
)
from dynmm_framework.cli.command import Command
from dynmm_framework.cli.invocation import Invocation


@click.command(
    cls=Command,
    examples=(
        "dynmm recommend quickstart --user 42",
        "dynmm recommend runs/quickstart-1a2b3c4d --history '50,181,121' -k 5",
        "dynmm recommend quickstart --user 42 --recommender item_knn --json",
    ),
)
@run_argument()
@click.option("--user", metavar="ID", help="A user of the dataset, by the dataset's own id.")
@click.option(
    "--history",
    metavar="ID,ID,...",
    multiple=True,
    help="Items of someone new, oldest first, by the dataset's own ids.",
)
@click.option(
    "-k",
    "k",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    metavar="N",
    help="How many.",
)
@recommender_option
@runs_option
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    run_name: str,
    user: str | None,
    history: tuple[str, ...],
    k: int,
    label: str | None,
    runs_dir: Path,
    as_json: bool,
) -> None:
    """Recommends items with a run's model.

    RUN is a run's folder, its id, or the beginning of its id. Someone new is served as well as a
    user of the dataset: by what they interacted with.
    """
    if (user is None) == (not history):
        raise click.UsageError("give either --user or --history")
    items = [item.strip() for part in history for item in part.split(",") if item.strip()]
    if history and not items:
        raise click.UsageError("--history names no item")
    run = find_run(run_name, runs_dir)
    found = run.recommend(user=user, history=items or None, k=k, label=label)
    if as_json:
        invocation.json(found)
        return
    invocation.table(
        ("#", "item", "title", "score"),
        (
            (
                str(entry["rank"]),
                str(entry["item"]),
                str(entry["title"] or ""),
                f"{entry['score']:.4g}",
            )
            for entry in found
        ),
        right=(0, 3),
    )
    if len(found) < k:
        invocation.note(f"Note: only {len(found)} items are left to recommend.")
