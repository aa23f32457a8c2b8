"""What the benchmarks share: data, side-by-side repetition, medians and tables."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Dataset

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("DYNMM_DATA", ROOT.parent / "shared" / "data"))
"""Development data: ``amazon-beauty/``, ``ml-1m/``; benchmarks that need it skip without it."""

T = TypeVar("T")


def skip(reason: str) -> None:
    """Ends the benchmark aloud, without failing: what it needs is not here."""
    print(f"SKIPPED: {reason}", file=sys.stderr)
    raise SystemExit(0)


def read(name: str) -> Dataset:
    """Reads ``ml-100k`` (fetched if need be) or ``amazon-beauty``, or skips the benchmark."""
    from dynmm_framework.catalogue import load_catalogue
    from dynmm_framework.engine.context import bare_context
    from dynmm_framework.errors import DynmmError

    path = DATA / "amazon-beauty" / "Beauty.txt"
    if name == "amazon-beauty" and not path.is_file():
        skip(f"{path} is not here; set DYNMM_DATA")
    reader, config = {
        "ml-100k": ("movielens_100k", {}),
        "amazon-beauty": ("sequence_file", {"path": str(path)}),
    }[name]
    catalogue = load_catalogue()
    try:
        dataset: Dataset = catalogue.create(catalogue.find("dataset", reader), config).read(
            bare_context(catalogue)
        )
    except DynmmError as error:
        skip(f"{name} cannot be read: {error}")
    return dataset


def alternate(runs: Mapping[str, Callable[[], T]], repeats: int) -> list[dict[str, T]]:
    """Runs all of them in turn, ``repeats`` times, so that drift of the machine hits all alike."""
    return [{name: run() for name, run in runs.items()} for _ in range(repeats)]


def worker(python: str, script: str, request: Mapping[str, Any], *, threads: int) -> dict[str, Any]:
    """Runs one measurement in a process of its own and returns what it prints last as JSON."""
    environment = {**os.environ, **{f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL")}}
    path = Path(__file__).parent / script
    done = subprocess.run(
        [python, str(path), json.dumps({**request, "threads": threads})],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    if "SKIPPED" in done.stderr:
        skip(done.stderr.partition("SKIPPED: ")[2].strip())
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def number(value: float) -> str:
    """At least three significant digits, thousands separated."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.3g}"


def report(
    title: str, rows: Sequence[Mapping[str, Any]], *, notes: Sequence[str] = (), as_json: bool
) -> None:
    """Prints rows as a Markdown table, or as one JSON document; columns carry their units."""
    if as_json:
        document = {"title": title, "rows": list(rows), "notes": list(notes), "machine": machine()}
        print(json.dumps(document, indent=2))
        return
    columns = list(rows[0])
    print(f"\n**{title}** ({machine()})\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        cells = [number(cell) if isinstance(cell, float) else str(cell) for cell in row.values()]
        print("| " + " | ".join(cells) + " |")
    for note in notes:
        print(f"\n{note}")


def machine() -> str:
    """One line on where this runs; the load tells how far to trust it."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"Python {platform.python_version()}, {os.cpu_count()} CPUs{load}"
