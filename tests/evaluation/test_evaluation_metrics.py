"""Metrics against ir-measures, naive definitions and closed forms."""

from __future__ import annotations

import math
from typing import Any

import ir_measures
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, Success, nDCG
from numpy.typing import NDArray
from ranking_cases import (
    SPECS,
    TableRecommender,
    evaluation_set,
    random_case,
    ranked_items,
    requests,
)

from dynmm_framework.data.candidates import draw_candidates
from dynmm_framework.evaluation import metrics
from dynmm_framework.evaluation.chance import chance, mean_chance
from dynmm_framework.evaluation.evaluate import evaluate
from dynmm_framework.evaluation.outcome import Categories, Outcome
from dynmm_framework.evaluation.ranking import rank

ORACLE = {
    "ndcg": lambda k: nDCG @ k,
    "precision": lambda k: P @ k,
    "recall": lambda k: R @ k,
    "map": lambda k: AP @ k,
    "hit": lambda k: Success @ k,
    "mrr": lambda k: RR,
}


def value(outcome: Outcome, name: str, k: int | None = 10) -> Any:
    return getattr(metrics, name)(outcome, k)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    most_targets=st.sampled_from([1, 4, 30]),
    k=st.sampled_from([1, 3, 10, 25]),
)
def test_metrics_agree_with_ir_measures(seed: int, most_targets: int, k: int) -> None:
    scores, evaluation = random_case(seed, users=12, most_targets=most_targets)
    outcome = rank(TableRecommender(scores), evaluation, depth=k)
    qrels = [
        ir_measures.Qrel(str(row), str(item), 1)
        for row in range(12)
        for item in evaluation.targets[row]
    ]
    # Places as scores: trec_eval rounds scores to single precision and orders ties in its way.
    run = []
    for row in range(12):
        order = sorted(ranked_items(60, evaluation, row), key=lambda item: -scores[row, item])
        run += [
            ir_measures.ScoredDoc(str(row), str(item), 60 - place)
            for place, item in enumerate(order)
        ]
    measures = {make(k): name for name, make in ORACLE.items()}
    found = {name: np.full(12, np.nan) for name in ORACLE}
    for result in ir_measures.iter_calc(list(measures), qrels, run):
        found[measures[result.measure]][int(result.query_id)] = result.value
    for name, expected in found.items():
        ours = value(outcome, name, None if name == "mrr" else k)
        np.testing.assert_allclose(ours, expected, rtol=1e-9, err_msg=name)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000), levels=st.sampled_from([None, 1, 3]), k=st.sampled_from([1, 5, 40])
)
def test_metrics_of_ties_are_the_definition(seed: int, levels: int | None, k: int) -> None:
    scores, evaluation = random_case(seed, users=12, levels=levels, most_targets=8)
    outcome = rank(TableRecommender(scores), evaluation, depth=k)
    for row in range(12):
        begin, end = outcome.targets.offsets[row], outcome.targets.offsets[row + 1]
        ranks = sorted(outcome.ranks[begin:end])
        within = [rank_ for rank_ in ranks[:k] if rank_ <= k]
        ideal = sum(1 / math.log2(place + 2) for place in range(min(len(ranks), k)))
        expected = {
            "hit": float(ranks[0] <= k),
            "recall": len(within) / len(ranks),
            "precision": len(within) / k,
            "ndcg": sum(1 / math.log2(rank_ + 1) for rank_ in within) / ideal,
            "map": sum((n + 1) / rank_ for n, rank_ in enumerate(within)) / len(ranks),
            "mrr": 1 / ranks[0] if ranks[0] <= k else 0.0,
        }
        for name, number in expected.items():
            assert value(outcome, name, k)[row] == pytest.approx(number, rel=1e-12), name
            assert 0 <= number <= 1 + 1e-12, name


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([None, 1, 3]))
def test_auc_counts_pairs(seed: int, levels: int | None) -> None:
    scores, evaluation = random_case(seed, users=10, levels=levels)
    found = value(rank(TableRecommender(scores), evaluation, depth=0), "auc", None)
    for row in range(10):
        targets = evaluation.targets[row].tolist()
        others = [i for i in ranked_items(60, evaluation, row) if i not in targets]
        wins = [
            (scores[row, t] > scores[row, o]) + 0.5 * (scores[row, t] == scores[row, o])
            for t in targets
            for o in others
        ]
        assert found[row] == pytest.approx(np.mean(wins))


