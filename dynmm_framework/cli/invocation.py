"""What the commands of one invocation share: verbosity, streams, the catalogue."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from dynmm_framework.catalogue import Catalogue
    from dynmm_framework.reports.table import MetricTable

PIPED_WIDTH = 400
"""Columns where the output is no terminal: tables keep their lines whole for other programs."""


class Invocation:
    """One call of ``dynmm``; the ``obj`` of every click context.

    Attributes:
        debug: Whether an error shows its traceback.
        verbosity: -1 for ``--quiet``, 0, or the number of ``-v``.
        resumable: Whether repeating an interrupted command goes on where it stopped.
    """

    def __init__(self) -> None:
        self.debug = os.environ.get("DYNMM_DEBUG", "") not in ("", "0")
        self.verbosity = 0
        self.resumable = False
        self.stdout: TextIO = sys.stdout

    @cached_property
    def catalogue(self) -> Catalogue:
        """What is installed, found at first use."""
        from dynmm_framework.catalogue import load_catalogue

        catalogue = load_catalogue()

        def install_hint(name: str) -> str | None:
            from dynmm_framework.artifacts.records import Registry

            return Registry.load(catalogue.record_folders(), strict=False).install_hint(name)

        catalogue.hints = install_hint
        return catalogue

    @property
    def quiet(self) -> bool:
        return self.verbosity < 0

    @cached_property
    def out(self) -> Console:
        """Where results go."""
        return _console(self.stdout)

    @cached_property
    def err(self) -> Console:
        """Where progress, logs and errors go."""
        return _console(sys.stderr)

    def reserve_stdout(self, ctx: click.Context) -> None:
        """Keeps standard output free of all but :meth:`json` until the command ends."""
        ctx.with_resource(contextlib.redirect_stdout(sys.stderr))

    def json(self, document: Any) -> None:
        """Writes a document to standard output; NaN and infinities become null."""
        encoding = (getattr(self.stdout, "encoding", None) or "").lower().replace("-", "")
        text = json.dumps(plain(document), indent=2, ensure_ascii=encoding != "utf8")
        click.echo(text, file=self.stdout)

    def show(self, *renderables: RenderableType) -> None:
        """Prints results to standard output, without trailing blanks."""
        for renderable in renderables:
            with self.out.capture() as capture:
                self.out.print(renderable, highlight=False, markup=False)
            for text in capture.get().splitlines():
                click.echo(text.rstrip(), file=self.stdout, color=True)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str | Text]],
        *,
        right: Collection[int] = (),
        title: str = "",
    ) -> None:
        """Prints a table to standard output; cells are text, never markup.

        Args:
            columns: Heads.
            rows: Cells; a ``Text`` brings its style.
            right: Numbers of the columns that are aligned to the right.
            title: Heading of the table.
        """
        from rich import box
        from rich.table import Table
        from rich.text import Text

        from dynmm_framework.reports.text import printable

        def text(cell: str) -> Text:
            return Text("\n".join(map(printable, cell.split("\n"))))

        if title:
            self.show(Text(title, style="bold"))
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for number, column in enumerate(columns):
            table.add_column(
                Text(column), overflow="fold", justify="right" if number in right else "left"
            )
        for row in rows:
            table.add_row(*(text(cell) if isinstance(cell, str) else cell for cell in row))
        self.show(table)

    def metric_tables(self, tables: Iterable[MetricTable]) -> None:
        """Prints metric tables with their headings and notes; intervals too with ``-v``."""
        from rich.text import Text

        from dynmm_framework.reports.table import rich_table

        for table in tables:
            self.show(
                Text(table.title, style="bold"),
                rich_table(table, width=self.out.width, intervals=self.verbosity > 0),
            )
            if table.note:
                self.show(Text(table.note, style="dim"))
            self.line("")

    def line(self, text: str) -> None:
        """Prints one line of results to standard output, never wrapped."""
        click.echo(text, file=self.stdout)

    def note(self, text: str) -> None:
        """Prints a line for people to standard error, unless ``--quiet``."""
        if not self.quiet:
            click.echo(text, err=True)

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Sends the framework's log and Python's warnings to standard error."""
        handler = LogHandler(self)
        framework = logging.getLogger("dynmm")
        loggers = (framework, logging.getLogger("py.warnings"))
        level = framework.level
        framework.setLevel(logging.DEBUG)  # the handler decides, once options are known
        for logger in loggers:
            logger.addHandler(handler)
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            for logger in loggers:
                logger.removeHandler(handler)
            framework.setLevel(level)


class LogHandler(logging.Handler):
    """Writes log records as ``Warning: …`` to standard error, above any progress bar.

    Args:
        invocation: Whose console draws the bars.
    """

    def __init__(self, invocation: Invocation) -> None:
        super().__init__()
        self.invocation = invocation

    def emit(self, record: logging.LogRecord) -> None:
        verbosity = self.invocation.verbosity
        if record.name == "py.warnings":
            least = logging.WARNING if verbosity > 0 else logging.CRITICAL
        else:
            least = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(verbosity, 0)
        if record.levelno < least:
            return
        try:
            text = record.getMessage()
            if record.levelno >= logging.WARNING:
                text = f"{record.levelname.capitalize()}: {text}"
            if "err" in self.invocation.__dict__:
                self.invocation.err.print(text, highlight=False, markup=False, soft_wrap=True)
            else:
                click.echo(text, err=True)
        except Exception:
            self.handleError(record)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    width = None if stream.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH
    return Console(file=stream, width=width)


def clipped(text: str) -> Text:
    """Returns a cell that a narrow terminal cuts short rather than fold over several lines."""
    from rich.text import Text

    from dynmm_framework.reports.text import printable

    return Text(printable(text), no_wrap=True, overflow="ellipsis")


def plain(value: Any) -> Any:
    """Returns ``value`` as JSON types: paths as text, NaN and infinities as ``None``."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)
