"""``dynmm explain``: a run's recommendations, with evidence, sentences and what they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dynmm_framework.cli.arguments import (
    find_run,
    json_option,
    known_option,
    run_argument,
    runs_option,
    seed_option,
)
from dynmm_framework.cli.command import Command
from dynmm_framework.cli.invocation import Invocation

if TYPE_CHECKING:
    from dynmm_framework.engine.vectors import Known

TAKEN = {
    "all": "All that is known of the user was taken, the test's items too; the report leaves these"
    " out, as --known test does.",
    "test": "What was known of the user before the test was taken, as in the report.",
    "train": "What the run learned from was taken as known of the user.",
}
"""What the user was known by, in words."""


@click.command(
    cls=Command,
    examples=(
        "dynmm explain movielens_explained --user 42",
        "dynmm explain movielens_explained --user 42 --item 225 --item 476",
        "dynmm explain movielens_explained --user 42 --known test",
        "dynmm explain movielens_explained --user 42 -k 1 --json",
    ),
)
@run_argument()
@click.option(
    "--user",
    metavar="ID",
    required=True,
    help="A user of the dataset, by the dataset's own id.",
)
@click.option(
    "--item",
    "items",
    metavar="ID",
    multiple=True,
    help="An item to explain, by the dataset's own id; repeatable. By default the best ones.",
)
@click.option(
    "-k",
    "k",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    metavar="N",
    help="How many of the best.",
)
@known_option
@seed_option
@runs_option
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    run_name: str,
    user: str,
    items: tuple[str, ...],
    k: int,
    known: Known,
    seed: int | None,
    runs_dir: Path,
    as_json: bool,
) -> None:
    """Explains recommendations by their evidence.

    RUN is a run's folder, its id, or the beginning of its id; its pipeline must have an evidence
    block. Every title, attribute, number and quotation of a sentence is listed with the records of
    evidence that it rests on. The history is what the user has chosen before.
    """
    run = find_run(run_name, runs_dir)
    found = run.explain(user, items or None, k=k, seed=seed, known=known)
    if as_json:
        invocation.json(
            {"run": run.id, "recommender": run.label, "known": known, "explanations": found}
        )
        return
    for number, entry in enumerate(found):
        if number:
            invocation.line("")
        _show(invocation, entry)
    invocation.note(
        f"{TAKEN[known]} Strength goes from 0 to 1, on the scale of what found it. Evidence that"
        " adds most to the item's score comes first, if that is known; then the strongest of each."
    )
    if not items and len(found) < k:
        invocation.note(f"Note: only {len(found)} items are left to recommend.")


def _show(invocation: Invocation, entry: Mapping[str, Any]) -> None:
    from rich.text import Text

    from dynmm_framework.reports.text import printable

    title = f"{entry['rank']:,}. {printable(entry['title'])}"
    detail = f"  item {printable(entry['item'])}, score {entry['score']:.4g}"
    invocation.show(
        Text.assemble((title, "bold"), (detail, "dim")), Text(printable(entry["sentence"]))
    )
    if entry["fallback"]:
        invocation.note(f"Note: a template's sentence; the writer's own {entry['fallback']}.")
    invocation.table(
        ("id", "evidence", "found by", "strength", "said in the sentence"),
        (
            (
                record["id"],
                Text(printable(words_of(record)), overflow="fold"),
                record["extractor"],
                f"{record['score']:.3f}",
                ", ".join(said_of(entry, record["id"])),
            )
            for record in entry["evidence"]
        ),
        right=(3,),
    )


def said_of(entry: Mapping[str, Any], record: str) -> list[str]:
    """Returns the words of a sentence that rest on a record."""
    return [claim["text"] for claim in entry["claims"] if record in claim["evidence"]]


def words_of(record: Mapping[str, Any]) -> str:
    """Returns a record of evidence in a few words."""
    from dynmm_framework.reports.explanations import evidence_words

    return evidence_words(record)
