"""``dynmm vectors``: a run's item and user vectors, for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dynmm_framework.cli.arguments import (
    find_run,
    json_option,
    known_option,
    recommender_option,
    run_argument,
    runs_option,
    seed_option,
)
from dynmm_framework.cli.command import Command
from dynmm_framework.cli.invocation import Invocation

if TYPE_CHECKING:
    from dynmm_framework.engine.vectors import Known, VectorFormat, VectorPart


@click.command(
    cls=Command,
    examples=(
        "dynmm vectors quickstart",
        "dynmm vectors quickstart --recommender bpr_mf --format parquet -o bpr-vectors",
        "dynmm vectors quickstart --part items --format npy -o items --force",
        "dynmm vectors quickstart --known test --json",
    ),
)
@run_argument()
@recommender_option
@seed_option
@click.option(
    "--part",
    type=click.Choice(["items", "users", "both"]),
    default="both",
    show_default=True,
    help="What to write.",
)
@known_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(["safetensors", "parquet", "npy"]),
    default="safetensors",
    show_default=True,
    help="How to write.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where to; by default vectors/LABEL-seed-N in the run's folder.",
)
@click.option("--force", is_flag=True, help="Replace vectors that are there already.")
@runs_option
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    run_name: str,
    label: str | None,
    seed: int | None,
    part: VectorPart,
    known: Known,
    format_: VectorFormat,
    output: Path | None,
    force: bool,
    runs_dir: Path,
    as_json: bool,
) -> None:
    """Writes a run's item and user vectors.

    RUN is a run's folder, its id, or the beginning of its id. The inner product of a user's and
    an item's vector is the score by which the run ranks. Files hold float32 vectors with the
    dataset's own ids, and titles where there are any; vectors.json tells where they come from.
    """
    from dynmm_framework.artifacts.atomic import read_json
    from dynmm_framework.engine.vectors import SUMMARY_FILE

    run = find_run(run_name, runs_dir)
    vectors = run.vectors(label, seed=seed, known=known)
    name = f"{vectors.source['recommender']}-seed-{vectors.source['seed']}"
    folder = vectors.save(
        output or run.folder / "vectors" / name, format=format_, part=part, force=force
    )
    summary = read_json(folder / SUMMARY_FILE)
    if as_json:
        invocation.json({"folder": folder, **summary})
        return
    rows = [
        (name, f"{summary[name]:,}", str(summary["dim"]))
        for name in ("items", "users")
        if name in summary
    ]
    invocation.table(("vectors", "rows", "width"), rows, right=(1, 2))
    invocation.line(f"Vectors: {folder}")
