"""The protocol ``auc``: closed forms, an oracle, and what a recommender is asked for."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.data.judgements import asked_judgements
from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.errors import StageError
from dynmm_framework.evaluation.judging import area_under_curve, areas_by_row, judge


def by_pairs(scores: list[float], liked: list[bool]) -> float:
    pairs = [
        1.0 if good > bad else 0.5 if good == bad else 0.0
        for (good, a), (bad, b) in itertools.product(
            zip(scores, liked, strict=True), zip(scores, liked, strict=True)
        )
        if a and not b
    ]
    return float(np.mean(pairs)) if pairs else float("nan")


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.integers(0, 2)), max_size=20))
def test_it_is_the_share_of_ordered_pairs(rows: list[tuple[int, bool, int]]) -> None:
    scores, liked = [float(s) for s, _, _ in rows], [good for _, good, _ in rows]
    found = area_under_curve(np.array(scores), np.array(liked, bool))
    assert found == pytest.approx(by_pairs(scores, liked), nan_ok=True)
    of_row = np.array([row for _, _, row in rows], np.int64)
    apart = areas_by_row(np.array(scores), np.array(liked, bool), of_row, 3)
    for row in range(3):
        chosen = [(float(s), good) for s, good, r in rows if r == row]
        wanted = by_pairs([s for s, _ in chosen], [good for _, good in chosen])
        assert apart[row] == pytest.approx(wanted, nan_ok=True)


def test_it_agrees_with_sklearn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores, liked = rng.integers(0, 40, 500).astype(float), rng.random(500) < 0.4
    wanted = metrics.roc_auc_score(liked, scores)
    assert area_under_curve(scores, liked) == pytest.approx(wanted, abs=1e-12)


class Recording:
    """Scores an item by its number, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], list[float], int]] = []

    def score(self, histories: Histories, candidates: Any = None) -> Any:
        if candidates is None:
            return np.zeros((len(histories), histories.n_items), np.float32)
        for row, items in enumerate(candidates):
            place = slice(histories.offsets[row], histories.offsets[row + 1])
            known = [] if histories.ratings is None else histories.ratings[place].tolist()
            self.asked.append((histories[row].tolist(), known, int(items[0])))
        return candidates.astype(np.float32)


def evaluation(ratings: list[float]) -> EvaluationSet:
    known = Histories.of([[0], [1]], 9)
    known = Histories(known.offsets, known.items, 9, None, np.array([4, 2], np.float32))
    targets = Histories.of([[5, 2, 7], [3, 8]], 9)
    rated = Histories(targets.offsets, targets.items, 9, None, np.array(ratings, np.float32))
    return EvaluationSet(np.array([0, 1], np.int32), known, rated)


def test_every_recommender_is_asked_for_each_judgement_after_its_history() -> None:
    asked = evaluation([5, 1, 4, 5, 2])
    scorer: Any = Recording()
    found = judge(scorer, asked, asked_judgements(asked), latency_users=0)
    assert scorer.asked == [
        ([0], [4], 5),
        ([0, 5], [4, 5], 2),
        ([0, 5, 2], [4, 5, 1], 7),
        ([1], [2], 3),
        ([1, 3], [2, 5], 8),
    ]
    # Liked are 5, 7 and 3, not 2 and 8: three of six pairs are in order, all and none of a user's.
    assert found.values == {"auc": 0.5, "uauc": 0.5}
    assert found.per_user["uauc"].tolist() == [1.0, 0.0]
    assert found.chance == {"auc": 0.5, "uauc": 0.5}
    assert found.outcome.top_items.tolist() == [[7, 5, 2], [8, 3, -1]]
    assert [found.outcome.targets[row].tolist() for row in range(2)] == [[5, 7], [3]]
    assert found.notes == ("5 judgements, 3 of them liked",)


def test_users_who_liked_everything_are_left_out_of_the_mean_and_counted() -> None:
    asked = evaluation([5, 1, 4, 5, 5])
    scorer: Any = Recording()
    found = judge(scorer, asked, asked_judgements(asked), latency_users=0)
    assert np.isnan(found.per_user["uauc"][1])
    assert "undefined for 1 of 2 users" in found.notes[0]


def test_judgements_that_are_all_alike_have_no_value_and_a_note() -> None:
    asked = evaluation([5, 5, 5, 5, 5])
    scorer: Any = Recording()
    found = judge(scorer, asked, asked_judgements(asked), latency_users=0)
    assert not found.values
    assert not found.per_user
    assert "all judgements are alike" in found.notes[0]


def test_a_score_that_is_not_finite_is_refused() -> None:
    class Bad:
        def score(self, histories: Histories, candidates: Any = None) -> Any:
            return np.full(candidates.shape, np.nan, np.float32)

    asked = evaluation([5, 1, 4, 2, 5])
    scorer: Any = Bad()
    with pytest.raises(StageError, match="nan"):
        judge(scorer, asked, asked_judgements(asked), latency_users=0)
