"""From raw tables to datasets, and everything that a raw table can have wrong."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.data.assemble import assemble
from dynmm_framework.data.tables import Dataset
from dynmm_framework.errors import DataError


def raw(dataset: Dataset) -> list[tuple[str, str]]:
    """The interactions of a dataset in raw ids, in their order."""
    items, users = dataset.items["id"].to_pylist(), dataset.users["id"].to_pylist()
    rows = dataset.interactions
    return [(users[u], items[i]) for u, i in zip(rows.users, rows.items, strict=True)]


def message(table: Any, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        assemble(table, name="x", **options)
    assert len(caught.value.problems) == len(caught.value.message.splitlines())
    return str(caught.value)


def test_ids_count_by_the_item_table_then_by_first_appearance() -> None:
    dataset = assemble(
        {"user": ["b", "a", "b", "b"], "item": [30, 10, 20, 10], "timestamp": [4, 1, 2, 4]},
        name="tiny",
        items={"title": ["ninety", "twenty"], "id": [90, 20], "year": [None, 1994]},
        users={"id": ["z", "a"], "age": [33, 44]},
    )
    assert dataset.items.to_pydict() == {
        "id": ["90", "20", "30", "10"],
        "title": ["ninety", "twenty", None, None],
        "year": [None, 1994, None, None],
    }
    assert dataset.users.to_pydict() == {"id": ["b", "a"], "age": [None, 44]}
    rows = dataset.interactions
    assert rows.users.tolist() == [0, 0, 0, 1]
    assert rows.items.tolist() == [1, 2, 3, 3]
    assert rows.timestamps is not None
    assert rows.timestamps.tolist() == [2, 4, 4, 1]
    assert rows.ratings is None
    assert (rows.n_users, rows.n_items) == (2, 4)
    assert (rows.users.dtype, rows.items.dtype, rows.timestamps.dtype) == ("i4", "i4", "i8")
    assert dataset.log == (("read", 2, 4, 4),)
    assert dataset.name == "tiny"


@given(
    st.lists(
        st.tuples(st.sampled_from("xyz"), st.integers(-3, 3), st.integers(0, 4)),
        min_size=1,
        max_size=30,
    ),
    st.booleans(),
)
def test_rows_come_by_user_then_time_whatever_their_order(
    table: list[tuple[str, int, int]], timed: bool
) -> None:
    users, items, times = (list(column) for column in zip(*table, strict=True))
    columns: dict[str, Any] = {"user": users, "item": items}
    dataset = assemble(columns | ({"timestamp": times} if timed else {}), name="x")
    first = list(dict.fromkeys(users))
    expected = sorted(table, key=lambda row: (first.index(row[0]), row[2] if timed else 0))
    assert raw(dataset) == [(user, str(item)) for user, item, _ in expected]
    assert dataset.users["id"].to_pylist() == first
    assert dataset.items["id"].to_pylist() == [str(item) for item in dict.fromkeys(items)]


@pytest.mark.parametrize(
    ("kind", "values", "ids"),
    [
        (pa.int8(), [3, 1, 3], ["3", "1"]),
        (pa.uint64(), [2**64 - 1, 0, 2**64 - 1], ["18446744073709551615", "0"]),
        (pa.float64(), [7.0, -0.0, 0.0], ["7", "0"]),
        (pa.float32(), [1.5, 2.0, 1.5], ["1.5", "2"]),
        (pa.bool_(), [True, False, True], ["true", "false"]),
        (pa.binary(), [b"b", b"a", b"b"], ["b", "a"]),
        (pa.large_string(), ["b", "a", "b"], ["b", "a"]),
        (pa.string_view(), ["b", "a", "b"], ["b", "a"]),
        (pa.dictionary(pa.int8(), pa.string()), ["b", "a", "b"], ["b", "a"]),
        (pa.date32(), [datetime.date(2020, 1, 2)] * 3, ["2020-01-02"]),
        (pa.decimal128(4, 1), [decimal.Decimal("1.5")] * 3, ["1.5"]),
    ],
)
def test_ids_of_any_type_become_strings(kind: Any, values: list[Any], ids: list[str]) -> None:
    column = pa.array(values, kind)
    dataset = assemble(pa.table({"user": [1, 1, 1], "item": column}), name="x")
    assert dataset.items["id"].to_pylist() == ids
    assert dataset.items["id"].type == pa.string()
    assert dataset.users["id"].to_pylist() == ["1"]


MOMENT = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1_577_836_800], pa.int32()),
        pa.array([1_577_836_800], pa.uint64()),
        pa.array([1_577_836_800.75], pa.float64()),
        pa.array([decimal.Decimal("1577836800.5")], pa.decimal128(12, 1)),
        pa.array([MOMENT.date()], pa.date32()),
        pa.array([MOMENT.date()], pa.date64()),
        pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("s")),
        pa.array([MOMENT], pa.timestamp("ms", "Asia/Tokyo")),
        pa.array([MOMENT.replace(microsecond=999_999)], pa.timestamp("us", "UTC")),
        pa.array([MOMENT], pa.timestamp("ns", "UTC")),
    ],
    ids=lambda column: str(column.type),
)
def test_times_of_any_unit_become_unix_seconds(column: pa.Array) -> None:
    rows = assemble(pa.table({"user": [1], "item": [1], "timestamp": column}), name="x")
    assert rows.interactions.timestamps is not None
    assert rows.interactions.timestamps.tolist() == [1_577_836_800]
    assert rows.interactions.timestamps.dtype == np.int64


@pytest.mark.parametrize(
    "times",
    [
        pa.array([10.9, 10.2, 10.5]),
        pa.array([10_900, 10_200, 10_500], pa.timestamp("ms")),
    ],
    ids=["float", "timestamp[ms]"],
)
def test_fractions_of_a_second_count_for_the_order(times: pa.Array) -> None:
    dataset = assemble(
        pa.table({"user": [1, 1, 1], "item": list("cab"), "timestamp": times}), name="x"
    )
    assert [item for _, item in raw(dataset)] == ["a", "b", "c"]
    assert dataset.interactions.timestamps is not None
    assert dataset.interactions.timestamps.tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    "column",
    [[4, 3, 5], [4.0, 3.0, 5.0], pa.array([4, 3, 5], pa.decimal128(3)), np.float16([4, 3, 5])],
    ids=["int", "float", "decimal", "half"],
)
def test_ratings_become_floats_in_the_rows_order(column: Any) -> None:
    table = {"user": ["a", "b", "a"], "item": [1, 2, 3], "rating": column}
    rows = assemble(table, name="x").interactions
    assert rows.ratings is not None
    assert rows.ratings.dtype == np.float32
    assert rows.ratings.tolist() == [4.0, 5.0, 3.0]


def test_pandas_polars_and_arrow_give_the_same_dataset() -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    interactions = {
        "who": ["b", "a", "b"],
        "what": ["x", "y", "y"],
        "when": [datetime.datetime(2020, 1, day) for day in (3, 2, 1)],
        "stars": [1.0, 2.0, 3.0],
    }
    items = {"id": ["y"], "title": ["why"], "categories": [["a", "b"]]}
    columns = {"user": "who", "item": "what", "timestamp": "when", "rating": "stars"}
    made = [
        Dataset.from_arrow(
            pa.table(interactions), name="d", columns=columns, items=pa.table(items)
        ),
        Dataset.from_pandas(
            pandas.DataFrame(interactions), name="d", columns=columns, items=pandas.DataFrame(items)
        ),
        Dataset.from_polars(
            polars.DataFrame(interactions), name="d", columns=columns, items=polars.DataFrame(items)
        ),
    ]
    for dataset in made:
        assert raw(dataset) == [("b", "y"), ("b", "x"), ("a", "y")]
        assert dataset.interactions.timestamps is not None
        assert dataset.interactions.timestamps.tolist() == [1577836800, 1578009600, 1577923200]
        assert dataset.interactions.ratings is not None
        assert dataset.interactions.ratings.tolist() == [3.0, 1.0, 2.0]
        assert dataset.items.equals(made[0].items)
        assert dataset.users.equals(made[0].users)


def test_any_object_that_speaks_arrow_is_a_table() -> None:
    class Speaks:
        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            table = pa.table({"user": [1], "item": [2]})
            return table.__arrow_c_stream__(requested_schema)

    assert raw(assemble(Speaks(), name="x")) == [("1", "2")]


def test_chunks_do_not_matter() -> None:
    def chunked(values: list[int]) -> pa.ChunkedArray:
        return pa.chunked_array([values[:1], [], values[1:3], values[3:]], pa.int64())

    columns = {"user": [2, 1, 2, 1], "item": [5, 6, 7, 5], "timestamp": [4, 3, 2, 1]}
    whole = assemble(columns, name="x")
    parts = assemble(pa.table({k: chunked(v) for k, v in columns.items()}), name="x")
    assert raw(whole) == raw(parts) == [("2", "7"), ("2", "5"), ("1", "5"), ("1", "6")]


def test_every_problem_of_the_rows_is_reported_at_once() -> None:
    text = message(
        {
            "user": ["a", None, "", "d"],
            "item": [1.0, float("nan"), 2.0, 3.0],
            "timestamp": [-1.0, float("inf"), 1.6e12, None],
            "rating": [None, float("nan"), 2.0, 1.0],
        }
    )
    assert text.splitlines() == [
        "dataset 'x': column 'user' has no id in 2 rows (2, 3)",
        "dataset 'x': column 'item' has no id in 1 row (2)",
        "dataset 'x': column 'timestamp' is null in 1 row (4)",
        "dataset 'x': column 'timestamp' is NaN or infinite in 1 row (2)",
        "dataset 'x': column 'timestamp' is negative in 1 row (1)",
        "dataset 'x': column 'timestamp' is after the year 9999 in 1 row (3); times are unix "
        "seconds, these look like milliseconds or finer",
        "dataset 'x': column 'rating' is null in 1 row (1)",
        "dataset 'x': column 'rating' is NaN or infinite in 1 row (2)",
        "  Rows count from 1. Remove or repair what is named, or map the roles user, item, "
        "timestamp, rating, review to other columns.",
    ]


def test_the_list_of_rows_is_bounded() -> None:
    text = message({"user": [None] * 5000 + ["a"], "item": [1] * 5001})
    assert "has no id in 5,000 rows (1, 2, 3, " in text
    assert "19, 20 …)" in text
    assert len(text) < 300


def test_missing_columns_name_the_nearest() -> None:
    text = message({"user_id": [1], "movie": [1]}, columns={"rating": "stars", "timestmp": "movie"})
    assert text.splitlines()[:-1] == [
        "dataset 'x': unknown column role 'timestmp' (did you mean 'timestamp'?); roles are user, "
        "item, timestamp, rating, review",
        "dataset 'x': column 'user' for the role 'user' is missing (did you mean 'user_id'?); the "
        "columns are user_id, movie",
        "dataset 'x': column 'item' for the role 'item' is missing; the columns are user_id, movie",
        "dataset 'x': column 'stars' for the role 'rating' is missing; the columns are user_id, "
        "movie",
    ]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"user": [], "item": []}, "the interaction table has no rows"),
        ({"user": [[1]], "item": [1]}, "column 'user': ids of type list<item: int64> are not"),
        ({"user": [b"\xff"], "item": [1]}, "column 'user': ids of type binary cannot be written"),
        (
            {"user": [1], "item": [1], "timestamp": ["2020-01-01"]},
            "column 'timestamp' is of type string; times are numbers (unix seconds), dates or",
        ),
        ({"user": [1], "item": [1], "rating": ["5"]}, "'rating' is of type string; ratings are"),
        ({"user": [1], "item": [1], "timestamp": [None]}, "'timestamp' is null in 1 row (1)"),
        ({"user": [1], "item": [None]}, "column 'item' has no id in 1 row (1)"),
        ({"user": [1], "item": [1], "timestamp": [datetime.date(1969, 1, 1)]}, "is negative in 1"),
        ({"user": [1], "item": [1], "timestamp": pa.array([2**64 - 1], pa.uint64())}, "year 9999"),
        (
            {"user": [1], "item": [1], "timestamp": pa.array([2**62], pa.timestamp("s"))},
            "column 'timestamp' of the interactions: Casting from timestamp[s] to timestamp[ms]",
        ),
        (42, "the interactions are no table: int"),
        (pa.table([[1], [2]], names=["user", "user"]), "have several columns named user"),
    ],
)
def test_bad_tables_are_refused_in_words(table: Any, expected: str) -> None:
    assert expected in message(table)


@pytest.mark.parametrize("what", ["item", "user"])
@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"ID": [1]}, "table has no column 'id' (did you mean 'ID'?); the columns are ID"),
        ({"id": [1, None]}, "table has no id in 1 row (2)"),
        ({"id": [1, 2, 1, 2, 3]}, "table has 2 ids more than once: '1', '2'"),
        ({"id": [[1]]}, "table: ids of type list<item: int64> are not supported"),
    ],
)
def test_bad_side_tables_are_refused(what: str, table: Any, expected: str) -> None:
    assert expected in message({"user": [1], "item": [1]}, **{f"{what}s": table})


def test_reviews_are_text_or_nothing() -> None:
    table = {"user": [1, 1, 2], "item": [1, 2, 1]}
    for column in (
        ["a ", None, " "],
        pa.array(["a", None, ""], pa.large_string()),
        pa.chunked_array([["a"], [None, "\n"]]),
    ):
        rows = assemble(table | {"review": column}, name="x").interactions
        assert rows.reviews is not None
        assert rows.reviews.to_pylist() == ["a", None, None]
    nothing = assemble(table | {"review": pa.nulls(3)}, name="x").interactions
    assert nothing.reviews is not None
    assert nothing.reviews.null_count == 3
    text = message(table | {"review": [1, 2, 3]})
    assert "column 'review' is of type int64; reviews are text" in text
    mapped = assemble({**table, "note": list("abc")}, name="x", columns={"review": "note"})
    assert mapped.interactions.reviews is not None
    assert mapped.interactions.reviews.to_pylist() == ["a", "b", "c"]