def test_auc_is_undefined_if_every_ranked_item_is_a_target() -> None:
    outcome = rank(
        TableRecommender(np.ones((2, 3), np.float32)),
        evaluation_set([[0], [0]], [[1, 2], [1]], 3),
        depth=0,
    )
    np.testing.assert_array_equal(value(outcome, "auc", None), [np.nan, 0.5])


def test_a_scorer_of_equal_scores_gets_chance_and_never_more() -> None:
    evaluation = evaluation_set([[0]] * 30, [[row + 1] for row in range(30)], 102)
    outcome = rank(TableRecommender(np.zeros((30, 102), np.float32)), evaluation, depth=20)
    assert outcome.ranks.tolist() == [51.0] * 30  # the middle of 101
    assert value(outcome, "auc", None).tolist() == [0.5] * 30
    for request in requests("hit", "ndcg", "recall", "map", "precision", at=[5, 10, 20]):
        level = chance(request, 101)
        assert level is not None
        assert request(outcome).mean() <= level


@pytest.mark.parametrize("n", [5, 20, 101])
def test_chance_is_what_random_scores_get(n: int) -> None:
    rng = np.random.default_rng(0)
    users = 4000
    evaluation = evaluation_set([[]] * users, [[0]] * users, n)
    outcome = rank(
        TableRecommender(rng.standard_normal((users, n)).astype(np.float32)), evaluation, depth=0
    )
    names = ("hit", "ndcg", "recall", "precision", "map", "mrr", "auc")
    for request in requests(*names, at=[1, 10]):
        level = chance(request, n)
        values = request(outcome)
        error = values.std() / math.sqrt(users)
        assert level == pytest.approx(values.mean(), abs=4 * error + 1e-12), request.name


@pytest.mark.parametrize(("n", "n_targets"), [(4, 4), (12, 3), (40, 2)])
def test_chance_of_several_targets_is_what_random_scores_get(n: int, n_targets: int) -> None:
    users = 4000
    evaluation = evaluation_set([[]] * users, [list(range(n_targets))] * users, n)
    drawn = np.random.default_rng(0).standard_normal((users, n)).astype(np.float32)
    outcome = rank(TableRecommender(drawn), evaluation, depth=0)
    for request in requests("hit", "ndcg", "recall", "precision", "map", "mrr", at=[1, 10]):
        level = chance(request, n, n_targets=n_targets)
        values = request(outcome)
        error = values.std() / math.sqrt(users)
        assert level == pytest.approx(values.mean(), abs=4 * error + 1e-9), request.name


def test_mean_chance_weighs_users_with_lists_of_different_length() -> None:
    evaluation = evaluation_set([[], [], [1, 2]], [[0], [0], [0, 3]], 20)
    outcome = rank(TableRecommender(np.zeros((3, 20), np.float32)), evaluation, depth=0)
    (hit,) = requests("hit")
    of_two = 1 - (8 / 18) * (7 / 17)
    assert mean_chance(hit, outcome) == pytest.approx((0.5 + 0.5 + of_two) / 3)
    (coverage,) = requests("coverage")
    assert mean_chance(coverage, outcome) is None


def test_random_scores_hit_chance_within_a_pool() -> None:
    rng = np.random.default_rng(3)
    scores = rng.standard_normal((4000, 40)).astype(np.float32)
    pool = np.arange(0, 40, 2)
    histories = [rng.choice(40, 8, replace=False).tolist() for _ in range(4000)]
    targets = [[int(item)] for item in rng.choice(40, 4000)]
    evaluation = evaluation_set(histories, targets, 40).asked_for(pool)
    result = evaluate(TableRecommender(scores), evaluation, requests(at=[5]), pool=pool)
    assert result.chance.keys() == {
        "hit@5", "ndcg@5", "recall@5", "precision@5", "map@5", "mrr", "auc",
    }  # fmt: skip
    for name, level in result.chance.items():
        error = result.per_user[name].std() / math.sqrt(len(evaluation))
        assert level == pytest.approx(result.values[name], abs=4 * error), name
    assert result.values["coverage@5"] == 1.0  # of the pool


