"""What a person sees while a run works: stage lines, progress bars, log lines, on stderr."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

logger = logging.getLogger("dynmm")

NOTE_INTERVAL = 15.0
"""Seconds between progress lines where there is no terminal to draw a bar on."""


class Display:
    """Draws progress bars on a terminal and writes occasional lines elsewhere.

    Args:
        console: Where to draw; ``None`` shows nothing.
    """

    def __init__(self, console: Console | None) -> None:
        self.console = console
        self._progress: Progress | None = None

    def line(self, text: str) -> None:
        """Writes one line above any bar."""
        if self.console is not None:
            self.console.print(text, markup=False, emoji=False, highlight=False)

    @contextmanager
    def bar(self, description: str, total: int | None) -> Iterator[Callable[..., None]]:
        """Shows one bar; the yielded function is called as ``advance(n=1, note="")``."""
        if self.console is None:
            yield lambda n=1, note="": None
        elif self.console.is_terminal:
            with self._shown() as progress:
                task = progress.add_task(description, total=total, note="")

                def advance(n: int = 1, note: str = "") -> None:
                    progress.advance(task, n)
                    if note:
                        progress.update(task, note=note)

                yield advance
                progress.remove_task(task)
        else:
            done, last = 0, time.monotonic()

            def report(n: int = 1, note: str = "") -> None:
                nonlocal done, last
                done += n
                if time.monotonic() - last >= NOTE_INTERVAL:
                    last = time.monotonic()
                    of = f"/{total}" if total else ""
                    self.line(f"  {description} {done}{of} {note}".rstrip())

            yield report

    @contextmanager
    def _shown(self) -> Iterator[Progress]:
        """Yields what draws bars; a bar inside another is a second line of it."""
        if self._progress is not None:
            yield self._progress
            return
        with Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("[dim]{task.fields[note]}"),
            console=self.console,
            transient=True,
        ) as self._progress:
            try:
                yield self._progress
            finally:
                self._progress = None
