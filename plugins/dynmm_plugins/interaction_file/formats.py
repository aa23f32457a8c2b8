"""Which format a file has, and reading it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from dynmm_framework.data.columns import Field
from dynmm_framework.data.delimited import Layout, read_delimited
from dynmm_framework.data.jsonlines import read_json_lines
from dynmm_framework.data.parquet import read_parquet
from dynmm_framework.data.rows import Findings, numbered_lines
from dynmm_framework.errors import DataError, Problem
from dynmm_plugins.interaction_file.config import TableFile

_ENDINGS = {
    "csv": "csv",
    "tsv": "csv",
    "tab": "csv",
    "txt": "csv",
    "dat": "csv",
    "parquet": "parquet",
    "pq": "parquet",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "jsonl",
}
_SEPARATORS = (",", "\t", ";", "|", "::")


def read_table(path: Path, fields: Sequence[Field], config: TableFile) -> pa.Table:
    """Reads a file in the format that its settings or its name say.

    Raises:
        DataError: If the format cannot be told or the file is bad.
    """
    kind = config.format if config.format != "auto" else _format(path)
    numbers = [field for field in fields if isinstance(field.column, int)]
    if numbers and kind != "csv":
        raise DataError(
            [
                Problem(
                    f"column {field.column} is a number; the columns of this format have names",
                    file=str(path),
                    path=field.setting,
                )
                for field in numbers
            ]
        )
    if kind == "parquet":
        return read_parquet(path, fields)
    if kind == "jsonl":
        return read_json_lines(path, fields)
    layout = Layout(
        separator=config.separator or _separator(path, config.encoding),
        header=config.header,
        quoting=config.quoting,
        encoding=config.encoding,
    )
    return read_delimited(path, fields, layout=layout)


def _format(path: Path) -> str:
    ending = path.name.lower().removesuffix(".gz").rsplit(".", 1)[-1]
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    raise DataError(
        [Problem("its name does not tell its format", file=str(path))],
        hint=f"Set format to csv, parquet or jsonl; known endings: {', '.join(_ENDINGS)}.",
    )


def _separator(path: Path, encoding: str) -> str:
    """Returns the separator that the first line has most of, a comma if it has none."""
    first = next(numbered_lines(path, findings=Findings(), encoding=encoding), (1, ""))[1]
    counts = {separator: first.count(separator) for separator in _SEPARATORS}
    return max(_SEPARATORS, key=lambda separator: counts[separator])
