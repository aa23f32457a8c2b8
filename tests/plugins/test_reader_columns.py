"""Columns converted at once, and the same values examined one by one, must agree."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynmm_framework.data.columns import Field, Unfit, complaint, convert


def column(values: list[Any]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values)])


def complaints(values: list[Any], field: Field) -> list[str]:
    forms: dict[str, str] = {}
    return [wrong for value in values if (wrong := complaint(value, field, forms))]


NUMBERS = ["1", "-2", "0", "3.5", "1e3", ".5", "+4", " 7 ", "881250949", "nan", "inf", "-inf", ""]
WORDS = ["abc", "a\nb", "3,5", "1_000", "12a", "--1", "0.", "a b"]
TIMES = ["2020-01-02", "2020-01-02 03:04:05", "1969-12-31", "1529193600000", "253402300799"]


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.sampled_from(NUMBERS + WORDS + TIMES), min_size=1, max_size=4),
    kind=st.sampled_from(["id", "number", "time", "text", "any"]),
    empty=st.booleans(),
)
def test_text_fits_if_and_only_if_there_is_no_complaint(
    values: list[str], kind: Any, empty: bool
) -> None:
    field = Field(name="x", column="x", kind=kind, empty=empty)
    try:
        convert(column(values), field)
        fits = True
    except Unfit:
        fits = False
    assert fits == (not complaints(values, field)), complaints(values, field)


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(
        st.one_of(st.none(), st.floats(width=64), st.integers(-(2**62), 2**62).map(float)),
        min_size=1,
        max_size=4,
    ),
    kind=st.sampled_from(["id", "number", "time"]),
    empty=st.booleans(),
)
def test_numbers_fit_if_and_only_if_there_is_no_complaint(
    values: list[float | None], kind: Any, empty: bool
) -> None:
    field = Field(name="x", column="x", kind=kind, empty=empty)
    source = pa.chunked_array([pa.array(values, pa.float64())])
    try:
        convert(source, field)
        fits = True
    except Unfit:
        fits = False
    assert fits == (not complaints(values, field)), complaints(values, field)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1, 2], ["1", "2"]),
        ([1.0, 12.0], ["1", "12"]),
        ([" a ", "007"], ["a", "007"]),
        ([1.5, 2.0], ["1.5", "2"]),
    ],
)
def test_ids_are_strings(values: list[Any], wanted: list[str]) -> None:
    assert convert(column(values), Field(name="x", column="x", kind="id")).to_pylist() == wanted


@pytest.mark.parametrize("values", [[1.0, float("nan")], [None, "a"], ["", "a"], [[1], [2]]])
def test_ids_are_never_missing_or_nested(values: list[Any]) -> None:
    with pytest.raises(Unfit):
        convert(column(values), Field(name="x", column="x", kind="id"))


@pytest.mark.parametrize(
    ("values", "settings", "seconds"),
    [
        (["1577934245"], {}, 1577934245),
        (["1577934245.75"], {}, 1577934245.75),
        (["2020-01-02 03:04:05"], {}, 1577934245),
        (["2020-01-02T04:04:05+01:00"], {}, 1577934245),
        (["02.01.2020 03:04"], {"pattern": "%d.%m.%Y %H:%M"}, 1577934240),
        ([20200102], {"pattern": "%Y%m%d"}, 1577923200),
        (["1577934245000"], {"unit": "ms"}, 1577934245),
        ([1577934245000.0], {"unit": "ms"}, 1577934245),
        ([datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)], {}, 1577934245),
        ([date(2020, 1, 2)], {}, 1577923200),
    ],
)
def test_times_of_every_form(values: list[Any], settings: dict[str, Any], seconds: float) -> None:
    times = convert(column(values), Field(name="x", column="x", kind="time", **settings))
    if pa.types.is_temporal(times.type):
        per_second = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[times.type.unit]
        assert times.cast(pa.int64())[0].as_py() / per_second == seconds
    else:
        assert times[0].as_py() == seconds
    assert not complaints(values, Field(name="x", column="x", kind="time", **settings))


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("3,5", "number", "'3,5' is not a number; decimals are written with a point"),
        ("abc", "number", "'abc' is not a number"),
        ("inf", "number", "inf is not finite"),
        ([1], "id", "[1] is a list, not an id"),
        ({}, "time", "{} is a dict, not a time"),
        (None, "id", "is empty"),
        ("-1", "time", "-1 is negative; times are counted from 1970"),
        ("1529193600000", "time", "lies after the year 9999; is it in milliseconds?"),
        ("1969-12-31", "time", "'1969-12-31' is before 1970"),
        ("x" * 99, "number", "'" + "x" * 39 + "… is not a number"),
    ],
)
def test_complaints_say_what_is_wrong(value: Any, kind: Any, message: str) -> None:
    assert message in complaint(value, Field(name="x", column="x", kind=kind), {})


def test_a_time_column_has_one_form() -> None:
    field = Field(name="x", column="x", kind="time")
    assert complaints(["5", "2020-01-02", "7"], field) == [
        "'2020-01-02' is a date, unlike the values before it"
    ]


def test_lists_come_as_lists_or_as_text() -> None:
    field = Field(name="x", column="x", kind="list", separator=";")
    assert convert(column(["a; b", None, ""]), field).to_pylist() == [["a", "b"], None, None]
    assert convert(column([["a"], None]), field).to_pylist() == [["a"], None]
    assert convert(column([[1, 2]]), field).to_pylist() == [["1", "2"]]


def test_anything_keeps_its_type_and_text_of_numbers_becomes_numbers() -> None:
    field = Field(name="x", column="x", kind="any")
    assert convert(column(["1", "2"]), field).to_pylist() == [1, 2]
    assert convert(column(["1.5", ""]), field).to_pylist() == [1.5, None]
    assert convert(column(["1", "b"]), field).to_pylist() == ["1", "b"]
    assert convert(column([True]), field).to_pylist() == [True]
