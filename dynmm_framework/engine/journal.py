"""What a worker reports and the driver shows: a file of one JSON document a line.

Workers and driver share a file system anyway, for the data and for checkpoints, so a file serves
where a queue would cost a process of its own; and what a killed worker had said is still there.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynmm_framework.engine.context import RunContext

logger = logging.getLogger("dynmm")

NOTE_SECONDS = 0.5
"""Least time between notes of a progress bar."""
POLL_SECONDS = 0.2
"""Time between two looks at the file."""


@dataclass(frozen=True)
class Journal:
    """Writes what the driver is to show.

    Args:
        path: The file; lines are added to what an earlier worker wrote.
    """

    path: Path

    def write(self, event: str, **facts: Any) -> None:
        """Adds one line."""
        line = json.dumps({"event": event, **facts}) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)


@dataclass(frozen=True)
class WorkerContext(RunContext):
    """A worker's context: what it shows, the driver shows; of other workers nothing is shown.

    Attributes:
        journal: Where to report; ``None`` for all workers but the first.
    """

    journal: Journal | None = None

    @contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Callable[..., None]]:
        journal = self.journal
        if journal is None:
            yield lambda n=1, note="": None
            return
        told = time.monotonic()
        journal.write("bar", description=description, total=total)

        def advance(n: int = 1, note: str = "") -> None:
            nonlocal told
            if n or time.monotonic() - told >= NOTE_SECONDS:
                told = time.monotonic()
                journal.write("advance", n=n, note=note)

        yield advance
        journal.write("end")

    def epoch_finished(self, epoch: int, metrics: Mapping[str, float]) -> None:
        # Observers live with the driver; those of a worker's own catalogue are not told.
        if self.journal is not None:
            self.journal.write("epoch", stage=self.stage, epoch=epoch, metrics=dict(metrics))

    def log(self, message: str) -> None:
        if self.journal is not None:
            self.journal.write("log", stage=self.stage, message=message)


class JournalHandler(logging.Handler):
    """Hands the framework's warnings on to the driver.

    Args:
        journal: Where to report.
    """

    def __init__(self, journal: Journal) -> None:
        super().__init__(logging.WARNING)
        self.journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.journal.write("warning", level=record.levelno, message=record.getMessage())
        except Exception:
            self.handleError(record)


@contextmanager
def followed(path: Path, ctx: Callable[[str], RunContext]) -> Iterator[None]:
    """Shows what is written to a journal while the block runs.

    Args:
        path: The journal; need not exist yet.
        ctx: Returns the driver's context for the name of a stage.
    """
    done = threading.Event()
    thread = threading.Thread(target=_follow, args=(path, ctx, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _follow(path: Path, ctx: Callable[[str], RunContext], done: threading.Event) -> None:
    bar = ExitStack()
    advance: Callable[..., None] | None = None
    with bar:
        for entry in _entries(path, done):
            match entry.pop("event"):
                case "log":
                    ctx(entry["stage"]).log(entry["message"])
                case "warning":
                    logger.log(entry["level"], "%s", entry["message"])
                case "epoch":
                    ctx(entry["stage"]).epoch_finished(entry["epoch"], entry["metrics"])
                case "bar":
                    bar.close()  # of a worker that was killed
                    advance = bar.enter_context(ctx("").progress(**entry))
                case "advance" if advance is not None:
                    advance(entry["n"], note=entry["note"])
                case "end":
                    bar.close()
                    advance = None


def _entries(path: Path, done: threading.Event) -> Iterator[dict[str, Any]]:
    """Yields the lines of a growing file, all of them by the time that it is done."""
    position, rest = 0, b""
    while True:
        last = done.is_set()
        if path.exists():
            with path.open("rb") as file:
                file.seek(position)
                new = file.read()
            position += len(new)
            *lines, rest = (rest + new).split(b"\n")
            for line in lines:
                yield json.loads(line)
        if last:
            return
        done.wait(POLL_SECONDS)
