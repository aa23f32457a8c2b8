"""What the length of a prompt costs and brings (the paper's table 5), from finished runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynmm_framework.errors import ArtifactError
from dynmm_framework.reports.grid import Grid
from dynmm_framework.reports.table import protocol_title
from dynmm_framework.reports.text import DASH, metric_title, number

if TYPE_CHECKING:
    from dynmm_framework.engine.results import Run


@dataclass(frozen=True)
class Row:
    """A prompt of the table.

    Attributes:
        recommender: Which recommender that is; with its run before it where there are several.
        history: Most soft tokens of a history (L).
        evidence: Soft tokens of the evidence (E).
        tokens: Mean tokens of a prompt; ``None`` without a language model.
        batch: Prompts of a batch.
        seconds_a_batch: Wall time in which so many are scored.
        ndcg_before: NDCG of validation users without the language model's score.
        ndcg_held_out: With it.
        ndcg_alone: Of it alone.
        standard_error: Of the gain.
        gamma: Weight of the language model's score.
        test: The followed metric on test users; ``None`` if it is undefined.
    """

    recommender: str
    history: int
    evidence: int
    tokens: float | None
    batch: int
    seconds_a_batch: float
    ndcg_before: float
    ndcg_held_out: float
    ndcg_alone: float
    standard_error: float
    gamma: float
    test: float | None


@dataclass(frozen=True)
class PromptTable:
    """The table of prompts.

    Attributes:
        protocol: Protocol of the test metric.
        metric: The test metric.
        rows: The rows, shortest prompt first.
        notes: What is missing.
    """

    protocol: str
    metric: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Heads of the columns."""
        return (
            "prompt",
            "L",
            "E",
            "tokens",
            "s/batch",
            "without",
            "with",
            "± s.e.",
            "alone",
            "γ",
            "test",
        )

    @property
    def grid(self) -> Grid:
        """The table as the page draws it."""
        return Grid(self.columns, tuple(self.cells()), self.title)

    @property
    def title(self) -> str:
        """Says what the table shows."""
        where = protocol_title(self.protocol)
        where = where[:1].lower() + where[1:]
        return f"Prompts: cost, NDCG of validation, test {metric_title(self.metric)} ({where})"

    @property
    def reading(self) -> str:
        """Says how the columns are read."""
        batches = " or ".join(str(batch) for batch in sorted({row.batch for row in self.rows}))
        return (
            f"s/batch: seconds on the clock for {batches} prompts of validation users. NDCG of"
            " these users among the retrieved: without the language model's score, with it (each"
            " by a weight fitted on others; standard error of the gain), and of it alone. γ is its"
            " weight, 0 where it adds nothing clear."
        )

    def cells(self) -> Iterator[tuple[str, ...]]:
        """Yields the rows as they are read."""
        for row in self.rows:
            read = row.tokens is not None  # without a language model there is no prompt
            yield (
                row.recommender,
                str(row.history) if read else DASH,
                str(row.evidence) if read else DASH,
                DASH if row.tokens is None else f"{row.tokens:,.0f}",
                f"{row.seconds_a_batch:.3g}",
                number(row.ndcg_before),
                number(row.ndcg_held_out),
                number(row.standard_error),
                number(row.ndcg_alone),
                f"{row.gamma:.3g}",
                number(row.test),
            )


def prompt_table(runs: Sequence[Run], *, protocol: str | None = None) -> PromptTable:
    """Arranges what prompts hold, cost and bring.

    Args:
        runs: Runs; a recommender has its run's id before it where there are several.
        protocol: Protocol of the test metric; the first run's first one by default.

    Raises:
        ArtifactError: If no run tells of prompts, or the first has no such protocol.
    """
    first = runs[0]
    found: Mapping[str, Any] = first.metrics["recommenders"][first.label]
    protocol = protocol or next(iter(found))
    if protocol not in found:
        raise ArtifactError(
            f"run {first.id} has no protocol {protocol!r}",
            hint=f"It has: {', '.join(found)}.",
        )
    monitor = str(first.manifest.pipeline.get("evaluate", {}).get("monitor", "ndcg@10"))
    metric = monitor if monitor in found[protocol] else next(iter(found[protocol]), monitor)
    rows = [
        _row(run, label, told, protocol, metric, several=len(runs) > 1)
        for run in runs
        for label, told in run.metrics.get("prompts", {}).items()
    ]
    notes = [
        f"the run {run.id} tells of no prompt" for run in runs if not run.metrics.get("prompts")
    ]
    if not rows:
        raise ArtifactError(
            "no prompt told what it costs in " + " or ".join(run.id for run in runs),
            hint="Name a run whose pipeline has a block prompt, and enough validation users to fit"
            " its weight on. A run that an older version finished has to be run again.",
        )
    rows.sort(key=lambda row: row.tokens or 0.0)
    return PromptTable(protocol, metric, tuple(rows), tuple(notes))


def _row(
    run: Run, label: str, told: Mapping[str, Any], protocol: str, metric: str, *, several: bool
) -> Row:
    tokens = told["tokens_of_a_prompt"]
    test = run.metrics["recommenders"].get(label, {}).get(protocol, {}).get(metric, {})
    return Row(
        recommender=f"{run.id}/{label}" if several else label,
        history=told["soft_tokens"]["history"],
        evidence=told["soft_tokens"]["evidence"],
        tokens=sum(tokens.values()) if tokens else None,
        batch=told["batch"],
        seconds_a_batch=told["seconds_a_batch"],
        ndcg_before=told["ndcg_before"],
        ndcg_held_out=told["ndcg_held_out"],
        ndcg_alone=told["ndcg_alone"],
        standard_error=told["standard_error_of_the_gain"],
        gamma=told["gamma"],
        test=test.get("mean"),
    )
