"""Ranks and lists against their definitions, in chunks of any size, with and without ties."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from ranking_cases import (
    TableBackbone,
    TableRecommender,
    evaluation_set,
    naive_list,
    naive_ranks,
    random_case,
    ranked_items,
)

from dynmm_framework.data.candidates import Candidates, draw_candidates
from dynmm_framework.data.tables import Histories
from dynmm_framework.errors import StageError
from dynmm_framework.evaluation import ranking
from dynmm_framework.evaluation.ranking import as_recommender, rank, recommend
from dynmm_framework.evaluation.scoring import InnerProduct, as_tensor


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    levels=st.sampled_from([None, 1, 3, 12]),
    most_targets=st.sampled_from([1, 2, 12]),
    chunk_users=st.sampled_from([None, 1, 7]),
    depth=st.sampled_from([0, 1, 10, 59, 60, 70]),
)
def test_rank_is_the_definition(
    seed: int, levels: int | None, most_targets: int, chunk_users: int | None, depth: int
) -> None:
    scores, evaluation = random_case(seed, users=15, levels=levels, most_targets=most_targets)
    outcome = rank(TableRecommender(scores), evaluation, depth=depth, chunk_users=chunk_users)
    expected = naive_ranks(scores, evaluation)
    np.testing.assert_array_equal(outcome.ranks, list(chain.from_iterable(expected)))
    np.testing.assert_array_equal(
        outcome.n_ranked, [len(ranked_items(60, evaluation, row)) for row in range(15)]
    )
    assert outcome.top_items.tolist() == [
        naive_list(scores, evaluation, row, depth) for row in range(15)
    ]


def test_targets_in_the_history_are_ranked() -> None:
    evaluation = evaluation_set([[0, 1, 2]], [[1]], 4)
    outcome = rank(TableRecommender(np.array([[9.0, 5.0, 8.0, 7.0]])), evaluation, depth=4)
    assert outcome.ranks.tolist() == [2.0]
    assert outcome.n_ranked.tolist() == [2]
    assert outcome.top_items.tolist() == [[3, 1, -1, -1]]


def test_a_target_named_twice_is_one_target() -> None:
    scores = np.arange(5, dtype=np.float32)[None]
    once = rank(TableRecommender(scores), evaluation_set([[0]], [[3, 2]], 5), depth=0)
    twice = rank(TableRecommender(scores), evaluation_set([[0]], [[3, 2, 3]], 5), depth=0)
    assert twice.ranks.tolist() == once.ranks.tolist() == [2.0, 3.0]
    assert twice.targets.items.tolist() == [3, 2]


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("chunk_users", [None, 1, 7])
def test_candidates_are_ranked_line_by_line(levels: int | None, chunk_users: int | None) -> None:
    scores, evaluation = random_case(3, users=20, levels=levels)
    drawn = draw_candidates(evaluation, 19, seed=5)
    outcome = rank(
        TableRecommender(scores), evaluation, candidates=drawn, depth=6, chunk_users=chunk_users
    )
    assert outcome.sampled
    assert outcome.targets.items.tolist() == evaluation.targets.items.tolist()
    assert outcome.n_ranked.tolist() == [20] * len(drawn)
    for line, (row, items) in enumerate(zip(drawn.rows, drawn.items, strict=True)):
        own = scores[row, items]
        above, equal = (own > own[0]).sum(), (own == own[0]).sum()
        assert outcome.ranks[line] == 1 + above + (equal - 1) / 2
        best = sorted(items.tolist(), key=lambda item: (-scores[row, item], item))
        assert outcome.top_items[line].tolist() == best[:6]
        assert outcome.users[line] == evaluation.users[row]


@pytest.mark.parametrize("n_items", [60, 4000])
def test_a_backbone_ranks_by_inner_products(n_items: int) -> None:
    # With few items lines are looked up in whole rows of scores, with many multiplied singly.
    _, evaluation = random_case(1, users=30, items=n_items, most_targets=8)
    rng = np.random.default_rng(2)
    users = rng.integers(-4, 5, (30, 6)).astype(np.float32)  # whole numbers: products are exact
    items = rng.integers(-4, 5, (n_items, 6)).astype(np.float32)
    table, backbone = TableRecommender(users @ items.T), TableBackbone(users, items)
    whole, other = rank(backbone, evaluation, depth=9), rank(table, evaluation, depth=9)
    np.testing.assert_array_equal(whole.ranks, other.ranks)
    np.testing.assert_array_equal(whole.top_items, other.top_items)
    drawn = draw_candidates(evaluation, 15, seed=1)
    lines = rank(backbone, evaluation, candidates=drawn, depth=9)
    others = rank(table, evaluation, candidates=drawn, depth=9)
    np.testing.assert_array_equal(lines.ranks, others.ranks)
    np.testing.assert_array_equal(lines.top_items, others.top_items)


def test_a_backbone_computes_each_user_once_for_all_of_the_users_targets() -> None:
    _, evaluation = random_case(1, users=30, most_targets=8)
    backbone = TableBackbone(np.ones((30, 2), np.float32), np.ones((60, 2), np.float32))
    rank(backbone, evaluation, candidates=draw_candidates(evaluation, 9, seed=1), depth=0)
    assert sum(backbone.calls) == 30


def test_equal_scores_give_the_middle_rank() -> None:
    evaluation = evaluation_set([[0, 1], [5]], [[2], [7]], 12)
    outcome = rank(TableRecommender(np.zeros((2, 12), np.float32)), evaluation, depth=4)
    assert outcome.ranks.tolist() == [5.5, 6.0]  # of 10 and of 11 items
    assert outcome.top_items.tolist() == [[2, 3, 4, 5], [0, 1, 2, 3]]


@pytest.mark.parametrize(
    "kept",
    [
        lambda scores: np.broadcast_to(scores[0], scores.shape),
        lambda scores: scores,
        lambda scores: torch.from_numpy(scores),
        lambda scores: np.asfortranarray(scores),
        lambda scores: scores.astype(np.float64),
        lambda scores: scores.astype(np.int64),
        lambda scores: torch.from_numpy(scores).to(torch.bfloat16),
        lambda scores: torch.from_numpy(scores).requires_grad_(),
    ],
)
def test_what_a_recommender_keeps_is_never_written_to(kept: Any) -> None:
    evaluation = evaluation_set([[0, 1]] * 3, [[2]] * 3, 5)
    given = kept(np.tile(np.float32([9, 8, 3, 4, 5]), (3, 1)))
    before = as_tensor(given).clone()

    class Keeps:
        def score(self, histories: Histories, candidates: NDArray | None = None) -> Any:
            return given

    outcome = rank(Keeps(), evaluation, depth=3)
    assert outcome.ranks.tolist() == [3.0] * 3
    assert outcome.top_items[0].tolist() == [4, 3, 2]
    assert torch.equal(as_tensor(given), before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sampled", [False, True])
def test_scores_that_are_not_finite_name_recommender_and_user(value: float, sampled: bool) -> None:
    scores, evaluation = random_case(users=10)
    scores[7, evaluation.targets[7][0]] = value
    candidates = draw_candidates(evaluation, 5, seed=1) if sampled else None
    with pytest.raises(StageError, match=rf"TableRecommender scored an item {value} for user 7"):
        rank(TableRecommender(scores), evaluation, candidates=candidates, depth=5)
    with pytest.raises(StageError, match="sasrec scored") as caught:
        rank(TableRecommender(scores), evaluation, depth=5, name="sasrec")
    assert "Scores must be finite" in str(caught.value)


def test_large_finite_scores_are_not_refused() -> None:
    scores, evaluation = random_case(users=5)
    expected = rank(TableRecommender(scores), evaluation, depth=3)
    outcome = rank(TableRecommender(scores * np.float32(1e37)), evaluation, depth=3)
    np.testing.assert_array_equal(outcome.ranks, expected.ranks)


def test_scores_of_the_wrong_shape_are_refused() -> None:
    scores, evaluation = random_case(users=5)
    with pytest.raises(StageError, match=r"shape \(5, 59\) where \(5, 60\) was asked for"):
        rank(TableRecommender(scores[:, :-1]), evaluation, depth=5)
    backbone = TableBackbone(np.ones((5, 3), np.float32), np.ones((59, 3), np.float32))
    with pytest.raises(StageError, match=r"TableBackbone returned .* \(5, 60\) was asked for"):
        rank(backbone, evaluation, depth=5)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    levels=st.sampled_from([None, 1, 3, 12]),
    most_targets=st.sampled_from([1, 4]),
    chunk_users=st.sampled_from([None, 1, 7]),
    size=st.sampled_from([1, 13, 60]),
    masks=st.booleans(),
)
def test_a_pool_is_ranked_as_a_catalogue_of_its_own(
    seed: int,
    levels: int | None,
    most_targets: int,
    chunk_users: int | None,
    size: int,
    masks: bool,
) -> None:
    scores, evaluation = random_case(seed, users=15, levels=levels, most_targets=most_targets)
    rng = np.random.default_rng(seed)
    pool = rng.permutation(60)[:size]
    if masks:
        more = [rng.integers(0, 60, 4).tolist() for _ in range(15)]
        evaluation = replace(evaluation, masked=Histories.of(more, 60))
    evaluation = evaluation.asked_for(pool)
    outcome = rank(
        TableRecommender(scores), evaluation, pool=pool, depth=9, chunk_users=chunk_users
    )
    ranks, n_ranked = [], []
    for row, user in enumerate(evaluation.users):
        targets = evaluation.targets[row].tolist()
        known = set(evaluation.known[row].tolist()) - set(targets)
        ranked = [item for item in sorted(pool.tolist()) if item not in known]
        n_ranked.append(len(ranked))
        for target in targets:
            above = sum(scores[user, item] > scores[user, target] for item in ranked)
            equal = sum(scores[user, item] == scores[user, target] for item in ranked)
            ranks.append(1 + above + (equal - 1) / 2)
        best = sorted(ranked, key=lambda item: (-scores[user, item], item))[:9]
        assert outcome.top_items[row].tolist() == best + [-1] * (9 - len(best))
        assert outcome.top_scores[row, : len(best)].tolist() == scores[user, best].tolist()
    assert outcome.ranks.tolist() == ranks
    assert outcome.n_ranked.tolist() == n_ranked
    assert outcome.targets.items.tolist() == evaluation.targets.items.tolist()


def test_a_backbone_scores_the_pool_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    users, items = rng.integers(-3, 4, (20, 8)), rng.integers(-3, 4, (300, 8))
    _, evaluation = random_case(5, users=20, items=300)
    pool = np.arange(0, 300, 3)
    evaluation = evaluation.asked_for(pool)
    widths = []
    multiply = torch.mm
    monkeypatch.setattr(
        torch, "mm", lambda a, b, out: widths.append(b.shape[1]) or multiply(a, b, out=out)
    )
    backbone = TableBackbone(users.astype(np.float32), items.astype(np.float32))
    found = rank(backbone, evaluation, pool=pool, depth=10, chunk_users=7)
    expected = rank(
        TableRecommender((users @ items.T).astype(np.float32)), evaluation, pool=pool, depth=10
    )
    assert set(widths) == {100}
    assert found.ranks.tolist() == expected.ranks.tolist()
    assert found.top_items.tolist() == expected.top_items.tolist()


def test_what_is_masked_is_shown_to_no_recommender() -> None:
    shown: list[list[int]] = []

    class Watches(TableRecommender):
        def score(self, histories: Histories, candidates: NDArray | None = None) -> NDArray:
            shown.extend(histories[row].tolist() for row in range(len(histories)))
            return super().score(histories, candidates)

    evaluation = replace(evaluation_set([[0]], [[3]], 5), masked=Histories.of([[1, 3]], 5))
    outcome = rank(Watches(np.array([[9.0, 8.0, 7.0, 6.0, 5.0]])), evaluation, depth=5)
    assert shown == [[0]]
    assert outcome.ranks.tolist() == [2.0]
    assert outcome.n_ranked.tolist() == [3]
    assert outcome.top_items.tolist() == [[2, 3, 4, -1, -1]]


@pytest.mark.parametrize("candidates", [False, True])
def test_a_pool_without_a_target_or_beside_candidates_is_refused(candidates: bool) -> None:
    scores, evaluation = random_case(users=5)
    drawn = draw_candidates(evaluation, 3, seed=0) if candidates else None
    pool = np.arange(60 if candidates else 2)
    with pytest.raises(ValueError, match="a pool holds every target, and goes without candidates"):
        rank(TableRecommender(scores), evaluation, candidates=drawn, pool=pool, depth=0)


def test_candidates_of_other_users_are_refused() -> None:
    scores, evaluation = random_case(users=12)
    drawn = draw_candidates(evaluation, 5, seed=1)
    with pytest.raises(StageError, match="drawn for other users"):
        rank(TableRecommender(scores), evaluation.take(np.arange(3, 12)), candidates=drawn, depth=5)


def test_absent_candidates_rank_last_and_are_not_listed() -> None:
    evaluation = evaluation_set([[0]], [[1]], 5)
    drawn = Candidates(
        users=np.array([0], np.int32), items=np.array([[1, 3, -1]], np.int32), rows=np.array([0])
    )
    outcome = rank(
        TableRecommender(np.array([[9.0, 1.0, 0.0, 1.0, 0.0]])),
        evaluation,
        candidates=drawn,
        depth=3,
    )
    assert outcome.ranks.tolist() == [1.5]
    assert outcome.n_ranked.tolist() == [2]
    assert outcome.top_items.tolist() == [[1, 3, -1]]


def test_memory_is_bounded_by_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Watches(TableRecommender):
        def score(self, histories: Histories, candidates: NDArray | None = None) -> NDArray:
            asked.append(len(histories))
            return super().score(histories, candidates)

    scores, evaluation = random_case(users=40, items=60)
    monkeypatch.setattr(ranking, "CPU_BYTES", 60 * 4 * 7)
    done: list[int] = []
    outcome = rank(Watches(scores), evaluation, depth=5, progress=done.append)
    assert max(asked) == 7
    assert done == asked
    np.testing.assert_array_equal(
        outcome.ranks, list(chain.from_iterable(naive_ranks(scores, evaluation)))
    )


def test_recommend_lists_the_best_new_items() -> None:
    scores, evaluation = random_case(4, users=25, levels=6)
    histories = evaluation.histories
    found = recommend(TableRecommender(scores), histories, 55)
    for row in range(25):
        new = [item for item in range(60) if item not in set(histories[row])]
        best = sorted(new, key=lambda item: (-scores[row, item], item))[:55]
        assert found.items[row].tolist() == best + [-1] * (55 - len(best))
        assert found.scores[row, : len(best)].tolist() == scores[row, best].tolist()
        assert (found.scores[row, len(best) :] == -np.inf).all()


def test_recommend_may_list_the_history_too() -> None:
    scores, evaluation = random_case(4, users=5)
    found = recommend(TableRecommender(scores), evaluation.histories, 70, exclude_history=False)
    assert found.items.shape == (5, 70)
    assert sorted(found.items[0, :60].tolist()) == list(range(60))
    assert (found.items[:, 60:] == -1).all()


@pytest.mark.parametrize("exclude", [True, False])
def test_recommend_chooses_among_candidates(exclude: bool) -> None:
    evaluation = evaluation_set([[3], []], [[0], [0]], 6)
    scores = np.array([[0, 1, 1, 9, 1, 2], [5, 4, 3, 2, 1, 0]], np.float32)
    found = recommend(
        TableRecommender(scores),
        evaluation.histories,
        3,
        candidates=np.array([[4, 3, 2, 5], [5, 4, 3, 2]], np.int32),
        exclude_history=exclude,
    )
    assert found.items.tolist() == [[5, 2, 4] if exclude else [3, 5, 2], [2, 3, 4]]


def test_recommend_serves_nobody_and_users_without_history() -> None:
    backbone = TableBackbone(np.ones((2, 3), np.float32), np.ones((6, 3), np.float32))
    assert recommend(backbone, Histories.of([], 6, np.empty(0, np.int32)), 3).items.shape == (0, 3)
    empty = Histories.of([[], []], 6, np.arange(2, dtype=np.int32))
    assert recommend(backbone, empty, 3).items.tolist() == [[0, 1, 2]] * 2


def test_a_recommender_stays_what_it_is() -> None:
    table = TableRecommender(np.zeros((1, 2)))
    assert as_recommender(table) is table
    wrapped = as_recommender(TableBackbone(np.ones((1, 2)), np.ones((3, 2))))
    assert isinstance(wrapped, InnerProduct)
    assert as_recommender(wrapped) is wrapped
    with pytest.raises(TypeError, match="str is neither a recommender nor a backbone"):
        as_recommender("x")  # type: ignore[arg-type]


def test_a_wrapped_backbone_forgets_item_vectors_that_changed() -> None:
    class Restores(TableBackbone):
        def load_state(self, state: dict[str, NDArray]) -> None:
            self.items = state["items"]

    backbone = Restores(np.ones((1, 2), np.float32), np.ones((3, 2), np.float32))
    wrapped = InnerProduct(backbone)  # type: ignore[arg-type]
    histories = Histories.of([[0]], 3, np.zeros(1, np.int32))
    assert wrapped.score(histories).tolist() == [[2.0, 2.0, 2.0]]
    wrapped.load_state({"items": np.zeros((3, 2), np.float32)})
    assert wrapped.score(histories).tolist() == [[0.0, 0.0, 0.0]]


def test_as_tensor_does_not_copy_what_it_may_write_to() -> None:
    array = np.zeros((2, 3), np.float32)
    assert as_tensor(array).data_ptr() == array.ctypes.data


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_ranks_like_the_cpu() -> None:
    rng = np.random.default_rng(0)
    _, evaluation = random_case(1, users=50, items=3000, most_targets=6)
    users = rng.integers(-3, 4, (50, 4)).astype(np.float32)
    items = rng.integers(-3, 4, (3000, 4)).astype(np.float32)
    drawn = draw_candidates(evaluation, 50, seed=1)
    here = TableBackbone(users, items)
    there = TableBackbone(torch.from_numpy(users).cuda(), torch.from_numpy(items).cuda())
    for candidates in (None, drawn):
        cpu = rank(here, evaluation, candidates=candidates, depth=20)
        gpu = rank(there, evaluation, candidates=candidates, depth=20)
        np.testing.assert_array_equal(gpu.ranks, cpu.ranks)
        np.testing.assert_array_equal(gpu.top_items, cpu.top_items)
