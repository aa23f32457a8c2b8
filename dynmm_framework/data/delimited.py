"""Text with one row a line and a separator between fields: CSV, TSV, ``a::b::c``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from dynmm_framework.data.columns import Field, Unfit
from dynmm_framework.data.files import DAMAGED, arrow_stream, not_text, open_bytes, require_file
from dynmm_framework.data.rows import (
    Findings,
    convert_columns,
    examine,
    find_fields,
    numbered_lines,
)

_STAND_IN = "\x1f"
"""ASCII's unit separator, in place of a separator of several characters."""
_UNWANTED = {"\r": "a carriage return in the middle", _STAND_IN: "the control character 0x1f"}
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the rows of a text file are written.

    Attributes:
        separator: One or more characters between two fields.
        header: Whether the first line names the columns.
        names: Names of all columns of a file without header; numbers from 0 if empty.
        quoting: Whether fields may be enclosed in double quotes, separators and line feeds within.
        encoding: Codec of the text; ``None`` for UTF-8, or Latin-1 where it is not valid UTF-8.
    """

    separator: str = ","
    header: bool = True
    names: tuple[str, ...] = ()
    quoting: bool = True
    encoding: str | None = "utf-8"


def read_delimited(path: Path, fields: Sequence[Field], *, layout: Layout) -> pa.Table:
    """Reads chosen columns of a delimited text file, plain or gzip.

    Args:
        path: The file.
        fields: The columns to read and what they must hold.
        layout: How the file is written.

    Returns:
        One column for each field that the file has, under the field's name; see
        :func:`~dynmm_framework.data.columns.convert` for the types.

    Raises:
        DataError: If the file cannot be read, lacks columns or has bad rows; with every problem,
            its line and field.
    """
    require_file(path)
    findings = Findings()
    if foreign := not_text(path):
        findings.add(foreign, file=path)
        findings.raise_if_any()
    if layout.encoding is None:
        layout = replace(layout, encoding=_detect(path))
    names, width = _columns(path, layout, findings)
    findings.raise_if_any(hint=_HINT)
    found = find_fields(names, fields, file=path, findings=findings, line=int(layout.header))
    findings.raise_if_any(hint=_header_hint(layout))
    present = [field for field in fields if field.name in found]
    try:
        raw = _read_columns(path, layout, width, sorted(set(found.values())))
        table = convert_columns({name: raw[index] for name, index in found.items()}, present)
    except (Unfit, pa.ArrowException, OSError, UnicodeError) as error:
        cells = [found[field.name] for field in present]
        rows = _rows(path, layout, width, findings)
        picked = ((line, [row[cell] for cell in cells]) for line, row in rows)
        count = examine(picked, present, file=path, findings=findings)
        if not findings:
            findings.add(f"cannot be read: {error}" if count else "has no rows", file=path)
        findings.raise_if_any(hint=_HINT)
        raise
    if not table.num_rows:
        findings.add("has no rows", file=path)
        findings.raise_if_any(hint="Download or export the file again.")
    return table


_HINT = "Repair or remove the lines named; every line must have all fields."


def _header_hint(layout: Layout) -> str:
    if layout.header:
        return "Name columns as the file's first line does; if it names none, it has no header."
    return "In a file without header columns are numbered from 0."


def _detect(path: Path) -> str:
    try:
        with open_bytes(path) as stream:
            data = stream.read()
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "utf-8" if b"\x00" in data else "latin-1"
    except DAMAGED:
        pass  # reported when the rows are read
    return "utf-8"


def _columns(path: Path, layout: Layout, findings: Findings) -> tuple[list[str], int]:
    """Returns the columns' names and number, from the first row."""
    first = next(_split_rows(path, layout, findings), None)
    if first is None:
        if not findings:
            findings.add("is empty", file=path)
        return [], 0
    line, row = first
    if layout.header:
        return [name.strip() for name in row], len(row)
    if not layout.names:
        return [str(index) for index in range(len(row))], len(row)
    if len(row) != len(layout.names):
        wanted = ", ".join(layout.names)
        findings.add(
            f"has {_fields(len(row))}, not the {len(layout.names)} of this format ({wanted})",
            file=path,
            line=line,
        )
    return list(layout.names), len(layout.names)


def _read_columns(
    path: Path, layout: Layout, width: int, chosen: Sequence[int]
) -> dict[int, pa.ChunkedArray]:
    """Reads the columns of the given indices as strings, by index."""
    names = [f"{index}" for index in range(width)]
    separator = layout.separator
    with arrow_stream(path) as stream:
        source: pa.NativeFile | io.BytesIO = stream
        if len(separator) > 1:
            data = stream.read()
            if _STAND_IN.encode() in data:
                raise Unfit("control characters in the text")
            data = data.replace(separator.encode(layout.encoding or "utf-8"), _STAND_IN.encode())
            source, separator = io.BytesIO(data), _STAND_IN
        table = pa_csv.read_csv(
            source,
            read_options=pa_csv.ReadOptions(
                column_names=names,
                skip_rows_after_names=int(layout.header),
                encoding=layout.encoding or "utf-8",
                block_size=_BLOCK,
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator,
                quote_char='"' if layout.quoting else False,
                double_quote=True,
                newlines_in_values=layout.quoting,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=[names[index] for index in chosen],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                null_values=[""],
            ),
        )
    return {index: table.column(names[index]) for index in chosen}


def _rows(
    path: Path, layout: Layout, width: int, findings: Findings
) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of the right width with their line numbers; reports the others."""
    rows = _split_rows(path, layout, findings)
    if layout.header:
        next(rows, None)
    odd: tuple[int, str] | None = None
    for line, row in rows:
        if odd:
            findings.add(odd[1], file=path, line=odd[0])
        odd = None
        if len(row) == width:
            yield line, row
        else:
            odd = line, f"has {_fields(len(row))}, not {width}"
    if odd:
        findings.add(f"{odd[1]}; the file seems to be cut off here", file=path, line=odd[0])


def _fields(count: int) -> str:
    return f"{count} field{'s' * (count != 1)}"


def _split_rows(path: Path, layout: Layout, findings: Findings) -> Iterator[tuple[int, list[str]]]:
    """Yields each row's first line number and fields; blank lines are no rows."""
    lines = numbered_lines(path, findings=findings, encoding=layout.encoding or "utf-8")
    if not layout.quoting or len(layout.separator) > 1:
        for line, text in lines:
            bare = text.rstrip("\r\n")
            for character, name in _UNWANTED.items():
                if character in bare:
                    findings.add(f"holds {name}", file=path, line=line)
            if bare:
                yield line, bare.split(layout.separator)
        return
    reader = csv.reader((text for _, text in lines), delimiter=layout.separator, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if reason := _quoting_problem(error):
                findings.add(reason, file=path, line=start)
            continue
        if row:
            yield start, row


def _quoting_problem(error: csv.Error) -> str:
    """Returns what the error of the row parser means; nothing if the row may be right."""
    text = str(error)
    if "field larger" in text:  # a limit of the parser, not of the format
        return ""
    if "end of data" in text:
        return "a quoted field is never closed"
    if "new-line character" in text:
        return "a line ends in a carriage return alone; save the file with line feeds"
    if "expected after" in text:
        return "after the closing quote of a field there is more before the separator"
    return text
