"""JSON lines: one object a line, as review dumps and event logs have it."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pa_json

from dynmm_framework.data.columns import Field, Unfit
from dynmm_framework.data.files import arrow_stream, not_text, require_file
from dynmm_framework.data.rows import (
    Findings,
    convert_columns,
    examine,
    find_fields,
    numbered_lines,
)

_PEEKED = 100
_BLOCK = 1 << 24
_LONGEST_LITERAL = 1 << 20
_HINT = "Repair or remove the lines named; every line must be one whole JSON object."


def read_json_lines(path: Path, fields: Sequence[Field], *, loose: bool = False) -> pa.Table:
    """Reads chosen top-level fields of a file of JSON objects, one a line, plain or gzip.

    Args:
        path: The file.
        fields: The fields to read and what they must hold.
        loose: Whether lines may also be literals of Python, ``{'a': 1}``, as in old dumps.

    Returns:
        One column for each field that the file has, under the field's name; see
        :func:`~dynmm_framework.data.columns.convert` for the types.

    Raises:
        DataError: If the file cannot be read, lacks fields or has bad lines; with every problem,
            its line and field.
    """
    first = first_objects(path, loose=loose)
    findings = Findings()
    keys = list(dict.fromkeys(key for record in first for key in record))
    present = list(fields)
    if keys:
        found = find_fields(keys, fields, file=path, findings=findings)
        findings.raise_if_any(hint="Name fields as the first lines of the file do.")
        present = [field for field in fields if field.name in found]
    types = {str(field.column): _type(first, field) for field in present}
    schema = pa.schema(list(types.items()))
    try:
        return convert_columns(_read(path, schema, present), present)
    except (Unfit, pa.ArrowException, OSError, UnicodeError):
        # Irregular lines: read one by one, which finds either the bad ones or that none is.
        return _read_carefully(path, present, findings, loose=loose)


def first_objects(path: Path, *, loose: bool = False) -> list[dict[str, Any]]:
    """Returns the first objects of a file, to see which fields it has; none if they are bad.

    Raises:
        DataError: If the file cannot be opened, is empty, or holds something else.
    """
    require_file(path)
    findings = Findings()
    if foreign := not_text(path):
        findings.add(foreign, file=path)
        findings.raise_if_any()
    lines = [text for _, text in islice(numbered_lines(path, findings=findings), _PEEKED)]
    texts = [text for text in lines if text.strip()]
    if not texts:
        if not findings:
            findings.add("has no rows", file=path)
        findings.raise_if_any(hint="Download or export the file again.")
    if texts[0].lstrip().startswith("["):
        findings.add(
            "is one JSON array; one object a line is needed",
            file=path,
            line=1 + lines.index(texts[0]),
        )
        findings.raise_if_any(hint="Convert it, for example with: jq -c '.[]' FILE")
    records = []
    for text in texts:
        try:
            records.append(parse_object(text, loose=loose))
        except ValueError:
            continue
    return records


def parse_object(text: str, *, loose: bool = False) -> dict[str, Any]:
    """Parses one line.

    Raises:
        ValueError: If it is no JSON object (with ``loose``, nor a literal of Python).
    """
    try:
        value = json.loads(text.rstrip())
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        if not loose or len(text) > _LONGEST_LITERAL:
            raise ValueError(_reason(error)) from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            raise ValueError(_reason(error)) from None
    if not isinstance(value, dict):
        raise ValueError(f"is a {type(value).__name__}, not an object")
    return value


def _reason(error: ValueError) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error}"
    at_end = error.pos >= len(error.doc) or error.msg.startswith("Unterminated")
    cut = "; the line seems to be cut off" if at_end else ""
    return f"is not JSON: {error.msg} at character {error.pos + 1}{cut}"


def objects(
    path: Path, *, findings: Findings, loose: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields every object with its line number; bad lines are added to ``findings``."""
    for line, text in numbered_lines(path, findings=findings):
        if not text.strip():
            continue
        try:
            yield line, parse_object(text, loose=loose)
        except ValueError as error:
            findings.add(str(error), file=path, line=line)


def _type(records: Sequence[dict[str, Any]], field: Field) -> pa.DataType:
    """Returns the type that a field has in the first objects."""
    values = [value for record in records if (value := record.get(str(field.column))) is not None]
    for kinds, arrow in (
        (str, pa.string()),
        (bool, pa.bool_()),
        (int, pa.int64()),
        ((int, float), pa.float64()),
        (list, pa.list_(pa.string())),
    ):
        if values and all(isinstance(value, kinds) for value in values):
            return arrow
    return pa.float64() if field.kind in ("number", "time") else pa.string()


def _read(path: Path, schema: pa.Schema, fields: Sequence[Field]) -> dict[str, pa.ChunkedArray]:
    with arrow_stream(path) as stream:
        table = pa_json.read_json(
            stream,
            read_options=pa_json.ReadOptions(block_size=_BLOCK),
            parse_options=pa_json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
    table.validate(full=True)  # the parser lets invalid UTF-8 through
    return {field.name: table.column(str(field.column)) for field in fields}


def _read_carefully(
    path: Path, fields: Sequence[Field], findings: Findings, *, loose: bool
) -> pa.Table:
    columns: dict[str, list[Any]] = {field.name: [] for field in fields}

    def rows() -> Iterator[tuple[int, list[object]]]:
        for line, record in objects(path, findings=findings, loose=loose):
            values = [record.get(str(field.column)) for field in fields]
            for field, value in zip(fields, values, strict=True):
                columns[field.name].append(value)
            yield line, values

    examine(rows(), fields, file=path, findings=findings)
    findings.raise_if_any(hint=_HINT)
    try:
        return convert_columns({name: _column(values) for name, values in columns.items()}, fields)
    except Unfit as error:
        findings.add(f"cannot be read: {error}", file=path)
        findings.raise_if_any(hint=_HINT)
        raise


def _column(values: list[Any]) -> pa.ChunkedArray:
    try:
        return pa.chunked_array([pa.array(values)])
    except (pa.ArrowException, TypeError, OverflowError):
        return pa.chunked_array([pa.array([None if v is None else str(v) for v in values])])