def test_chance_of_1_plus_19_hit_at_10_is_half() -> None:
    (request,) = requests("hit")
    assert chance(request, 20) == 0.5
    (coverage,) = requests("coverage")
    assert chance(coverage, 20) is None


def test_more_tied_targets_than_places_fill_a_list_once() -> None:
    evaluation = evaluation_set([[]], [[0, 1, 2]], 4)
    outcome = rank(TableRecommender(np.array([[1.0, 1, 1, 0]])), evaluation, depth=2)
    assert outcome.ranks.tolist() == [2.0, 2.0, 2.0]
    assert value(outcome, "precision", 2).tolist() == [1.0]
    assert value(outcome, "recall", 2).tolist() == [2 / 3]
    assert value(outcome, "ndcg", 2)[0] <= 1


def lists_outcome(
    lists: list[list[int]],
    counts: list[int],
    *,
    categories: Categories | None = None,
    histories: list[list[int]] | None = None,
) -> Outcome:
    n_items = len(counts)
    asked = evaluation_set(histories or [[0]] * len(lists), [[0]] * len(lists), n_items)
    return Outcome(
        users=asked.users,
        histories=asked.histories,
        targets=asked.targets,
        ranks=np.ones(len(lists)),
        n_ranked=np.full(len(lists), n_items),
        top_items=np.array(lists, np.int32),
        item_counts=np.array(counts),
        categories=categories,
    )


def test_coverage_is_the_share_of_items_listed() -> None:
    outcome = lists_outcome([[0, 1, 2], [1, 0, -1]], [1] * 8)
    assert value(outcome, "coverage", 2) == 2 / 8
    assert value(outcome, "coverage", 3) == 3 / 8


def naive_gini(counts: NDArray) -> float:
    return float(np.abs(counts[:, None] - counts[None]).mean() / (2 * counts.mean()))


def test_gini_is_half_the_relative_mean_difference() -> None:
    rng = np.random.default_rng(0)
    lists = rng.integers(0, 30, (50, 6)).tolist()
    outcome = lists_outcome(lists, [1] * 30)
    counts = np.bincount(np.ravel(lists), minlength=30)
    assert value(outcome, "gini", 6) == pytest.approx(naive_gini(counts))
    even = lists_outcome([[0, 1], [2, 3]], [1] * 4)
    assert value(even, "gini", 2) == pytest.approx(0)
    one = lists_outcome([[0], [0]], [1] * 4)
    assert value(one, "gini", 1) == pytest.approx(3 / 4)


def test_novelty_is_mean_self_information() -> None:
    outcome = lists_outcome([[0, 1], [2, -1], [-1, -1]], [3, 0, 1])
    bits = -np.log2(np.array([4, 1, 2]) / 7)
    np.testing.assert_allclose(
        value(outcome, "novelty", 2), [(bits[0] + bits[1]) / 2, bits[2], np.nan]
    )


def test_popularity_bias_compares_lists_with_histories() -> None:
    outcome = lists_outcome([[0, 1], [0, 2], [0, 0]], [8, 4, 2], histories=[[1, 2], [2], []])
    # Lists: (8 + 4) / 2 and (8 + 2) / 2; histories: (4 + 2) / 2 and 2; the third has none.
    assert value(outcome, "popularity_bias", 2) == pytest.approx((6 + 5) / (3 + 2))
    unknown = lists_outcome([[0]], [8], histories=[[]])
    assert math.isnan(value(unknown, "popularity_bias", 1))


