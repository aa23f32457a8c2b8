"""``dynmm compress``: what smaller item vectors save and cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dynmm_framework.cli.arguments import (
    find_run,
    json_option,
    recommender_option,
    run_argument,
    runs_option,
    seed_option,
)
from dynmm_framework.cli.command import Command
from dynmm_framework.cli.invocation import Invocation

if TYPE_CHECKING:
    from dynmm_framework.engine.compression import Measured

HEADS = (
    "compression", "ratio asked", "real", "MB before", "after", "recall@10", "re-ranked",
    "NDCG@10 before", "after", "training s", "ms per 1,000 queries",
)  # fmt: skip


@click.command(
    cls=Command,
    examples=(
        "dynmm compress quickstart",
        "dynmm compress quickstart --recommender bpr_mf --ratio 8 --ratio 16",
        "dynmm compress quickstart --kind opq --ratio 16 --users 2000 --json",
    ),
)
@run_argument()
@recommender_option
@seed_option
@click.option(
    "--ratio",
    "ratios",
    type=click.Choice(["4", "8", "16", "32"]),
    multiple=True,
    help="How many times smaller; repeatable; all of them by default.",
)
@click.option(
    "--kind",
    type=click.Choice(["auto", "sq8", "sq4", "pq", "opq", "ivfpq"]),
    default="auto",
    show_default=True,
    help="How; auto is sq8 for the ratio 4 and ivfpq beyond. sq8 has the ratio 4 alone, sq4 has 8.",
)
@click.option(
    "--rerank",
    type=click.IntRange(0, 100_000),
    default=50,
    show_default=True,
    metavar="N",
    help="Score so many of the best again by the exact vectors.",
)
@click.option(
    "--users", type=click.IntRange(1), metavar="N", help="Measure with N test users; all if absent."
)
@runs_option
@json_option
@click.pass_obj
def command(
    invocation: Invocation,
    run_name: str,
    label: str | None,
    seed: int | None,
    ratios: tuple[str, ...],
    kind: str,
    rerank: int,
    users: int | None,
    runs_dir: Path,
    as_json: bool,
) -> None:
    """Measures what compression of item vectors saves and costs.

    RUN is a run's folder, its id, or the beginning of its id. Recall is the share of the exact best
    10 that is found for the run's test users; NDCG@10 ranks the whole catalogue by the vectors as
    they were before and are after, known items masked, without re-rank. Nothing is written.
    """
    from typing import cast

    from dynmm_framework.engine.compression import measure
    from dynmm_framework.latents.compression import Compression

    fixed = {"sq8": (4,), "sq4": (8,)}
    wanted = tuple(map(int, ratios)) or fixed.get(kind, (4, 8, 16, 32))
    facts, lines = measure(
        find_run(run_name, runs_dir),
        label,
        seed=seed,
        ratios=wanted,
        compression=None if kind == "auto" else cast(Compression, kind),
        rerank=rerank,
        users=users,
    )
    if as_json:
        invocation.json({**facts, "rows": [line.document() for line in lines]})
        return
    title = (
        f"{facts['recommender']}, seed {facts['seed']}: {facts['items']:,} items of width"
        f" {facts['dim']}, {facts['users']:,} test users, best {rerank} re-ranked"
    )
    invocation.table(HEADS, map(_cells, lines), right=range(1, len(HEADS)), title=title)
    for line in lines:
        for note in line.notes:
            invocation.line(f"{'* ' if line.scalar_instead else ''}ratio {line.ratio}: {note}")


def _cells(line: Measured) -> tuple[str, ...]:
    return (
        line.compression + ("*" if line.scalar_instead else ""),
        f"{line.ratio}×",
        f"{line.real_ratio:.2f}×",
        f"{line.bytes_before / 1e6:,.2f}",
        f"{line.bytes_after / 1e6:,.2f}",
        f"{line.recall:.3f}",
        f"{line.recall_reranked:.3f}",
        f"{line.ndcg_before:.4f}",
        f"{line.ndcg_after:.4f}",
        f"{line.training_seconds:.1f}",
        f"{line.query_ms:,.0f}",
    )
