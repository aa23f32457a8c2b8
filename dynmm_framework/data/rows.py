"""Tools for readers: report every bad row of a file with its line, and build the dataset.

Formats are read by :mod:`~dynmm_framework.data.delimited`,
:mod:`~dynmm_framework.data.jsonlines` and :mod:`~dynmm_framework.data.parquet`; what a column
must hold is said with :class:`~dynmm_framework.data.columns.Field`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dynmm_framework.data.arrow import closest, listed
from dynmm_framework.data.assemble import assemble
from dynmm_framework.data.columns import Field, Unfit, complaint, convert, quoted
from dynmm_framework.data.files import DAMAGED, open_bytes
from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError, Problem
from dynmm_framework.protocols import Context, DatasetReader

SHOWN = 20
"""How many problems of one file an error spells out."""
KEPT = 10_000
"""How many problems of one file are remembered, for :func:`check`."""


class RowsError(DataError):
    """Bad files: shows the first problems of each and holds the rest.

    Args:
        shown: What the message spells out.
        everything: All problems that were remembered.
        hint: What the reader can do next.
    """

    def __init__(
        self, shown: Iterable[Problem], *, everything: Sequence[Problem], hint: str = ""
    ) -> None:
        super().__init__(shown, hint=hint)
        self.everything: tuple[Problem, ...] = tuple(everything)


class Findings:
    """Collects what is wrong with the files of a dataset, to report it all at once."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Problem]] = {}
        self._counts: dict[str, int] = {}
        self._hints: dict[str, int] = {}
        self._hint = ""

    def __len__(self) -> int:
        return sum(self._counts.values())

    def add(
        self,
        message: str,
        *,
        file: Path | str = "",
        line: int = 0,
        path: str = "",
        hint: str = "",
    ) -> None:
        """Adds one finding.

        Args:
            message: What is wrong.
            file: Where.
            line: Its line from 1; 0 if unknown.
            path: The field or setting concerned.
            hint: What to do about it, if the hint for the others is no help with this one.
        """
        self._add(Problem(message, file=str(file), line=line, path=path))
        if hint:
            self._hints[hint] = self._hints.get(hint, 0) + 1

    def _add(self, problem: Problem) -> None:
        self._counts[problem.file] = self._counts.get(problem.file, 0) + 1
        kept = self._kept.setdefault(problem.file, [])
        if len(kept) < KEPT:
            kept.append(problem)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Takes over the problems of a ``DataError`` raised inside, so that others are found."""
        try:
            yield
        except DataError as error:
            for problem in error.everything if isinstance(error, RowsError) else error.problems:
                self._add(problem)
            self._hint = self._hint or error.hint

    def raise_if_any(self, *, hint: str = "") -> None:
        """Raises what was found.

        Raises:
            RowsError: If anything was found; the first :data:`SHOWN` of each file are spelt out.
        """
        if not self._counts:
            return
        shown: list[Problem] = []
        everything: list[Problem] = []
        for file, kept in self._kept.items():
            spelt_out = kept if len(kept) <= SHOWN + 1 else kept[:SHOWN]
            for problems, target in ((spelt_out, shown), (kept, everything)):
                more = self._counts[file] - len(problems)
                rest = [Problem(f"and {more:,} more problems", file=file)] if more else []
                target += [*problems, *rest]
        hints = list(self._hints)
        if sum(self._hints.values()) < len(self):
            hints.append(hint or self._hint)
        raise RowsError(shown, everything=everything, hint=" ".join(filter(None, hints)))


def check(reader: DatasetReader, ctx: Context) -> tuple[Problem, ...]:
    """Reads a dataset only to see what is wrong with it.

    Returns:
        Every problem of its files, up to :data:`KEPT` of each; none if it can be read.
    """
    try:
        reader.files(ctx)
        reader.read(ctx)
    except RowsError as error:
        return error.everything
    except DataError as error:
        return tuple(error.problems)
    return ()


def numbered_lines(
    path: Path, *, findings: Findings, encoding: str = "utf-8"
) -> Iterator[tuple[int, str]]:
    """Yields the lines of a text file with their numbers from 1, ends of lines included.

    What cannot be decoded and a compressed file that ends early are added to ``findings``.

    Args:
        path: A plain or gzip file.
        findings: Takes what is wrong.
        encoding: Name of a codec that Python knows.
    """
    number = 0
    try:
        with open_bytes(path) as stream:
            if _by_line(encoding):
                for number, raw in enumerate(stream, start=1):
                    yield number, _decoded(raw, number, path, encoding, findings)
            else:
                text = _decoded(stream.read(), 0, path, encoding, findings)
                yield from enumerate(text.splitlines(keepends=True), start=1)
    except DAMAGED as error:
        findings.add(_damage(error), file=path, line=number + 1, hint=_DAMAGED_HINT)


_DAMAGED_HINT = "Download or export the file again."


def _damage(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "the compressed file ends in the middle: it is truncated"
    if isinstance(error, zlib.error | gzip.BadGzipFile):
        return f"the compressed data are damaged ({error})"
    return f"cannot be read further: {getattr(error, 'strerror', None) or error}"


def _by_line(encoding: str) -> bool:
    """Whether lines of this encoding end in the byte of ASCII's line feed."""
    return "\n".encode(encoding) == b"\n"


