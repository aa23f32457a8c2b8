"""Files of vectors: safetensors, Parquet, NumPy; written piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dynmm_framework.artifacts.arrays import save_rows
from dynmm_framework.errors import ArtifactError
from dynmm_framework.protocols import FloatArray

NAMES_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class Rows:
    """Vectors to be written: who they belong to, and where they come from."""

    names: pa.Table  # id, and title if there are any
    dim: int
    chunks: Callable[[], Iterator[FloatArray]]

    @property
    def shape(self) -> tuple[int, int]:
        return self.names.num_rows, self.dim


def _write_safetensors(
    folder: Path, tables: Mapping[str, Rows], metadata: Mapping[str, str]
) -> None:
    streams = {name: (rows.shape, rows.chunks()) for name, rows in tables.items()}
    save_rows(folder / "vectors.safetensors", streams, metadata=metadata)
    for name, rows in tables.items():
        pq.write_table(rows.names, folder / f"{name}.parquet", compression="zstd")


def _write_parquet(folder: Path, tables: Mapping[str, Rows], metadata: Mapping[str, str]) -> None:
    for name, rows in tables.items():
        vector = pa.field("vector", pa.list_(pa.float32(), rows.dim), nullable=False)
        schema = pa.schema([*rows.names.schema, vector], metadata=dict(metadata))
        with pq.ParquetWriter(folder / f"{name}.parquet", schema, compression="zstd") as writer:
            start = 0
            for chunk in rows.chunks():
                flat = pa.array(chunk.reshape(-1), pa.float32())
                column = pa.FixedSizeListArray.from_arrays(flat, rows.dim)
                part = rows.names.slice(start, len(chunk))
                table = pa.table([*part.columns, column], schema=schema)
                writer.write_table(table, row_group_size=len(chunk))
                start += len(chunk)


def _write_npy(folder: Path, tables: Mapping[str, Rows], _: Mapping[str, str]) -> None:
    for name, rows in tables.items():
        _write_lines(folder / f"{name}.ids.txt", map(_one_line, _values(rows.names["id"])))
        if "title" in rows.names.column_names:
            titles = (" ".join((title or "").split()) for title in _values(rows.names["title"]))
            _write_lines(folder / f"{name}.titles.txt", titles)
        with (folder / f"{name}.npy").open("wb") as file:
            _write_npy_header(file, rows.shape)
            for chunk in rows.chunks():
                file.write(chunk.astype("<f4", copy=False).tobytes())


def _write_npy_header(file: BinaryIO, shape: tuple[int, int]) -> None:
    facts = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, facts)


def _values(column: pa.ChunkedArray) -> Iterator[str | None]:
    """Yields the values of a column, few of them in Python at a time."""
    for batch in pa.table([column], names=["value"]).to_batches(max_chunksize=NAMES_AT_ONCE):
        yield from batch["value"].to_pylist()


def _one_line(name: str | None) -> str:
    if not name or len(name.splitlines()) != 1:
        raise ArtifactError(
            f"the id {name!r} holds a line break or nothing, so that it cannot be a line of a file",
            hint="Choose the format parquet or safetensors, which hold any id.",
        )
    return name


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


WRITERS: Mapping[str, Callable[[Path, Mapping[str, Rows], Mapping[str, str]], None]] = {
    "safetensors": _write_safetensors,
    "parquet": _write_parquet,
    "npy": _write_npy,
}
