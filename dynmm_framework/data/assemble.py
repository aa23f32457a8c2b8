"""From raw columns to a dataset: ids become numbers, times become unix seconds, all is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dynmm_framework.data.arrow import LISTED, as_ids, as_table, closest, listed, listed_rows
from dynmm_framework.data.order import chronological_order
from dynmm_framework.data.tables import Dataset, Interactions
from dynmm_framework.errors import DataError, Problem
from dynmm_framework.protocols import FloatArray, IntArray

ROLES: Final = ("user", "item", "timestamp", "rating", "review")
"""What a column of an interaction table can be; the first two are required."""

LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999 in unix seconds; later values are milliseconds or finer."""

_UNITS: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def assemble(
    interactions: Any,
    *,
    name: str,
    columns: Mapping[str, str] | None = None,
    items: Any = None,
    users: Any = None,
) -> Dataset:
    """Builds a dataset from any table that speaks Arrow.

    Items are numbered in the order of the item table, further ones by first appearance; users by
    first appearance. Items without interactions are kept, users without any are not. Times
    without a time zone are taken as UTC; fractions of a second count for the order and are then
    dropped. Rows of equal time keep their order.

    Args:
        interactions: One row for each interaction.
        name: Name of the dataset.
        columns: Names of the table's columns by role (:data:`ROLES`); each role defaults to a
            column of its own name.
        items: Item table with an ``id`` column.
        users: User table with an ``id`` column.

    Returns:
        The dataset, its interactions by user, then time.

    Raises:
        DataError: With every problem found: a column that is missing or of a wrong type, ids
            that are null or empty, times or ratings that are null or not finite, times before
            1970 or after 9999, item or user tables with null or repeated ids.
    """
    table = as_table(interactions, what="interactions")
    problems: list[Problem] = []
    found = _find_columns(table, columns or {}, problems)
    if not table.num_rows:
        problems.append(Problem("the interaction table has no rows"))
    _fail(problems, name)

    user_ids, user_names = _ids(table, found["user"], problems)
    item_ids, item_names = _ids(table, found["item"], problems)
    order: NDArray[Any] | None = None
    seconds: NDArray[np.int64] | None = None
    if "timestamp" in found:
        order, seconds = _times(table, found["timestamp"], problems)
    ratings = _ratings(table, found["rating"], problems) if "rating" in found else None
    reviews = _reviews(table, found["review"], problems) if "review" in found else None
    item_table = _side_table(items, "item", problems)
    user_table = _side_table(users, "user", problems)
    _fail(problems, name)

    item_table, item_numbers = _number_items(item_table, item_names)
    rows = Interactions(
        users=user_ids,
        items=item_numbers[item_ids],
        n_users=len(user_names),
        n_items=item_table.num_rows,
        timestamps=seconds,
        ratings=ratings,
        reviews=reviews,
    ).take(chronological_order(user_ids, order))
    return Dataset(
        name=name, interactions=rows, items=item_table, users=select_rows(user_table, user_names)
    ).noted("read")


def _fail(problems: list[Problem], name: str) -> None:
    if problems:
        raise DataError(
            [Problem(f"dataset {name!r}: {problem.message}") for problem in problems],
            hint="Rows count from 1. Remove or repair what is named, or map the roles "
            f"{', '.join(ROLES)} to other columns.",
        )


def _find_columns(
    table: pa.Table, columns: Mapping[str, str], problems: list[Problem]
) -> dict[str, str]:
    """Returns the column of each role that has one."""
    names = table.column_names
    problems.extend(
        Problem(f"unknown column role {role!r}{closest(role, ROLES)}; roles are {listed(ROLES)}")
        for role in columns
        if role not in ROLES
    )
    found = {}
    for role in ROLES:
        wanted = columns.get(role, role)
        if wanted in names:
            found[role] = wanted
        elif role in columns or role in ("user", "item"):
            problems.append(
                Problem(
                    f"column {wanted!r} for the role {role!r} is missing"
                    f"{closest(wanted, names)}; the columns are {listed(names) or 'none'}"
                )
            )
    return found


def _ids(table: pa.Table, column: str, problems: list[Problem]) -> tuple[IntArray, pa.Array]:
    try:
        numbers, names = as_ids(table.column(column))
    except DataError as error:
        problems.append(Problem(f"column {column!r}: {error.message}"))
        return np.empty(0, np.int32), pa.array([], pa.string())
    if (numbers < 0).any():
        problems.append(Problem(f"column {column!r} has no id in {listed_rows(numbers < 0)}"))
    return numbers, names


