"""Interactions as sparse matrices of users and items, as ``scipy.sparse.save_npz`` writes them.

They are read with NumPy alone and never unpickled. A matrix has no order: interactions are given
by user, then by number of the item, whatever the format of the file.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dynmm_framework.data.arrow import counted, listed
from dynmm_framework.errors import DataError, Problem
from dynmm_framework.protocols import IntArray

ENDING = ".npz"

_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "csr": ("indices", "indptr"),
    "csc": ("indices", "indptr"),
    "coo": ("row", "col"),
}
_DAMAGED = (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile)
_POINTER = b"version https://git-lfs"
_FETCH = "Fetch the real file with `git lfs pull`."
_HINT = (
    "Write it with scipy.sparse.save_npz: a csr, csc or coo matrix of users × items with a 1 "
    "for each interaction."
)


@dataclass(frozen=True, eq=False)
class Matrix:
    """Who interacted with what: the places of a matrix's ones, by user, then item.

    Attributes:
        users: Row of each interaction, ``(n,)`` int32.
        items: Column of each interaction, ``(n,)`` int32.
        n_users: Number of rows.
        n_items: Number of columns.
    """

    users: IntArray
    items: IntArray
    n_users: int
    n_items: int

    def __len__(self) -> int:
        return len(self.users)


def is_matrix(path: Path | str) -> bool:
    """Returns whether a file is one of these by its name."""
    return Path(path).suffix.lower() == ENDING


def numbers_as_ids(n: int) -> pa.Array:
    """Returns the identifiers ``"0"``, ``"1"`` … of rows or columns."""
    return pa.array(np.arange(n)).cast(pa.string())


def read_matrix(path: Path) -> Matrix:
    """Reads the interactions of one matrix.

    Zeros that are stored are no interactions.

    Raises:
        DataError: If the file is missing, cut off, a Git LFS pointer or no sparse matrix, if its
            arrays do not fit together, or if it holds anything but 0 and 1; names all of that.
    """
    arrays = _load(path)
    rows, columns, shape = _places(arrays, path)
    values = arrays["data"]
    problems = []
    for what, index, limit in (("row", rows, shape[0]), ("column", columns, shape[1])):
        outside = (index < 0) | (index >= limit)
        if outside.any():
            first = index[np.flatnonzero(outside)[0]]
            problems.append(
                f"{counted(int(outside.sum()), what + ' number')} outside the shape "
                f"{shape[0]:,} × {shape[1]:,}, such as {first}"
            )
    problems += _value_problems(values)
    if not problems:
        kept = values != 0
        keys = rows[kept].astype(np.int64) * shape[1] + columns[kept]
        found = np.unique(keys)
        if len(found) < len(keys):
            problems.append(f"gives {counted(len(keys) - len(found), 'place')} more than once")
        elif not len(found):
            problems.append("holds no interaction")
    if problems:
        _refuse(path, *problems)
    users, items = np.divmod(found, shape[1])
    return Matrix(users.astype(np.int32), items.astype(np.int32), shape[0], shape[1])


def read_matrices(paths: list[Path]) -> list[Matrix]:
    """Reads matrices of the same users and items.

    Raises:
        DataError: As :func:`read_matrix`, for all of them at once, or if their shapes differ.
    """
    found: list[Matrix] = []
    problems: list[Problem] = []
    hints: list[str] = []
    for path in paths:
        try:
            found.append(read_matrix(path))
        except DataError as error:
            problems += error.problems
            hints.append(error.hint)
    if problems:
        raise DataError(problems, hint=" ".join(dict.fromkeys(hints)))
    shapes = {(matrix.n_users, matrix.n_items) for matrix in found}
    if len(shapes) > 1:
        raise DataError(
            [
                Problem(f"has {matrix.n_users:,} users × {matrix.n_items:,} items", file=str(path))
                for path, matrix in zip(paths, found, strict=True)
            ],
            hint="Matrices that belong together have one shape: row u is the same user and column "
            "i the same item in all of them.",
        )
    return found


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
        if start == _POINTER:
            _refuse(path, "is a Git LFS pointer, not the file itself", hint=_FETCH)
        if not zipfile.is_zipfile(path):
            cut = start.startswith(b"PK")
            _refuse(path, "is cut off" if cut else "is no .npz archive; pickles are never loaded")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.strerror:
            _refuse(path, f"cannot be read: {error.strerror}", hint="Check the path of the file.")
        if "object" in str(error).lower():
            _refuse(path, "holds Python objects, which are never loaded")
        _refuse(path, f"is damaged ({error})")


def _places(
    arrays: Mapping[str, NDArray[Any]], path: Path
) -> tuple[NDArray[Any], NDArray[Any], tuple[int, int]]:
    """Returns row and column of each stored value, and the shape."""
    kind = _text(arrays.get("format"))
    if kind is None:
        _refuse(path, f"is no sparse matrix: its arrays are {listed(arrays) or 'none'}")
    if kind not in _MEMBERS:
        _refuse(path, f"is a matrix of the format {kind!r}, not csr, csc or coo")
    names = (*_MEMBERS[kind], "shape", "data")
    if missing := [name for name in names if name not in arrays]:
        _refuse(path, f"lacks the arrays {', '.join(missing)}")
    integer = [name for name in names if name != "data" and arrays[name].dtype.kind not in "iu"]
    if integer:
        _refuse(path, f"{', '.join(integer)} must be whole numbers")
    if arrays["shape"].shape != (2,):
        _refuse(path, f"has {arrays['shape'].size} dimensions, not users × items")
    shape = (int(arrays["shape"][0]), int(arrays["shape"][1]))
    if not all(1 <= size < 2**31 for size in shape):
        _refuse(path, f"has the shape {shape[0]} × {shape[1]}")
    first, second, data = (arrays[name] for name in (*_MEMBERS[kind], "data"))
    if kind == "coo":
        if not first.shape == second.shape == data.shape == (data.size,):
            _refuse(path, f"has {first.size} rows, {second.size} columns and {data.size} values")
        return first, second, shape
    n_major = shape[0] if kind == "csr" else shape[1]
    fits = second.shape == (n_major + 1,) and first.shape == data.shape == (data.size,)
    if not fits or second[0] != 0 or second[-1] != data.size or (np.diff(second) < 0).any():
        _refuse(path, "its arrays indices, indptr, data and shape do not fit together")
    major = np.repeat(np.arange(n_major), np.diff(second))
    return (major, first, shape) if kind == "csr" else (first, major, shape)


def _text(value: NDArray[Any] | None) -> str | None:
    if value is None or value.ndim or value.dtype.kind not in "SU":
        return None
    item = value.item()
    return item.decode("ascii", "replace") if isinstance(item, bytes) else str(item)


def _value_problems(values: NDArray[Any]) -> list[str]:
    if values.dtype.kind not in "biuf":
        return [f"its values are {values.dtype}, not numbers"]
    problems = []
    finite = np.isfinite(values)
    rest = values[finite]
    for wrong, what in (
        (values[~finite], "NaN or infinite"),
        (rest[rest < 0], "negative"),
        (rest[(rest > 0) & (rest != 1)], "neither 0 nor 1"),
    ):
        if len(wrong):
            are = "is" if len(wrong) == 1 else "are"
            problems.append(f"{counted(len(wrong), 'value')} {are} {what}, such as {wrong[0]}")
    return problems


def _refuse(path: Path, *reasons: str, hint: str = _HINT) -> NoReturn:
    raise DataError([Problem(reason, file=str(path)) for reason in reasons], hint=hint)
