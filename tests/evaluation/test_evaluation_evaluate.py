"""One evaluator: requests, protocols, averages, notes, validators."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from ranking_cases import (
    SPECS,
    TableBackbone,
    TableRecommender,
    evaluation_set,
    random_case,
    requests,
)

from dynmm_framework.data.candidates import draw_candidates
from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.errors import PluginError, StageError
from dynmm_framework.evaluation import ranking
from dynmm_framework.evaluation.evaluate import evaluate, expand, make_validator
from dynmm_framework.specs import MetricSpec


def test_expand_names_every_cutoff_once() -> None:
    found = expand([SPECS["ndcg"], SPECS["mrr"]], [20, 5, 5])
    assert [(one.name, one.k) for one in found] == [("ndcg@5", 5), ("ndcg@20", 20), ("mrr", None)]


def test_evaluate_averages_over_users() -> None:
    scores, evaluation = random_case(users=30)
    counts = np.arange(60)
    result = evaluate(
        TableRecommender(scores), evaluation, requests(at=[5, 10]), item_counts=counts
    )
    assert result.name == "TableRecommender"
    assert result.outcome.depth == 10
    assert result.outcome.item_counts is counts
    for name, values in result.per_user.items():
        assert values.shape == (30,)
        assert result.values[name] == pytest.approx(np.nanmean(values))
    assert set(result.values) - set(result.per_user) == {
        f"{name}@{k}" for name in ("coverage", "gini", "popularity_bias") for k in (5, 10)
    }
    assert "diversity@5" not in result.values
    assert (
        "undefined here, as the items have no categories: diversity@5, diversity@10" in result.notes
    )
    assert result.chance == {}
    assert result.seconds > 0


def test_evaluate_measures_diversity_where_there_are_categories() -> None:
    scores, evaluation = random_case(users=10)
    items = pa.table({"categories": [[str(item % 3)] for item in range(60)]})
    result = evaluate(TableRecommender(scores), evaluation, requests("diversity"), items=items)
    assert 0 < result.values["diversity@10"] < 1


def test_lists_are_only_as_long_as_needed() -> None:
    scores, evaluation = random_case(users=10)
    table = TableRecommender(scores)
    assert evaluate(table, evaluation, requests("ndcg", "mrr")).outcome.depth == 0
    assert evaluate(table, evaluation, requests("ndcg"), depth=7).outcome.depth == 7
    assert evaluate(table, evaluation, requests("coverage"), depth=7).outcome.depth == 10


def test_sampled_targets_are_averaged_within_users_first() -> None:
    # The first user finds three of three targets, the second none of one: the mean is 1/2.
    evaluation = evaluation_set([[9], [9]], [[0, 1, 2], [3]], 10)
    scores = np.zeros((2, 10), np.float32)
    scores[0, :3] = [3, 2, 1]
    scores[1, 3] = -1
    drawn = draw_candidates(evaluation, 4, seed=1)
    result = evaluate(
        TableRecommender(scores), evaluation, requests("hit", "mrr", "gini", at=[1]),
        candidates=drawn,
    )  # fmt: skip
    assert result.per_user["hit@1"].tolist() == [1.0, 0.0]
    assert result.values["hit@1"] == 0.5
    assert result.values["mrr"] == pytest.approx((1 + 1 / 5) / 2)
    assert result.chance == {
        "hit@1": 0.2,
        "mrr": pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5),
    }
    assert result.notes == (
        "undefined here, as lists of sampled candidates are mostly random items: gini@1",
    )


def test_a_metric_undefined_for_some_users_is_averaged_over_the_others() -> None:
    evaluation = evaluation_set([[0], [0]], [[1, 2], [1]], 3)
    result = evaluate(TableRecommender(np.ones((2, 3), np.float32)), evaluation, requests("auc"))
    assert result.values["auc"] == 0.5
    assert result.notes == ("undefined for 1 of 2 users, left out of the mean: auc",)


def test_evaluate_of_nobody_has_no_values() -> None:
    evaluation = evaluation_set([], [], 3)
    table = TableRecommender(np.ones((0, 3), np.float32))
    result = evaluate(table, evaluation, requests(at=[2]))
    assert result.values == {}
    assert "as there are no users" in result.notes[0]
    assert result.latency == {}


def test_progress_and_latency_are_reported() -> None:
    scores, evaluation = random_case(users=12)
    opened: list[tuple[str, int]] = []
    done: list[int] = []

    @contextmanager
    def progress(description: str, total: int) -> Iterator[Callable[..., None]]:
        opened.append((description, total))
        yield lambda n=1, note="": done.append(n)

    result = evaluate(
        TableRecommender(scores), evaluation, requests(), name="sasrec", progress=progress
    )
    assert opened == [("ranking sasrec", 12)]
    assert sum(done) == 12
    assert result.latency["requests"] == 12
    assert 0 < result.latency["p50_ms"] <= result.latency["p95_ms"]


def test_evaluate_names_the_recommender_that_scores_nan() -> None:
    scores, evaluation = random_case(users=12)
    scores[3, 4] = np.nan
    with pytest.raises(StageError, match="sasrec scored an item nan for user 3"):
        evaluate(TableRecommender(scores), evaluation, requests(), name="sasrec")


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("acme_metrics")
    monkeypatch.setitem(sys.modules, "acme_metrics", module)
    return module


def foreign_spec(**fields: Any) -> MetricSpec:
    return MetricSpec(
        name="acme", target="acme_metrics:acme", higher_is_better=True, summary="", **fields
    )


def test_a_metric_of_a_plugin_sees_lists_and_ranks(foreign: ModuleType) -> None:
    foreign.acme = lambda outcome, k: (outcome.lists(k)[:, 0] % 2).astype(float)
    scores, evaluation = random_case(users=6)
    result = evaluate(TableRecommender(scores), evaluation, expand([foreign_spec()], [3]))
    expected = result.outcome.top_items[:, 0] % 2
    assert result.per_user["acme@3"].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (None, "metric acme cannot be loaded: module 'acme_metrics' has no attribute 'acme'"),
        (
            lambda outcome, k: 1 / 0,
            r"metric acme@3 \(acme_metrics:acme\) failed: ZeroDivisionError: division by zero",
        ),
        (lambda outcome, k: 0.5, r"returned shape \(\) where one value for each of 6 rows"),
    ],
)
def test_a_metric_that_fails_is_named(foreign: ModuleType, function: Any, message: str) -> None:
    if function is not None:
        foreign.acme = function
    scores, evaluation = random_case(users=6)
    with pytest.raises(PluginError, match=message):
        evaluate(TableRecommender(scores), evaluation, expand([foreign_spec()], [3]))


def test_a_validator_scores_a_function() -> None:
    scores, evaluation = random_case(users=20)
    table = TableRecommender(scores)
    (request,) = requests("recall", at=[5])
    validate = make_validator(evaluation, request)
    assert (validate.metric, validate.higher_is_better) == ("recall@5", True)
    expected = evaluate(table, evaluation, [request, *requests("ndcg", "hit")]).values
    assert validate(table.score) == expected
    as_torch = validate(lambda histories: torch.from_numpy(table.score(histories)))
    assert as_torch == expected


def test_a_validator_makes_no_lists_for_a_rank_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("lists were made")

    scores, evaluation = random_case(users=5)
    monkeypatch.setattr(ranking, "largest", refuse)
    make_validator(evaluation, requests("ndcg")[0])(TableRecommender(scores).score)
    with pytest.raises(AssertionError, match="lists were made"):
        make_validator(evaluation, requests("gini")[0])(TableRecommender(scores).score)


@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy])
def test_a_validator_may_follow_a_sampled_protocol(wrap: Any) -> None:
    scores, evaluation = random_case(users=20)
    table = TableRecommender(scores)
    drawn = draw_candidates(evaluation, 20, seed=3)
    (request,) = requests("ndcg")
    validate = make_validator(evaluation, request, candidates=drawn)
    expected = evaluate(table, evaluation, [request], candidates=drawn).values["ndcg@10"]
    assert validate(lambda histories: wrap(table.score(histories)))["ndcg@10"] == expected


def test_a_validator_may_ask_some_of_the_users() -> None:
    scores, evaluation = random_case(users=20)
    table = TableRecommender(scores)
    drawn = draw_candidates(evaluation, 20, seed=3)
    (request,) = requests("ndcg")
    for candidates in (None, drawn):
        validate = make_validator(evaluation, request, candidates=candidates)
        rows = np.array([1, 4, 5, 11, 12, 19])
        few = validate.take(rows[::-1])
        assert few.evaluation.users.tolist() == evaluation.users[rows].tolist()
        asked = evaluation.take(rows)
        again = None
        if candidates is not None:
            lines = np.isin(drawn.rows, rows)
            again = replace(
                drawn,
                users=drawn.users[lines],
                items=drawn.items[lines],
                rows=np.searchsorted(rows, drawn.rows[lines]),
            )
        expected = evaluate(table, asked, [request], candidates=again).values["ndcg@10"]
        assert few(table.score)["ndcg@10"] == pytest.approx(expected)


def test_a_validator_of_a_metric_that_should_fall_says_so() -> None:
    scores, evaluation = random_case(users=5)
    validate = make_validator(evaluation, requests("gini")[0])
    assert not validate.higher_is_better
    assert 0 < validate(TableRecommender(scores).score)["gini@10"] < 1


def test_a_validator_refuses_what_is_undefined() -> None:
    scores, evaluation = random_case(users=5)
    validate = make_validator(evaluation, requests("diversity")[0])
    with pytest.raises(StageError, match="no categories") as caught:
        validate(TableRecommender(scores).score)
    assert "diversity@10 cannot be followed in training" in str(caught.value)
    assert "Set evaluate.monitor to another metric" in str(caught.value)


def test_a_model_that_scores_nan_in_training_is_stopped() -> None:
    scores, evaluation = random_case(users=5)
    validate = make_validator(evaluation, requests("ndcg")[0])
    with pytest.raises(StageError, match="the model in training scored an item nan for user 0"):
        validate(TableRecommender(scores * np.nan).score)


def test_results_are_the_same_for_any_chunk_size() -> None:
    rng = np.random.default_rng(0)
    _, evaluation = random_case(users=50)
    backbone = TableBackbone(
        rng.integers(-3, 4, (50, 5)).astype(np.float32),
        rng.integers(-3, 4, (60, 5)).astype(np.float32),
    )
    results = [
        evaluate(backbone, evaluation, requests(), chunk_users=size).values
        for size in (None, 1, 13)
    ]
    assert results[0] == results[1] == results[2]


def beauty(folder: Path) -> tuple[EvaluationSet, NDArray]:
    """Leave-one-out test users, and how often each item occurs in the whole file."""
    lines = (folder / "amazon-beauty" / "Beauty.txt").read_text().splitlines()
    items = [np.array(line.split()[1:], np.int32) - 1 for line in lines]
    n_items = 1 + max(one.max() for one in items)
    users = np.arange(len(items), dtype=np.int32)
    evaluation = EvaluationSet(
        users=users,
        histories=Histories.of([one[:-1] for one in items], n_items),
        targets=Histories.of([one[-1:] for one in items], n_items),
    )
    return evaluation, np.bincount(np.concatenate(items), minlength=n_items)


def test_popularity_on_beauty_is_as_published(real_data: Path) -> None:
    # The published figures count the whole file, the test targets included.
    evaluation, counts = beauty(real_data)

    class Counts:
        def score(self, histories: Histories, candidates: NDArray | None = None) -> NDArray:
            scores = np.broadcast_to(counts.astype(np.float32), (len(histories), len(counts)))
            return scores if candidates is None else np.take_along_axis(scores, candidates, 1)

    result = evaluate(Counts(), evaluation, requests("hit", "ndcg"), latency_users=0)
    assert result.values["hit@10"] == pytest.approx(0.0152, abs=5e-5)
    assert result.values["ndcg@10"] == pytest.approx(0.0068, abs=5e-5)
