"""Any table that speaks Arrow, as a plain pyarrow table, and how messages speak of its rows."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dynmm_framework.errors import DataError

LISTED = 20
"""How many offending rows, ids or column names one message spells out."""


def as_table(source: Any, *, what: str) -> pa.Table:
    """Returns a pandas, polars, pyarrow, duckdb or other Arrow-speaking table as a pyarrow one.

    Metadata of the source library is dropped and columns are brought to ordinary types (see
    :func:`plain`), so that equal contents give equal tables whatever library they come from.

    Args:
        source: The table, or a mapping from column name to values.
        what: Names the table in messages, such as ``interactions``.

    Raises:
        DataError: If ``source`` is no table, names a column twice, or a column is damaged.
    """
    try:
        table = source if isinstance(source, pa.Table) else pa.table(source)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"the {what} are no table: {type(source).__name__} ({error})",
            hint="Pass a pandas or polars frame, a pyarrow table, or a mapping of columns.",
        ) from error
    names = [str(name) for name in table.column_names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"the {what} have several columns named {listed(twice)}")
    columns = []
    for name, column in zip(names, table.columns, strict=True):
        try:
            columns.append(plain(column))
        except pa.ArrowException as error:
            raise DataError(f"column {name!r} of the {what}: {error}") from error
    return pa.table(columns, names=names)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns a column with dictionaries decoded and large or view types made ordinary.

    Times in seconds become milliseconds, because Parquet knows no seconds.
    """
    wanted = _plain_type(column.type)
    return column if wanted.equals(column.type) else column.cast(wanted)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", kind.tz)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    return kind


def as_ids(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], pa.Array]:
    """Numbers the distinct values of an id column in their order of first appearance.

    Whole numbers written as floats become whole numbers, so that ``1.0`` and ``1`` are one id.

    Args:
        column: Ids of any scalar type.

    Returns:
        The number of each row, ``-1`` where it is null, empty or NaN, and the ids as strings, in
        order.

    Raises:
        DataError: If the type cannot be written as a string.
    """
    kind = column.type
    if pa.types.is_nested(kind):
        raise DataError(f"ids of type {kind} are not supported", hint="Use strings or integers.")
    if pa.types.is_null(kind):
        column = column.cast(pa.string())
    elif pa.types.is_floating(kind):
        column = _whole(column)
    encoded = column.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # no chunk at all
        encoded = pa.array([], pa.dictionary(pa.int32(), column.type))
    try:
        names = encoded.dictionary.cast(pa.string())
    except pa.ArrowException as error:
        raise DataError(
            f"ids of type {kind} cannot be written as text: {error}",
            hint="Use strings in UTF-8 or integers.",
        ) from error
    numbers = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    unusable = _bools(pc.fill_null(pc.equal(names, ""), True))
    if pa.types.is_floating(column.type):
        unusable |= _bools(pc.invert(pc.is_finite(encoded.dictionary.cast(pa.float64()))))
    if unusable.any():
        renumbered = np.where(unusable, -1, np.cumsum(~unusable) - 1).astype(np.int32)
        numbers = np.where(numbers < 0, np.int32(-1), renumbered[numbers])
        names = names.filter(pa.array(~unusable))
    return numbers, names


def _whole(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns a float column as int64 if every value that is finite is a whole number."""
    wide = column.cast(pa.float64())
    usable = pc.if_else(pc.is_finite(wide), wide, None)
    try:
        return usable.cast(pa.int64())
    except pa.ArrowInvalid:
        return column


def _bools(values: pa.Array) -> NDArray[np.bool_]:
    array: NDArray[np.bool_] = values.to_numpy(zero_copy_only=False).astype(np.bool_)
    return array


def listed(names: Iterable[Any]) -> str:
    """Returns up to :data:`LISTED` names separated by commas, and how many more there are."""
    words = [str(name) for name in names]
    more = len(words) - LISTED
    return ", ".join(words[:LISTED]) + (f" … and {more:,} more" if more > 0 else "")


def listed_rows(wrong: NDArray[np.bool_]) -> str:
    """Returns which rows of a mask are true, as in ``3 rows (2, 5, 9)``; rows count from 1."""
    rows = np.flatnonzero(wrong)
    shown = ", ".join(f"{row + 1}" for row in rows[:LISTED])
    return f"{counted(len(rows), 'row')} ({shown}{' …' * (len(rows) > LISTED)})"


def counted(n: int, noun: str) -> str:
    """Returns ``1 row``, ``2,000 rows``."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def closest(name: str, known: Iterable[str]) -> str:
    """Returns `` (did you mean 'x'?)`` for the most similar known name, or nothing."""
    folded = {other.lower(): other for other in known}
    found = get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    return f" (did you mean {folded[found[0]]!r}?)" if found else ""
