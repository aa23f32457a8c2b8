"""Writes the tables of docs/reference-numbers.md: ``python docs/reference_table.py [RUNS …]``.

The numbers are those of the registry's records, ours those of the finished runs in the folders
(``runs`` by default) that ``dynmm registry verify --all`` leaves there. What has no run yet is
shown by a dash.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dynmm_framework.artifacts.records import Registry
from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.engine.results import Run
from dynmm_framework.errors import DynmmError
from dynmm_framework.reports.text import DASH
from dynmm_framework.reports.text import number as decimals
from dynmm_framework.verification import (
    Check,
    Claim,
    Verdict,
    Verification,
    find_claims,
    judge,
    prepare,
)

PAGE = Path(__file__).parent / "reference-numbers.md"
BEGIN, END = "<!-- {}:begin -->", "<!-- {}:end -->"
NAMES = {True: "published", False: "own"}
ALIGNMENT = "|---|---|---|---|---:|---:|---:|---:|---|"


def checks() -> list[Check]:
    """Returns the pipelines of all numbers of the installed records."""
    catalogue = load_catalogue()
    registry = Registry.load(catalogue.record_folders())
    return prepare(find_claims(registry), registry, catalogue=catalogue)


def stored_run(check: Check, folders: Iterable[Path]) -> Run | None:
    """Returns the newest finished run of a pipeline with the settings that it has now."""
    settings = _settings(check.loaded.resolved())
    found = []
    for folder in folders:
        for path in folder.glob(f"{check.loaded.name}-*/manifest.json"):
            try:
                run = Run.load(path.parent)
            except DynmmError:
                continue
            if _agree(_settings(run.manifest.pipeline), settings):
                found.append(run)
    return max(found, key=lambda run: run.manifest.created, default=None)


def _settings(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in pipeline.items() if key not in ("compute", "tracking")}


def _agree(old: Any, new: Any) -> bool:
    """Compares settings; one that came or went with a version of the code does not count."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return all(_agree(old[key], new[key]) for key in old.keys() & new.keys())
    return bool(old == new)


def rows(check: Check, run: Run | None) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """Yields a table row for each number of a pipeline, and whether the number is published."""
    if run is None:
        labels = list(check.loaded.pipeline.recommenders)
        for claim in check.claims:
            yield claim.number.published, _row(claim, claim.recommender(labels), check, None, "")
        return
    found = Verification(check, run, judge(check, run.metrics))
    devices = [device for device in run.manifest.devices if device != "cpu"]
    minutes = f"{found.minutes:.1f}" + (f" ({', '.join(devices)})" if devices else "")
    for verdict in found.verdicts:
        row = _row(verdict.claim, verdict.recommender, check, verdict, minutes)
        yield verdict.claim.number.published, row


def _row(
    claim: Claim, recommender: str, check: Check, verdict: Verdict | None, minutes: str
) -> tuple[str, ...]:
    number = claim.number
    return (
        recommender,
        number.dataset,
        number.protocol,
        number.metric,
        decimals(number.value),
        DASH if verdict is None else decimals(verdict.ours),
        DASH if verdict is None else verdict.percent,
        minutes or DASH,
        f"`{check.command}`",
    )


def tables(folders: Iterable[Path]) -> dict[str, str]:
    """Returns the Markdown tables by their names."""
    folders = list(folders)
    found: dict[bool, list[tuple[str, ...]]] = {True: [], False: []}
    for check in checks():
        for published, row in rows(check, stored_run(check, folders)):
            found[published].append(row)
    return {NAMES[published]: _markdown(published, body) for published, body in found.items()}


def _markdown(published: bool, body: list[tuple[str, ...]]) -> str:
    head = "published" if published else "recorded"
    titles = ("", "data", "protocol", "metric", head, "ours", "difference", "minutes", "command")
    lines = [f"| {' | '.join(row)} |" for row in body]
    return "\n".join([f"| {' | '.join(titles)} |", ALIGNMENT, *lines])


def written(name: str) -> str:
    """Returns a table as the page has it now."""
    text = PAGE.read_text(encoding="utf-8")
    return text.partition(BEGIN.format(name))[2].partition(END.format(name))[0].strip()


def main(folders: list[str]) -> None:
    """Replaces the tables of the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables(Path(folder) for folder in folders or ["runs"]).items():
        head, _, rest = text.partition(BEGIN.format(name))
        tail = rest.partition(END.format(name))[2]
        text = f"{head}{BEGIN.format(name)}\n{table}\n{END.format(name)}{tail}"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
