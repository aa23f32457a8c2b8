"""Retrieval for a language model: what is asked, the best items, and scores put together."""

from __future__ import annotations

import numpy as np
import pytest

from dynmm_framework.data.tables import Histories
from dynmm_framework.language.retrieval import (
    Asked,
    Retrieval,
    best_unknown,
    ndcg_among,
    ranked_above,
)

N_ITEMS = 32


class Fixed:
    """Vectors that know a little: an item's own, and the mean of a history's."""

    def __init__(self, width: int = 8) -> None:
        self.items = np.random.default_rng(0).normal(size=(N_ITEMS, width)).astype(np.float32)

    def item_vectors(self) -> np.ndarray:
        return self.items

    def user_vectors(self, histories: Histories) -> np.ndarray:
        return np.stack([self.items[histories[row]].mean(axis=0) for row in range(len(histories))])


def test_candidates_move_with_their_scores_and_targets() -> None:
    rng = np.random.default_rng(0)
    candidates = np.stack([rng.permutation(20)[:5] for _ in range(7)]).astype(np.int32)
    asked = Asked(
        Histories.of([[1]] * 7, 20), np.zeros((7, 2), np.float32), candidates,
        candidates.astype(np.float32) * 10, np.array([0, 1, 2, 3, 4, -1, 2]),
    )  # fmt: skip
    moved = asked.reordered(np.argsort(rng.random((7, 5)), axis=1))
    assert (moved.base == moved.candidates * 10).all()
    for row, place in enumerate(asked.targets):
        if place < 0:
            assert moved.targets[row] == -1
        else:
            assert moved.candidates[row, moved.targets[row]] == candidates[row, place]


def test_retrieval_leaves_known_items_out_and_tells_where_targets_are() -> None:
    base = Fixed()
    histories = Histories.of([[0, 1], [2]], N_ITEMS)
    retrieval = Retrieval.measured(base, histories)
    scores = base.user_vectors(histories) @ base.items.T
    (best, _), (second, _) = retrieval.asked(histories, 2).candidates
    asked = retrieval.asked(histories, 4, targets=np.array([best, second]))
    assert asked.targets.tolist() == [0, 0]
    worst = scores.argmin(axis=1)
    assert retrieval.asked(histories, 4, targets=worst).targets.tolist() == [-1, -1]
    np.testing.assert_allclose(
        asked.base, np.take_along_axis(scores, asked.candidates.astype(int), axis=1), rtol=1e-5
    )
    for row in range(2):
        assert not set(asked.candidates[row]) & set(histories[row])


def test_the_best_of_given_items_are_asked_for_known_or_not() -> None:
    base = Fixed()
    histories = Histories.of([[0, 1], [2]], N_ITEMS)
    retrieval = Retrieval.measured(base, histories)
    among = np.array([[0, 5, 9, 3], [2, 8, 7, 4]], np.int32)
    asked = retrieval.asked(histories, 3, among=among)
    scores = base.user_vectors(histories) @ base.items.T
    for row in range(2):
        order = among[row][np.argsort(-scores[row, among[row]])]
        np.testing.assert_array_equal(asked.candidates[row], order[:3])
    assert (asked.targets == -1).all()
    np.testing.assert_allclose(asked.users.mean(axis=0), 0, atol=1e-5)


def test_reranked_items_stand_above_the_rest_which_keeps_its_order() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=(6, N_ITEMS)).astype(np.float32)
    histories = Histories.of([[0, 1], [], [3], [], [4, 4, 5], [9]], N_ITEMS)
    top = best_unknown(base, histories, 5)
    found = rng.random((6, 5))
    scores = ranked_above(base, top, found, floor=-1)
    for row in range(6):
        assert not set(top[row]) & set(histories[row])
        others = np.setdiff1d(np.arange(N_ITEMS), top[row])
        free = np.setdiff1d(others, histories[row])
        assert base[row, top[row]].min() >= base[row, free].max()
        np.testing.assert_allclose(scores[row, top[row]], found[row], rtol=1e-6)
        assert -2 <= scores[row, others].min() <= scores[row, others].max() <= -1
        order = np.argsort(-base[row, others])
        assert (np.diff(scores[row, others][order]) < 0).all()


def test_scores_that_are_all_alike_stay_so() -> None:
    base = np.zeros((1, 4), np.float32)
    top = best_unknown(base, Histories.of([[0]], 4), 2)
    assert top.tolist() == [[1, 2]]  # ties by id
    scores = ranked_above(base, top, np.array([[0.5, 0.25]]), floor=-1)
    assert scores.tolist() == [[-1, 0.5, 0.25, -1]]
    assert best_unknown(base, Histories.of([[0, 1, 2, 3]], 4), 9).shape == (1, 4)


def test_the_ndcg_of_a_tie_is_that_of_its_middle() -> None:
    scores = np.array([[3, 1, 2], [0, 0, 0], [1, 2, 2]], np.float32)
    values = [1.0, 1 / np.log2(3), 1 / np.log2(4)]
    assert ndcg_among(scores, np.array([0, 2, 0])) == pytest.approx(np.array(values))
