"""Matrices and identifiers from the files that people publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dynmm_framework.artifacts.arrays import load_arrays
from dynmm_framework.artifacts.atomic import read_json
from dynmm_framework.artifacts.weights import refuse_pointer
from dynmm_framework.errors import ArtifactError, DataError, Problem
from dynmm_framework.specs import did_you_mean
from dynmm_plugins.precomputed.config import PrecomputedConfig


class Table(NamedTuple):
    """Rows of features.

    Attributes:
        matrix: ``(rows, width)``, floating; perhaps mapped from the disk.
        ids: Identifier of each row, as text; ``None`` if the file has none.
    """

    matrix: NDArray[Any]
    ids: Sequence[str] | None = None


def read_table(path: Path, config: PrecomputedConfig) -> Table:
    """Reads a file of features.

    Raises:
        DataError: If it is damaged, or not a matrix of numbers; names it and says why.
    """
    _require_content(path)
    if path.suffix.lower() == ".npy":
        return Table(_matrix(_read_npy(path), path))
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path, config)
    return _read_parquet(path, config)


def read_ids(path: Path) -> list[str]:
    """Reads identifiers: ``.npy``, a JSON list, or text with one a line.

    Raises:
        DataError: If they cannot be read.
    """
    _require_content(path)
    if path.suffix.lower() == ".npy":
        return _as_ids(_read_npy(path), path)
    if path.suffix.lower() == ".json":
        try:
            found = read_json(path)
        except ArtifactError as error:
            raise _problem(path, "is not valid JSON", "Export it again.") from error
        if not isinstance(found, list):
            raise _problem(path, "is not a list", "Write a list of identifiers, one for each row.")
        return [str(entry) for entry in found]
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise _problem(path, "is not text in UTF-8", "Write one identifier a line.") from error


def _require_content(path: Path) -> None:
    try:
        refuse_pointer(path)
    except ArtifactError as error:
        raise _problem(path, error.message.partition(": ")[2], error.hint) from error


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        if "object" in str(error).lower() and _is_npy(path):
            reason = "holds Python objects, which are never loaded"
            hint = "Save the matrix itself: np.save(path, np.asarray(matrix, dtype=np.float32))."
            raise _problem(path, reason, hint) from error
        raise _problem(path, f"is not a whole .npy file ({error})", "Export it again.") from error
    return array


def _is_npy(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


def _read_safetensors(path: Path, config: PrecomputedConfig) -> Table:
    try:
        arrays = load_arrays(path)
    except ArtifactError as error:
        raise _problem(path, error.message.partition(": ")[2], error.hint) from error
    if config.tensor is not None:
        matrix = _named(arrays, config.tensor, path, "tensor")
    else:
        found = [name for name, array in arrays.items() if array.ndim == 2]
        if len(found) != 1:
            names = ", ".join(found) or ", ".join(arrays) or "nothing"
            reason = f"holds {len(found)} matrices: {names}"
            raise _problem(path, reason, "Name one of them in tensor.")
        matrix = arrays[found[0]]
    ids = None
    if config.ids is not None and not config.names_a_file:
        ids = _as_ids(_named(arrays, config.ids, path, "tensor"), path)
    return Table(_matrix(matrix, path), ids)


def _read_parquet(path: Path, config: PrecomputedConfig) -> Table:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = f"is not a whole Parquet file ({str(error).splitlines()[0]})"
        raise _problem(path, reason, "Export it again.") from error
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    ids: Sequence[str] | None = None
    # A column of identifiers is there for a purpose: it is used unless another way is asked for.
    column = config.ids or ("id" if "id" in columns and config.rows is None else None)
    if column is not None:
        values = _named(columns, column, path, "column")
        if values.null_count:
            rows = np.flatnonzero(np.asarray(values.is_null()))[:5].tolist()
            raise _problem(path, f"column {column!r} has nulls in rows {rows}", "Remove them.")
        ids = values.cast(pa.string()).to_pylist()
    names = config.columns or _vector_columns(columns, column)
    if not names:
        reason = f"has no column of lists or of numbers: {', '.join(columns)}"
        raise _problem(path, reason, "Name the columns of the features.")
    chosen = [_named(columns, name, path, "column") for name in names]
    if len(chosen) == 1 and _is_list(chosen[0].type):
        return Table(_matrix(_unlisted(chosen[0], names[0], path), path), ids)
    try:
        parts = [np.asarray(values.cast(pa.float64()).fill_null(np.nan)) for values in chosen]
    except pa.ArrowException as error:
        raise _problem(path, f"a column is not numbers: {error}", "Name others.") from error
    return Table(_matrix(np.stack(parts, axis=1), path), ids)


def _vector_columns(columns: Mapping[str, pa.Array], ids: str | None) -> list[str]:
    rest = {name: values.type for name, values in columns.items() if name != ids}
    lists = [name for name, kind in rest.items() if _is_list(kind)]
    if len(lists) == 1:
        return lists
    if lists:
        return []
    return [name for name, kind in rest.items() if pa.types.is_floating(kind)]


def _is_list(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests)


def _unlisted(values: pa.Array, name: str, path: Path) -> NDArray[Any]:
    """Returns a column of lists as a matrix; a null list becomes a row of NaN."""
    lengths = pc.list_value_length(values)
    widths = pc.drop_null(lengths).unique().to_pylist()
    if len(widths) > 1:
        usual = int(pc.mode(lengths)[0]["mode"].as_py())
        other = np.flatnonzero(np.asarray(lengths.fill_null(usual)) != usual)
        rows = ", ".join(map(str, other[:5].tolist()))
        reason = f"column {name!r} has lists of different lengths: {usual}, but not in row {rows}"
        raise _problem(path, reason, "Every item's feature must have the same width.")
    width = widths[0] if widths else 0
    matrix = np.full((len(values), width), np.nan)
    filled = np.asarray(values.is_valid())
    flat = pc.list_flatten(values.filter(pa.array(filled))).cast(pa.float64()).fill_null(np.nan)
    matrix[filled] = np.asarray(flat).reshape(-1, width)
    return matrix


def _named(found: Mapping[str, Any], name: str, path: Path, what: str) -> Any:
    if name not in found:
        reason = f"has no {what} {name!r}{did_you_mean(name, found)}"
        raise _problem(path, reason, f"It has: {', '.join(found)}.")
    return found[name]


def _matrix(array: NDArray[Any], path: Path) -> NDArray[Any]:
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        reason = f"holds an array of shape {array.shape} and type {array.dtype}, not a matrix"
        raise _problem(path, reason, "Features are a matrix of numbers: a row for each item.")
    return array


def _as_ids(array: NDArray[Any], path: Path) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        reason = f"identifiers of shape {array.shape} and type {array.dtype}"
        raise _problem(path, reason, "Identifiers are one whole number or text for each row.")
    return [str(entry) for entry in array.tolist()]


def _problem(path: Path, reason: str, hint: str) -> DataError:
    return DataError([Problem(reason, file=str(path))], hint=hint)
