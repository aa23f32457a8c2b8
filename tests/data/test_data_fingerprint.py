"""Fingerprints: written out once, blind to layout, sensitive to contents."""

from __future__ import annotations

import datetime
import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dynmm_framework.data.assemble import assemble
from dynmm_framework.data.fingerprint import (
    fingerprint_arrays,
    fingerprint_dataset,
    fingerprint_files,
    fingerprint_table,
)
from dynmm_framework.errors import DataError


def test_arrays_are_hashed_by_name_type_shape_and_little_endian_bytes() -> None:
    array = np.array([[1, 2], [3, 4]], np.int32)
    content = b"a:i4:(2, 2);" + bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]) + b"b:none;"
    assert fingerprint_arrays(b=None, a=array) == hashlib.sha256(content).hexdigest()


def test_layout_does_not_count() -> None:
    array = np.arange(12, dtype=np.int64).reshape(3, 4)
    expected = fingerprint_arrays(a=array)
    assert fingerprint_arrays(a=np.asfortranarray(array)) == expected
    assert fingerprint_arrays(a=array.astype(">i8")) == expected
    assert fingerprint_arrays(a=np.repeat(array, 2, axis=0)[::2]) == expected


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.array([1, 3], np.int32)},
        {"a": np.array([1, 2], np.int64)},
        {"a": np.array([1, 2], np.uint32)},
        {"a": np.array([[1, 2]], np.int32)},
        {"b": np.array([1, 2], np.int32)},
        {"a": None},
        {"a": np.array([], np.int32)},
        {"a": np.array([1, 2], np.int32), "b": None},
    ],
)
def test_every_difference_of_arrays_counts(other: dict[str, Any]) -> None:
    assert fingerprint_arrays(**other) != fingerprint_arrays(a=np.array([1, 2], np.int32))


COLUMNS = {
    "id": pa.array(["a", "bé", "c"]),
    "title": pa.array(["x", None, ""]),
    "categories": pa.array([["p", "q"], None, []]),
    "year": pa.array([1994, None, 3], pa.int16()),
    "price": pa.array([1.5, None, -0.25]),
    "adult": pa.array([True, None, False]),
    "day": pa.array([datetime.date(2020, 1, 1), None, datetime.date(2021, 1, 1)]),
    "blob": pa.array([b"\x00", None, b""]),
    "big": pa.array([2**63, None, 1], pa.uint64()),
    "nested": pa.array([{"a": 1, "b": ["z"]}, None, {"a": None, "b": []}]),
    "nothing": pa.nulls(3),
}
TABLE = pa.table(COLUMNS)


def test_table_fingerprint_is_the_same_everywhere() -> None:
    assert fingerprint_table(TABLE) == (
        "3ec1ce85df7a9c237768a464e06b067abb1e40abea8cc9b0ec9664f851a62ca5"
    )


def test_chunks_slices_and_string_layouts_do_not_count() -> None:
    double = pa.concat_tables([TABLE, TABLE])
    for same in (
        double.slice(3),
        pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1, 0), TABLE.slice(1)]),
        double.combine_chunks().slice(3, 3),
        pa.table(COLUMNS | {"id": COLUMNS["id"].cast(pa.large_string())}),
        pa.table(COLUMNS | {"id": COLUMNS["id"].cast(pa.string_view())}),
    ):
        assert fingerprint_table(same) == fingerprint_table(TABLE)


def test_what_lies_under_a_null_does_not_count() -> None:
    mask = np.array([False, True])
    first, second = pa.array([1, 2], mask=mask), pa.array([1, 3], mask=mask)
    assert fingerprint_table(pa.table({"a": first})) == fingerprint_table(pa.table({"a": second}))
    listed = pa.ListArray.from_arrays(
        pa.array([0, 1, 3], pa.int32()), pa.array([7, 8, 9]), mask=pa.array([False, True])
    )
    plain = pa.array([[7], None], pa.list_(pa.int64()))
    assert fingerprint_table(pa.table({"a": listed})) == fingerprint_table(pa.table({"a": plain}))


