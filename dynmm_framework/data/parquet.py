"""Parquet files, whose rows have numbers instead of lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dynmm_framework.data.columns import Field, Unfit
from dynmm_framework.data.files import require_file
from dynmm_framework.data.rows import (
    Findings,
    convert_columns,
    examine,
    find_fields,
)


def read_parquet(path: Path, fields: Sequence[Field]) -> pa.Table:
    """Reads chosen columns of a Parquet file.

    Args:
        path: The file.
        fields: The columns to read and what they must hold.

    Returns:
        One column for each field that the file has, under the field's name.

    Raises:
        DataError: If the file cannot be read, lacks columns or has bad rows; with every problem,
            its row and field.
    """
    require_file(path)
    findings = Findings()
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            found = find_fields(names, fields, file=path, findings=findings)
            findings.raise_if_any()
            table = file.read(columns=[names[index] for index in sorted(set(found.values()))])
    except (pa.ArrowException, OSError) as error:
        findings.add(f"is not a whole Parquet file: {error}", file=path)
        findings.raise_if_any(hint="Download or export the file again.")
        raise
    present = [field for field in fields if field.name in found]
    raw = {field.name: table.column(names[found[field.name]]) for field in present}
    if not table.num_rows:
        findings.add("has no rows", file=path)
        findings.raise_if_any(hint="Download or export the file again.")
    try:
        return convert_columns(raw, present)
    except Unfit as error:
        columns = [raw[field.name].to_pylist() for field in present]
        rows = enumerate(zip(*columns, strict=True), start=1)
        examine(rows, present, file=path, findings=findings, unit="row")
        if not findings:
            findings.add(f"cannot be read: {error}", file=path)
        findings.raise_if_any(hint="Repair or remove the rows named.")
        raise
