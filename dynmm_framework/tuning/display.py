"""What a person sees of a search: a table that is drawn anew, or a line a trial."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dynmm_framework.reports.search import shown
from dynmm_framework.reports.text import duration, number, printable
from dynmm_framework.tuning.driver import Progress
from dynmm_framework.tuning.records import TrialRecord

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

MOST_ROWS = 12
REFRESH_SECONDS = 0.5


class SearchView:
    """Draws a live table on a terminal and writes a line for every trial elsewhere.

    Args:
        console: Where to draw; ``None`` shows nothing.
    """

    def __init__(self, console: Console | None) -> None:
        self.console = console
        self._live: Any = None
        self._told: set[int] | None = None
        self._drawn = 0.0

    def __enter__(self) -> SearchView:
        if self.console is not None and self.console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def changed(self, progress: Progress) -> None:
        """Shows a search as it is now."""
        if self.console is None:
            return
        if self._told is None:  # what an earlier sitting did is not told again
            self._told = {n for n in progress.trials if n not in progress.begun}
        new = [n for n in sorted(progress.trials) if n not in self._told]
        self._told |= set(new)
        if self._live is not None:
            if new or time.monotonic() - self._drawn >= REFRESH_SECONDS:
                self._drawn = time.monotonic()
                self._live.update(table(progress), refresh=True)
            return
        for n in new:
            line = trial_line(progress, progress.trials[n])
            self.console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)


def trial_line(progress: Progress, record: TrialRecord) -> str:
    """Returns one line on a trial that ended."""
    text = f"trial {record.number} {record.state}"
    reached = [
        f"{objective.name} {number(record.metrics[objective.name])}"
        for objective in progress.objectives
        if objective.name in record.metrics
    ]
    if reached:
        text += f" {', '.join(reached)}"
    text += f" in {duration(record.seconds)}"
    if record.reason:
        text += f": {printable(record.reason)}"
    return f"{text} ({standing(progress)})"


def standing(progress: Progress) -> str:
    """Returns how far a search is: trials, the best so far, the time that is left."""
    parts = [f"{progress.done} of {progress.total}"]
    if progress.best is not None:
        name = progress.objectives[0].name
        reached = number(progress.best.metrics[name])
        parts.append(f"best {name} {reached}, trial {progress.best.number}")
    if progress.eta_seconds and progress.done < progress.total:
        parts.append(f"about {duration(progress.eta_seconds)} left")
    return "; ".join(parts)


def table(progress: Progress) -> RenderableType:
    """Returns the newest trials and how far the search is."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    names = [objective.name for objective in progress.objectives]
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in ("trial", "state", "epoch", *names, "time"):
        drawn.add_column(column, justify="left" if column == "state" else "right")
    drawn.add_column("settings", overflow="ellipsis", no_wrap=True)
    best = progress.best.number if progress.best is not None else None
    room = max(3, MOST_ROWS - len(progress.running))
    for n in sorted(progress.trials)[-room:]:
        record = progress.trials[n]
        values = [number(record.metrics[m]) if m in record.metrics else "" for m in names]
        told = record.reason if record.state in ("failed", "invalid") else brief(record.params)
        style = "bold" if n == best else "" if record.state == "finished" else "dim"
        epochs = str(record.epochs[-1]["epoch"]) if record.epochs else ""
        cells = (str(n), record.state, epochs, *values, duration(record.seconds), printable(told))
        drawn.add_row(*(Text(cell, style=style) for cell in cells))
    for n in sorted(progress.running):
        known = progress.epochs[n]
        newest = str(known[-1]["epoch"]) if known else ""
        value = next((e["value"] for e in reversed(known) if e["value"] is not None), None)
        values = ["" if value is None else number(value), *("" for _ in names[1:])]
        took = duration(time.monotonic() - progress.begun.get(n, time.monotonic()))
        cells = (str(n), "runs", newest, *values, took, printable(brief(progress.running[n])))
        drawn.add_row(*(Text(cell, style="cyan") for cell in cells))
    return Group(drawn, Text(standing(progress)))


def brief(params: Mapping[str, Any]) -> str:
    """Returns settings in one line, each by the last part of its path."""
    return " ".join(f"{path.rpartition('.')[2]}={shown(value)}" for path, value in params.items())