@pytest.mark.parametrize("name", COLUMNS)
def test_every_value_of_every_type_counts(name: str) -> None:
    rows = [COLUMNS[name].take(pa.array(order)) for order in ([0, 1, 2], [2, 1, 0], [0, 1, 1])]
    hashes = {fingerprint_table(pa.table({name: column})) for column in rows}
    assert len(hashes) == (1 if name == "nothing" else 3)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": ["x", "yz"]}, {"a": ["xy", "z"]}),
        ({"a": [[1], [2, 3]]}, {"a": [[1, 2], [3]]}),
        ({"a": ["x", None]}, {"a": ["x", ""]}),
        ({"a": [["x"], None]}, {"a": [["x"], []]}),
        ({"a": [["x", None]]}, {"a": [["x", ""]]}),
        ({"a": [1, 2]}, {"b": [1, 2]}),
        ({"a": [1], "b": [2]}, {"b": [2], "a": [1]}),
        ({"a": [1]}, {"a": [1.0]}),
        ({"a": ["1"]}, {"a": [1]}),
        ({"a": [{"x": 1}]}, {"a": [{"y": 1}]}),
        ({"a": [{"x": None}]}, {"a": pa.array([None], pa.struct({"x": pa.null()}))}),
        ({"a": [0, None]}, {"a": [None, 0]}),
    ],
)
def test_tables_that_look_alike_differ(first: Any, second: Any) -> None:
    assert fingerprint_table(pa.table(first)) != fingerprint_table(pa.table(second))


def test_empty_tables() -> None:
    empty = TABLE.slice(0, 0)
    assert fingerprint_table(empty) == fingerprint_table(TABLE.schema.empty_table())
    assert fingerprint_table(empty) != fingerprint_table(TABLE)


def test_datasets_differ_by_everything_but_name_and_log() -> None:
    table = {"user": [1, 2], "item": [3, 4], "timestamp": [5, 6], "rating": [1.0, 2.0]}
    base = assemble(table, name="x")
    expected = fingerprint_dataset(base)
    assert fingerprint_dataset(replace(base, name="y").noted("more")) == expected
    others = [
        assemble(table | {"item": [4, 3]}, name="x"),
        assemble(table | {"user": [1, 1]}, name="x"),
        assemble(table | {"timestamp": [5, 7]}, name="x"),
        assemble(table | {"rating": [1.0, 3.0]}, name="x"),
        assemble({k: v for k, v in table.items() if k != "rating"}, name="x"),
        assemble(table, name="x", items={"id": [3, 4, 9]}),
        assemble(table, name="x", items={"id": [3, 4], "title": ["a", "b"]}),
        assemble(table, name="x", users={"id": [1], "age": [9]}),
        assemble(table | {"review": ["a", "b"]}, name="x"),
        assemble(table | {"review": ["a", None]}, name="x"),
        assemble(table | {"review": ["ab", None]}, name="x"),
    ]
    assert len({expected, *map(fingerprint_dataset, others)}) == 1 + len(others)


def test_files_are_hashed_by_name_and_content_in_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_bytes(b"x" * (3 << 20))
    second.write_bytes(b"")
    expected = fingerprint_files([first, second])
    inner = hashlib.sha256(first.read_bytes()).hexdigest(), hashlib.sha256().hexdigest()
    outer = f"a.txt:{inner[0]};b.txt:{inner[1]};"
    assert expected == hashlib.sha256(outer.encode()).hexdigest()
    moved = tmp_path / "moved"
    moved.mkdir()
    os.replace(first, moved / "a.txt")  # noqa: PTH105 - either is right
    assert fingerprint_files([moved / "a.txt", second]) == expected
    assert fingerprint_files([second, moved / "a.txt"]) != expected


def test_every_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fingerprint_files([tmp_path / "a", tmp_path, tmp_path / "c"])
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{tmp_path}/a: No such file or directory"
    assert lines[1] == f"{tmp_path}: Is a directory"
    assert lines[2] == f"{tmp_path}/c: No such file or directory"