def naive_diversity(items: list[int], categories: list[set[int]]) -> float:
    kept = [categories[item] for item in items if item >= 0 and categories[item]]
    cosines = [
        len(one & other) / math.sqrt(len(one) * len(other))
        for place, one in enumerate(kept)
        for other in kept[place + 1 :]
    ]
    return 1 - float(np.mean(cosines)) if cosines else math.nan


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    rng = np.random.default_rng(1)
    sets = [set(rng.choice(9, rng.integers(0, 4), replace=False).tolist()) for _ in range(20)]
    table = pa.table(
        {"categories": [[f"c{c}" for c in sorted(one)] if one else None for one in sets]}
    )
    lists = [rng.choice(20, 6, replace=False).tolist() for _ in range(40)]
    lists[3][2:] = [-1] * 4
    empty = [item for item in range(20) if not sets[item]]
    assert len(empty) > 1
    lists[4] = [*empty[:2], -1, -1, -1, -1]
    outcome = lists_outcome(lists, [1] * 20, categories=Categories.from_items(table))
    np.testing.assert_allclose(
        value(outcome, "diversity", 5), [naive_diversity(one[:5], sets) for one in lists]
    )
    assert math.isnan(value(outcome, "diversity", 5)[4])


@pytest.mark.parametrize(
    "table",
    [
        None,
        pa.table({"id": ["a"]}),
        pa.table({"categories": pa.array([None, []], pa.list_(pa.string()))}),
        pa.table({"categories": pa.array([[None]], pa.list_(pa.string()))}),
        pa.table({"categories": pa.array([], pa.list_(pa.string()))}),
    ],
)
def test_without_categories_diversity_is_undefined(table: pa.Table | None) -> None:
    assert Categories.from_items(table) is None
    outcome = lists_outcome([[0, 1]], [1, 1])
    assert np.isnan(value(outcome, "diversity", 2)).all()


def test_categories_named_twice_or_null_count_once_or_not() -> None:
    chunked = pa.chunked_array(
        [pa.array([["b", "a", "b", None]]), pa.array([None, ["a"]], pa.list_(pa.string()))]
    )
    found = Categories.from_items(pa.table({"categories": chunked}))
    assert found is not None
    assert found.offsets.tolist() == [0, 2, 2, 3]
    assert found.n_categories == 2
    assert found.ids[2] in found.ids[:2]


def test_lists_of_sampled_candidates_say_nothing() -> None:
    scores, evaluation = random_case(users=8)
    drawn = draw_candidates(evaluation, 10, seed=1)
    outcome = rank(TableRecommender(scores), evaluation, candidates=drawn, depth=5)
    for name in ("coverage", "gini", "novelty", "popularity_bias", "diversity"):
        assert np.isnan(value(outcome, name, 5)).all(), name


def test_asking_for_longer_lists_than_were_kept_is_an_error() -> None:
    with pytest.raises(ValueError, match="lists of 5 items are asked for, but 2 were kept"):
        value(lists_outcome([[0, 1]], [1, 1]), "coverage", 5)


def test_a_cutoff_of_none_looks_at_the_whole_ranking() -> None:
    scores, evaluation = random_case(2, users=9, most_targets=4)
    outcome = rank(TableRecommender(scores), evaluation, depth=3)
    for name in ("hit", "recall"):
        assert (value(outcome, name, None) == 1).all()
    for name in ("ndcg", "map"):
        np.testing.assert_allclose(value(outcome, name, None), value(outcome, name, 60))
    np.testing.assert_allclose(
        value(outcome, "precision", None), outcome.n_targets / outcome.n_ranked
    )


def test_registered_metrics_exist_and_say_their_shape() -> None:
    scores, evaluation = random_case(users=8)
    outcome = rank(TableRecommender(scores), evaluation, depth=10)
    for request in requests():
        found = request(outcome)
        assert isinstance(found, np.ndarray) == request.spec.per_user
    assert {name for name, spec in SPECS.items() if not spec.higher_is_better} == {
        "gini",
        "popularity_bias",
    }
    assert {name for name, spec in SPECS.items() if not spec.at_cutoff} == {"mrr", "auc"}
    functions = {spec.target.partition(":")[2] for spec in SPECS.values()}
    assert functions >= metrics.FROM_RANKS
