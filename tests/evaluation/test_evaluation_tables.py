"""Results as tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from ranking_cases import TableRecommender, evaluation_set, random_case, requests

from dynmm_framework.data.candidates import draw_candidates
from dynmm_framework.data.tables import Dataset, Interactions
from dynmm_framework.evaluation.evaluate import Evaluation, evaluate
from dynmm_framework.evaluation.tables import per_user_table, ranking_table, slices


def dataset(users: int, items: int) -> Dataset:
    nothing = np.empty(0, np.int32)
    return Dataset(
        name="made",
        interactions=Interactions(nothing, nothing, users, items),
        items=pa.table({"id": [f"i{item}" for item in range(items)]}),
        users=pa.table({"id": [f"u{user}" for user in range(users)]}),
    )


def result_of(names: list[str], *, sampled: bool = False) -> Evaluation:
    scores, evaluation = random_case(users=15)
    candidates = draw_candidates(evaluation, 20, seed=1) if sampled else None
    return evaluate(
        TableRecommender(scores),
        evaluation,
        requests(*names),
        candidates=candidates,
        item_counts=np.arange(60) * 3,
        depth=10,
    )


def test_per_user_table_has_a_row_for_each_user() -> None:
    result = result_of(["ndcg", "mrr", "coverage"])
    table = per_user_table(result, dataset(15, 60).users)
    assert table.column_names == [
        "user", "user_id", "history_length", "n_targets", "target_interactions", "ndcg@10", "mrr",
    ]  # fmt: skip
    assert table["user_id"].to_pylist() == [f"u{user}" for user in range(15)]
    assert table["history_length"].to_pylist() == result.evaluation.histories.lengths.tolist()
    assert table["n_targets"].to_pylist() == result.evaluation.targets.lengths.tolist()
    asked = [result.evaluation.targets[row].tolist() for row in range(15)]
    assert table["target_interactions"].to_pylist() == [
        3 * items[0] if len(items) == 1 else None for items in asked
    ]
    assert table["ndcg@10"].to_numpy().mean() == pytest.approx(result.values["ndcg@10"])
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    assert floats == ["ndcg@10", "mrr"]
    assert "user_id" not in per_user_table(result).column_names


@pytest.mark.parametrize("sampled", [False, True])
def test_ranking_table_has_a_row_for_each_listed_item(sampled: bool) -> None:
    result = result_of(["ndcg"], sampled=sampled)
    table = ranking_table(result, dataset(15, 60))
    outcome = result.outcome
    assert len(table) == (outcome.top_items >= 0).sum()
    assert ("target" in table.column_names) == sampled
    first = table.slice(0, 10).to_pydict()
    assert first["rank"] == list(range(1, 11))
    assert first["item"] == outcome.top_items[0].tolist()
    assert first["item_id"] == [f"i{item}" for item in outcome.top_items[0]]
    assert first["user_id"] == ["u0"] * 10
    assert first["score"] == sorted(first["score"], reverse=True)
    targets = set(outcome.targets[0])
    assert first["hit"] == [item in targets for item in outcome.top_items[0]]
    assert "item_id" not in ranking_table(result).column_names


def test_slices_average_within_buckets() -> None:
    result = result_of(["ndcg", "mrr", "novelty", "coverage"])
    records = slices(result)
    lengths = result.evaluation.histories.lengths
    by_length = [one for one in records if one["slice"] == "history_length"]
    assert {one["metric"] for one in by_length} == {"ndcg@10", "mrr", "novelty@10"}
    middle = next(one for one in by_length if one["low"] == 5 and one["metric"] == "mrr")
    chosen = (lengths >= 5) & (lengths <= 9)
    assert middle == {
        "slice": "history_length",
        "bucket": "5–9",
        "low": 5,
        "high": 9,
        "n": int(chosen.sum()),
        "metric": "mrr",
        "value": pytest.approx(result.per_user["mrr"][chosen].mean()),
    }
    by_item = [one for one in records if one["slice"] == "item_popularity"]
    assert {one["metric"] for one in by_item} == {"ndcg@10", "mrr"}
    assert sum(one["n"] for one in by_item if one["metric"] == "mrr") == len(result.outcome.ranks)


def test_every_target_counts_in_the_bucket_of_its_own_popularity() -> None:
    evaluation = evaluation_set([[0]], [[1, 2]], 4)
    result = evaluate(
        TableRecommender(np.array([[0.0, 9.0, 1.0, 5.0]])),
        evaluation,
        requests("mrr"),
        item_counts=np.array([1, 3000, 0, 1]),
    )
    found = {
        one["bucket"]: (one["n"], one["value"])
        for one in slices(result)
        if one["slice"] == "item_popularity"
    }
    assert found == {"2,000+": (1, 1.0), "0": (1, pytest.approx(1 / 3))}


def test_sampled_targets_are_sliced_too() -> None:
    records = slices(result_of(["ndcg"], sampled=True))
    assert {one["slice"] for one in records} == {"history_length", "item_popularity"}
