"""Metrics by the number of training interactions of the target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fake_run import write_fake_run

from dynmm_framework.engine.results import Run
from dynmm_framework.evaluation.tables import POPULARITY_BOUNDS
from dynmm_framework.reports.content import group_grids
from dynmm_framework.reports.groups import GROUPS, group_tables
from dynmm_framework.reports.page import render


def record(label: str, low: int, n: int, value: float, **changed: Any) -> dict[str, Any]:
    keys = {"slice": "item_popularity", "protocol": "full", "metric": "mrr", "seed": 1}
    return {**keys, "recommender": label, "low": low, "n": n, "value": value, **changed}


def test_every_bucket_that_a_run_keeps_lies_within_one_group() -> None:
    assert {low for low, _ in GROUPS} <= set(POPULARITY_BOUNDS)


def test_a_bucket_weighs_as_much_as_it_has_targets() -> None:
    records = [
        record("a", 0, 4, 0.5),
        record("a", 20, 3, 0.1),
        record("a", 100, 1, 0.9),
        record("b", 0, 4, 0.25),
        record("a", 0, 4, 9.0, metric="hit@5"),
        record("a", 0, 4, 9.0, slice="history_length"),
    ]
    (table,) = group_tables(records, ["a", "b"], "mrr")
    assert (table.protocol, table.metric, table.sizes) == ("full", "mrr", (4, 0, 0, 4))
    assert table.rows == (
        ("a", (0.5, None, None, pytest.approx(0.3))),
        ("b", (0.25, None, None, None)),
    )


def test_seeds_are_averaged_and_protocols_kept_apart() -> None:
    records = [
        record("a", 1, 2, value, seed=seed, protocol=protocol)
        for protocol, level in (("full", 0.0), ("cold:5", 0.5))
        for seed, value in ((1, level + 0.1), (2, level + 0.3))
    ]
    full, cold = group_tables(records, ["a"], "ndcg@10")
    assert (full.metric, full.sizes) == ("mrr", (0, 2, 0, 0))
    assert full.rows[0][1][1] == pytest.approx(0.2)
    assert (cold.protocol, cold.rows[0][1][1]) == ("cold:5", pytest.approx(0.7))


def test_a_run_without_slices_has_no_groups() -> None:
    assert group_tables([], ["a"], "mrr") == ()


def test_the_page_of_a_run_has_a_table_for_each_protocol(tmp_path: Any) -> None:
    run = Run.load(write_fake_run(tmp_path / "quickstart-1a2b3c4d", seeds=(1, 2)))
    grids = list(group_grids(run))
    assert [grid.caption for grid in grids] == ["NDCG@10, full", "NDCG@10, sampled:100"]
    for grid in grids:
        assert grid.columns == ("training interactions of the target", "0", "1–4", "5–19", "20+")
        sizes, ours, *_ = grid.rows
        assert sizes == ("targets", "100", "99", "98", str(97 + 96 + 95 + 94 + 93))
        places, weights = np.arange(3, 8), np.arange(97, 92, -1)
        mean = np.average(0.3 * (0.5 + places / 10), weights=weights)
        assert ours == ("sasrec", "0.1500", "0.1800", "0.2100", f"{mean:.4f}")
    assert render(run).count("training interactions of the target</th>") >= 2
