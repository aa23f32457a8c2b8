"""Fingerprints of contents: equal on every platform, library version and memory layout."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError, Problem

_CHUNK = 1 << 20


def fingerprint_arrays(**arrays: NDArray[Any] | None) -> str:
    """Returns the SHA-256 of named arrays: names, types, shapes and contents.

    Args:
        **arrays: Arrays of numbers or booleans; ``None`` differs from an empty array.

    Returns:
        64 hexadecimal digits, independent of byte order, memory layout and argument order.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        if array is None:
            digest.update(f"{name}:none;".encode())
            continue
        portable = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        kind = portable.dtype.kind + str(portable.dtype.itemsize)
        digest.update(f"{name}:{kind}:{portable.shape};".encode())
        digest.update(portable.data)
    return digest.hexdigest()


def fingerprint_table(table: pa.Table) -> str:
    """Returns the SHA-256 of a table: column names in order, types and values.

    Chunking, slicing and what lies under nulls do not count.
    """
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(f"{name}:{len(column)};".encode())
        whole = column.combine_chunks()
        chunks = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
        array = pa.concat_arrays(chunks) if chunks else pa.array([], column.type)
        for part in _parts(array):
            digest.update(part)
    return digest.hexdigest()


def _parts(array: pa.Array) -> Iterator[Any]:
    """Yields the bytes that make up an array's values, whatever buffers hold them."""
    kind = array.type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        array, kind = array.cast(pa.string()), pa.string()
    valid = np.asarray(array.is_valid(), dtype=np.bool_)
    yield b"all;" if valid.all() else b"some;" + np.packbits(valid).tobytes()
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        lengths = pc.fill_null(pc.binary_length(array), 0)
        yield b"text;"
        yield _portable(lengths, "<i8")
        joined = pc.drop_null(array)
        offsets = np.frombuffer(joined.buffers()[1], np.int32, len(joined) + 1, joined.offset * 4)
        content = joined.buffers()[2]
        yield content[offsets[0] : offsets[-1]] if content is not None else b""
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield b"list;"
        yield _portable(pc.fill_null(pc.list_value_length(array), 0), "<i8")
        yield from _parts(array.flatten())
    elif pa.types.is_boolean(kind):
        yield b"bool;"
        yield _portable(pc.fill_null(array, False), "|u1")
    elif pa.types.is_integer(kind):
        yield b"unsigned;" if pa.types.is_unsigned_integer(kind) else b"integer;"
        unsigned = pa.types.is_unsigned_integer(kind)
        yield _portable(pc.fill_null(array, 0), "<u8" if unsigned else "<i8")
    elif pa.types.is_floating(kind):
        yield f"float{kind.bit_width};".encode()
        yield _portable(pc.fill_null(array.cast(pa.float64()), 0.0), "<f8")
    elif pa.types.is_struct(kind):
        yield b"struct;"
        for field, values in zip(kind, array.flatten(), strict=True):
            yield f"{field.name};".encode()
            yield from _parts(values)
    else:  # dates, decimals …: few, and never on a hot path
        yield f"{kind};".encode()
        yield repr(pc.drop_null(array).to_pylist()).encode()


def _portable(array: pa.Array, kind: str) -> bytes:
    values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return values.astype(kind).tobytes()


def fingerprint_files(paths: Iterable[Path | str]) -> str:
    """Returns the SHA-256 of files' names and contents, in the given order.

    Folders do not count, so that a moved data set keeps its fingerprint.

    Raises:
        DataError: With every file that is missing or cannot be read.
    """
    digest = hashlib.sha256()
    problems = []
    for path in map(Path, paths):
        content = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    content.update(chunk)
        except OSError as error:
            problems.append(Problem(error.strerror or str(error), file=str(path)))
            continue
        digest.update(f"{path.name}:{content.hexdigest()};".encode())
    if problems:
        raise DataError(problems, hint="Check the path and its permissions.")
    return digest.hexdigest()


def fingerprint_dataset(dataset: Dataset) -> str:
    """Returns the SHA-256 of all that a dataset holds, its name and log excepted."""
    rows = dataset.interactions
    parts = (
        fingerprint_arrays(
            users=rows.users, items=rows.items, timestamps=rows.timestamps, ratings=rows.ratings
        ),
        fingerprint_table(dataset.items),
        fingerprint_table(dataset.users),
        str((rows.n_users, rows.n_items)),
        *_reviews(rows.reviews),
    )
    return hashlib.sha256(";".join(parts).encode()).hexdigest()


def _reviews(texts: pa.Array | None) -> Iterator[str]:
    """Yields the digests of reviews; nothing if there are none, as in data of earlier versions."""
    if texts is not None:
        for start in range(0, len(texts), _CHUNK):  # one array of strings ends at 2 GiB
            yield fingerprint_table(pa.table({"review": texts.slice(start, _CHUNK)}))
