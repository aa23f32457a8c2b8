"""How recorded numbers and what has come of them are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from dynmm_framework.reports.page import REPORT_FILE
from dynmm_framework.reports.text import duration, metric_title, number
from dynmm_framework.verification import Verification, find_claims, prepare, run_checks

if TYPE_CHECKING:
    from dynmm_framework.artifacts.records import Record, Registry
    from dynmm_framework.cli.invocation import Invocation


def verify_numbers(
    invocation: Invocation,
    registry: Registry,
    records: Sequence[Record] | None,
    *,
    overrides: Sequence[str],
    runs_dir: Path,
    data: Path | None,
    offline: bool,
    show: bool,
) -> list[dict[str, Any]]:
    """Runs the pipelines of recorded numbers; shows each as soon as it is finished.

    Returns:
        A flat record of each number for ``--json``, its ``status`` among the fields.

    Raises:
        DynmmError: As :func:`dynmm_framework.verification.verify`.
    """
    claims = find_claims(registry, records)
    checks = prepare(claims, registry, catalogue=invocation.catalogue, overrides=overrides)
    done = run_checks(
        checks,
        registry,
        runs_dir=runs_dir,
        data=data,
        offline=offline,
        console=None if invocation.quiet else invocation.err,
    )
    rows: list[dict[str, Any]] = []
    for verification in done:
        if show:
            _show_numbers(invocation, verification)
        rows += _number_rows(verification)
    if show:
        counts = Counter(row["status"] for row in rows)
        parts = [
            f"{counts[status]} {status}"
            for status in ("met", "exceeded", "missed")
            if counts[status]
        ]
        what = "number" if len(rows) == 1 else "numbers"
        invocation.line(f"{len(rows)} {what}: {', '.join(parts)}.")
    return rows


def _show_numbers(invocation: Invocation, found: Verification) -> None:
    numbers = [verdict.claim.number for verdict in found.verdicts]
    kinds = {entry.published for entry in numbers}
    head = "reference" if len(kinds) == 2 else "published" if kinds == {True} else "recorded"
    styles = {"met": "green", "exceeded": "green", "missed": "bold red"}
    datasets = ", ".join(dict.fromkeys(entry.dataset for entry in numbers))
    invocation.table(
        ("recommender", "protocol", "metric", head, "ours", "difference", "verdict"),
        (
            (
                verdict.recommender,
                verdict.claim.number.protocol,
                metric_title(verdict.claim.number.metric),
                number(verdict.claim.number.value),
                number(verdict.ours),
                verdict.percent,
                Text(verdict.status, style=styles[verdict.status]),
            )
            for verdict in found.verdicts
        ),
        right=(3, 4, 5),
        title=f"{found.check.pipeline}, on {datasets}",
    )
    for source in dict.fromkeys(entry.source for entry in numbers):
        invocation.line(f"{head.capitalize()}: {source}")
    for note in dict.fromkeys(entry.note for entry in numbers if entry.note):
        invocation.line(f"Note: {' '.join(note.split())}")
    if any(verdict.status == "exceeded" for verdict in found.verdicts):
        invocation.line("Exceeded: better by more than the tolerance, which is no failure.")
    invocation.line(f"Command: {found.check.command} ({duration(60 * found.minutes)} computed)")
    invocation.line(f"Report: {found.run.folder / REPORT_FILE}")
    invocation.line("")


def _number_rows(found: Verification) -> list[dict[str, Any]]:
    return [
        {
            "record": verdict.claim.title,
            "file": None,
            "status": verdict.status,
            "message": verdict.claim.number.note,
            "recommender": verdict.recommender,
            **verdict.claim.number.model_dump(exclude={"note"}),
            "ours": verdict.ours,
            "difference": verdict.difference,
            "command": found.check.command,
            "minutes": found.minutes,
            "run": found.run.folder,
        }
        for verdict in found.verdicts
    ]