def _decoded(raw: bytes, line: int, path: Path, encoding: str, findings: Findings) -> str:
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        bad = raw[error.start : error.start + 1]
        findings.add(
            f"byte {error.start + 1} of the line (0x{bad.hex()}) is not {encoding}"
            f"{_other_encoding(raw, encoding)}",
            file=path,
            line=line or 1 + raw[: error.start].count(b"\n"),
            hint="Save the file as utf-8, or set the reader's `encoding`, if it has one.",
        )
        text = raw.decode(encoding, errors="replace")
    return text.removeprefix("\ufeff") if line <= 1 else text


def _other_encoding(raw: bytes, encoding: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "; the file is in utf-16"
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii") and b"\x00" not in raw:
        return "; is the file in latin-1 or cp1252?"
    return ""


def convert_columns(columns: Mapping[str, pa.ChunkedArray], fields: Sequence[Field]) -> pa.Table:
    """Converts raw columns, by name of their field, to a table of typed ones.

    Raises:
        Unfit: If a column holds a value that its field does not allow.
    """
    converted = {}
    for field in fields:
        if field.name in columns:
            try:
                converted[field.name] = convert(columns[field.name], field)
            except Unfit as error:
                raise Unfit(f"{field.column}: {error}") from error
    return pa.table(converted)


def examine(
    rows: Iterable[tuple[int, Sequence[object]]],
    fields: Sequence[Field],
    *,
    file: Path,
    findings: Findings,
    unit: str = "line",
) -> int:
    """Looks at rows one by one and adds what is wrong with them to ``findings``.

    Args:
        rows: Number of the line or row in the file, and the values in the order of ``fields``.
        fields: What the values must be.
        file: The file they are from.
        findings: Takes what is wrong.
        unit: ``line``, or ``row`` in formats without lines.

    Returns:
        How many rows there were.
    """
    forms: dict[str, str] = {}
    seen: dict[str, dict[str, int]] = {field.name: {} for field in fields if field.unique}
    count = 0
    for number, values in rows:
        count += 1
        for field, value in zip(fields, values, strict=True):
            wrong = complaint(value, field, forms)
            if field.unique and not wrong:
                first = seen[field.name].setdefault(str(value).strip(), number)
                if first != number:
                    wrong = f"{quoted(value)} appears again; it is on {unit} {first} already"
            if wrong and unit == "line":
                findings.add(wrong, file=file, line=number, path=str(field.column))
            elif wrong:
                findings.add(wrong, file=file, path=f"{unit} {number}: {field.column}")
    return count


def find_fields(
    names: Sequence[str], fields: Sequence[Field], *, file: Path, findings: Findings, line: int = 0
) -> dict[str, int]:
    """Finds the fields' columns among the names of a header; adds those missing to ``findings``.

    Returns:
        The index of the column by the name of its field.
    """
    found: dict[str, int] = {}
    for field in fields:
        column = field.column
        if isinstance(column, int):
            matches = [column] if column < len(names) else []
        else:
            matches = [index for index, name in enumerate(names) if name == column]
        if len(matches) > 1:
            findings.add(f"several columns are named {field.column!r}", file=file, line=line)
        elif matches:
            found[field.name] = matches[0]
        elif not field.optional:
            findings.add(
                f"there is no column {column!r}{closest(str(column), names)}; "
                f"the columns are: {listed(names)}",
                file=file,
                line=line,
                path=field.setting,
            )
    return found


def distinct(table: pa.Table, column: str = "id") -> pa.Table:
    """Returns the first row of each value of ``column``, in order."""
    _, first = np.unique(
        table.column(column).combine_chunks().dictionary_encode().indices.to_numpy(),
        return_index=True,
    )
    return table.take(pa.array(np.sort(first)))


def build(
    name: str,
    interactions: pa.Table,
    *,
    ctx: Context,
    items: pa.Table | None = None,
    users: pa.Table | None = None,
    keep_unseen_items: bool = False,
) -> Dataset:
    """Makes the dataset of what a reader read, and logs how many pairs are repeated.

    Args:
        name: Name of the dataset.
        interactions: Columns ``user``, ``item`` and, if there are any, ``timestamp``, ``rating``.
        ctx: Takes the log lines.
        items: Item table with distinct values in ``id``.
        users: User table with distinct values in ``id``.
        keep_unseen_items: Whether items without interactions stay in the catalogue.
    """
    if items is not None and not keep_unseen_items:
        seen = pc.unique(interactions.column("item"))
        items = items.filter(pc.is_in(items.column("id"), value_set=seen))
    dataset = assemble(interactions, name=name, items=items, users=users)
    rows = dataset.interactions
    pairs = np.sort(rows.users.astype(np.int64) * rows.n_items + rows.items)
    repeated = int(np.count_nonzero(np.diff(pairs) == 0))
    if repeated:
        ctx.log(
            f"{name}: {repeated:,} of {len(rows):,} rows repeat an earlier pair of user and item; "
            "data.filters.deduplicate says which of them is kept"
        )
    return dataset
