"""A dataset's figures, computed by hand."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from dynmm_framework.config.pipeline import Filters
from dynmm_framework.data.assemble import assemble
from dynmm_framework.data.filters import apply_filters
from dynmm_framework.data.stats import coverage, dataset_stats


def test_figures_of_a_tiny_dataset() -> None:
    dataset = assemble(
        {
            "user": ["a", "a", "a", "b"],
            "item": [1, 2, 1, 3],
            "timestamp": [0, 86_400, 129_600, 43_200],
            "rating": [1, 5, 4, 2],
        },
        name="tiny",
        items={
            "id": [9, 1, 2, 3],
            "title": ["x", None, " ", "y"],
            "categories": [[], ["c"], None, ["d", "e"]],
        },
    )
    stats = dataset_stats(apply_filters(dataset, Filters(deduplicate="none", min_rating=1)))
    assert json.loads(json.dumps(stats)) == stats
    assert stats == {
        "name": "tiny",
        "users": 2,
        "items": 4,
        "interactions": 4,
        "sparsity": 1 - 3 / 8,
        "interactions_per_user": {"min": 1, "median": 2.0, "mean": 2.0, "max": 3, "none": 0},
        "interactions_per_item": {"min": 0, "median": 1.0, "mean": 1.0, "max": 2, "none": 1},
        "repeated_pairs": 1,
        "time": {"first": "1970-01-01", "last": "1970-01-02", "days": 1.5},
        "ratings": {"min": 1.0, "mean": 3.0, "max": 5.0},
        "coverage": {"title": 0.5, "text": 0.0, "categories": 0.5, "image": 0.0, "audio": 0.0},
        "columns": ["id", "title", "categories"],
        "log": [
            {"step": "read", "users": 2, "items": 4, "interactions": 4},
            {"step": "min_rating 1", "users": 2, "items": 4, "interactions": 4},
        ],
    }


def test_without_times_and_ratings() -> None:
    stats = dataset_stats(assemble({"user": [1], "item": [1]}, name="x"))
    assert stats["time"] is None
    assert stats["ratings"] is None
    assert stats["sparsity"] == 0.0


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["a", None, "", "b"]), 0.5),
        (pa.array(["a", None, "", "b"]).dictionary_encode(), 0.5),
        (pa.array(["a", None, "\t ", "b"], pa.large_string()), 0.5),
        (pa.array([["a"], None, [], []]), 0.25),
        (pa.array([["a"], None, [], []], pa.large_list(pa.string())), 0.25),
        (pa.array([1, None, 2, 3]), 0.75),
        (pa.nulls(4), 0.0),
    ],
)
def test_coverage_counts_what_is_neither_null_nor_empty(column: pa.Array, expected: float) -> None:
    assert coverage(pa.table({"id": list("abcd"), "image": column}))["image"] == expected


def test_coverage_of_no_items() -> None:
    items = pa.table({"id": pa.array([], pa.string()), "title": pa.array([], pa.string())})
    assert set(coverage(items).values()) == {0.0}