def _times(
    table: pa.Table, column: str, problems: list[Problem]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Returns the times at full resolution, for ordering, and in whole seconds."""
    values = table.column(column)
    kind = values.type
    per_second = 1
    if pa.types.is_timestamp(kind):
        per_second = _UNITS[kind.unit]
        values = values.cast(pa.int64())
    elif pa.types.is_date(kind):
        values = values.cast(pa.timestamp("s")).cast(pa.int64())
    elif pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        values = values.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_null(kind)):
        problems.append(
            Problem(
                f"column {column!r} is of type {kind}; times are numbers (unix seconds), dates "
                "or datetimes"
            )
        )
        return np.empty(0, np.int64), np.empty(0, np.int64)
    finite = _report_missing(values, column, problems)
    exact = _filled(values)
    early = finite & (exact < 0)
    late = finite & (exact >= (LAST_SECOND + 1) * per_second)
    if early.any():
        problems.append(Problem(f"column {column!r} is negative in {listed_rows(early)}"))
    if late.any():
        problems.append(
            Problem(
                f"column {column!r} is after the year 9999 in {listed_rows(late)}; times are unix "
                "seconds, these look like milliseconds or finer"
            )
        )
    usable = finite & ~early & ~late
    if not usable.all():
        exact = np.where(usable, exact, 0)
    return exact, (exact // per_second).astype(np.int64)


def _ratings(table: pa.Table, column: str, problems: list[Problem]) -> FloatArray:
    values = table.column(column)
    kind = values.type
    if pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        values = values.cast(pa.float64())
    elif pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_null(kind)):
        problems.append(Problem(f"column {column!r} is of type {kind}; ratings are numbers"))
        return np.empty(0, np.float32)
    _report_missing(values, column, problems)
    return _filled(values).astype(np.float32)


def _reviews(table: pa.Table, column: str, problems: list[Problem]) -> pa.LargeStringArray | None:
    """Returns texts, null where there is none or nothing but white space."""
    values = table.column(column)
    if not (_is_text(values.type) or pa.types.is_null(values.type)):
        problems.append(Problem(f"column {column!r} is of type {values.type}; reviews are text"))
        return None
    chunks = values.cast(pa.large_string()).chunks
    texts = pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())
    texts = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.equal(texts, ""), None, texts)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _report_missing(
    values: pa.ChunkedArray, column: str, problems: list[Problem]
) -> NDArray[np.bool_]:
    """Reports nulls, NaN and infinities; returns which rows are fit to be compared."""
    present = np.asarray(values.is_valid(), dtype=np.bool_)
    if not present.all():
        problems.append(Problem(f"column {column!r} is null in {listed_rows(~present)}"))
    finite = np.isfinite(_filled(values))
    if not finite.all():
        problems.append(Problem(f"column {column!r} is NaN or infinite in {listed_rows(~finite)}"))
    fit: NDArray[np.bool_] = present & finite
    return fit


def _filled(values: pa.ChunkedArray) -> NDArray[Any]:
    """Returns numbers as one array, nulls as 0."""
    if pa.types.is_null(values.type):
        return np.zeros(len(values), np.int64)
    filled: NDArray[Any] = pc.fill_null(values, 0).to_numpy()
    return filled


def _side_table(source: Any, what: str, problems: list[Problem]) -> pa.Table:
    """Returns an item or user table with ``id`` as its first column, checked."""
    empty = pa.table({"id": pa.array([], pa.string())})
    if source is None:
        return empty
    table = as_table(source, what=f"{what}s")
    if "id" not in table.column_names:
        problems.append(
            Problem(
                f"the {what} table has no column 'id'{closest('id', table.column_names)}; "
                f"the columns are {listed(table.column_names) or 'none'}"
            )
        )
        return empty
    try:
        numbers, names = as_ids(table.column("id"))
    except DataError as error:
        problems.append(Problem(f"column 'id' of the {what} table: {error.message}"))
        return empty
    if (numbers < 0).any():
        problems.append(Problem(f"the {what} table has no id in {listed_rows(numbers < 0)}"))
        return empty
    if len(names) < len(numbers):
        twice = np.flatnonzero(np.bincount(numbers) > 1)
        shown = listed(repr(id_.as_py()) for id_ in names.take(pa.array(twice[:LISTED])))
        problems.append(Problem(f"the {what} table has {len(twice):,} ids more than once: {shown}"))
        return empty
    rest = table.drop_columns(["id"])
    return rest.add_column(0, "id", pa.chunked_array([names.take(pa.array(numbers))]))


def _number_items(table: pa.Table, names: pa.Array) -> tuple[pa.Table, IntArray]:
    """Adds the items that only the interactions name, and numbers ``names`` by the table."""
    known = table.column("id").combine_chunks()
    places = pc.index_in(names, value_set=known)
    missing = places.is_null()
    added = names.filter(missing)
    if len(added):
        table = pa.concat_tables([table, pa.table({"id": added})], promote_options="default")
    is_missing = np.asarray(missing, dtype=np.bool_)
    numbers = places.fill_null(0).to_numpy().astype(np.int32)
    return table, np.where(is_missing, len(known) + np.cumsum(is_missing) - 1, numbers).astype(
        np.int32
    )


def select_rows(table: pa.Table, ids: pa.Array) -> pa.Table:
    """Returns the rows of an item or user table for ``ids``, nulls for those it does not hold.

    Args:
        table: A table with a string column ``id``.
        ids: Distinct raw ids, in the wanted order.

    Returns:
        A table of ``len(ids)`` rows.
    """
    places = pc.index_in(ids, value_set=table.column("id").combine_chunks())
    taken = table.take(places)
    return taken.set_column(taken.column_names.index("id"), "id", pa.chunked_array([ids]))
