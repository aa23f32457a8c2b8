"""Candidates: distinct, new to the user, uniform, and the same for the same seed."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynmm_framework.data import candidates as module
from dynmm_framework.data.candidates import Candidates, cold_pool, draw_candidates
from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.errors import DataError


def evaluation(histories: list[list[int]], targets: list[list[int]], n_items: int) -> EvaluationSet:
    users = np.arange(len(histories), dtype=np.int32) * 10 + 3
    return EvaluationSet(
        users=users,
        histories=Histories.of(histories, n_items, users=users),
        targets=Histories.of(targets, n_items),
    )


def check(drawn: Candidates, asked: EvaluationSet, n: int) -> None:
    assert drawn.items.dtype == drawn.users.dtype == np.int32
    assert drawn.items.shape == (len(asked.targets.items), 1 + n)
    assert drawn.n_negatives == n
    assert drawn.items[:, 0].tolist() == asked.targets.items.tolist()
    assert drawn.rows.tolist() == asked.targets.rows.tolist()
    assert drawn.users.tolist() == asked.users[asked.targets.rows].tolist()
    for row, line in zip(drawn.rows, drawn.items[:, 1:], strict=True):
        known = {*asked.histories[row].tolist(), *asked.targets[row].tolist()}
        assert len(set(line.tolist())) == n
        assert known.isdisjoint(line.tolist())
        assert line.min() >= 0
        assert line.max() < asked.targets.n_items


N_ITEMS = 12
item_lists = st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=5)


@given(
    st.lists(st.tuples(item_lists, item_lists), max_size=6), st.integers(1, 4), st.integers(0, 9)
)
def test_negatives_are_distinct_and_new_to_the_user(
    users: list[tuple[list[int], list[int]]], n: int, seed: int
) -> None:
    asked = evaluation([h for h, _ in users], [t for _, t in users], N_ITEMS)
    least = min((N_ITEMS - len({*h, *t}) for h, t in users), default=N_ITEMS)
    if least < n:
        with pytest.raises(DataError, match=f"has only {least} of {N_ITEMS} items"):
            draw_candidates(asked, n, seed=seed)
        return
    check(draw_candidates(asked, n, seed=seed), asked, n)


@pytest.mark.parametrize(("n_items", "n"), [(400, 100), (130, 100), (5000, 100), (31, 1)])
def test_many_users_of_a_real_size(n_items: int, n: int) -> None:
    rng = np.random.default_rng(0)
    histories = [rng.integers(0, n_items, rng.integers(1, 20)).tolist() for _ in range(300)]
    targets = [rng.integers(0, n_items, rng.integers(1, 4)).tolist() for _ in range(300)]
    asked = evaluation(histories, targets, n_items)
    check(draw_candidates(asked, n, seed=0), asked, n)


def test_all_that_is_left_is_drawn_when_all_is_asked_for() -> None:
    drawn = draw_candidates(evaluation([[0, 3, 3]], [[5, 1]], 7), 3, seed=0)
    assert drawn.items.tolist() == [[5, 2, 4, 6], [1, 2, 4, 6]]


def test_the_seed_alone_decides() -> None:
    asked = evaluation([[1], [2]], [[3], [4]], 1000)
    first = draw_candidates(asked, 50, seed=5)
    assert draw_candidates(asked, 50, seed=5).hash == first.hash
    assert draw_candidates(asked, 50, seed=6).hash != first.hash
    assert first.hash == "3957d67e0760b9be50e2e16458dd3f161047c65a0101394dd105a5dd09ef194e"


def test_lines_of_one_user_are_drawn_anew() -> None:
    drawn = draw_candidates(evaluation([[0]], [[1, 2]], 1000), 20, seed=0)
    assert set(drawn.items[0, 1:].tolist()) != set(drawn.items[1, 1:].tolist())


def test_chunks_cover_all_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CELLS", 40)
    asked = evaluation([[i] for i in range(23)], [[i + 1, i + 2] for i in range(23)], 60)
    check(draw_candidates(asked, 7, seed=0), asked, 7)


@pytest.mark.parametrize("n", [2, 3, 4], ids=["rejection", "random order", "random order, most"])
def test_every_set_of_negatives_is_equally_likely(n: int) -> None:
    from scipy.stats import chisquare

    # nine items, three of them known: 15, 20 and 15 possible sets
    lines = 12_000
    asked = evaluation([[2, 7]] * lines, [[4]] * lines, 9)
    drawn = draw_candidates(asked, n, seed=0).items[:, 1:]
    counts = Counter(map(tuple, drawn.tolist()))
    possible = list(itertools.combinations([0, 1, 3, 5, 6, 8], n))
    assert set(counts) <= set(possible)
    assert chisquare([counts[chosen] for chosen in possible]).pvalue > 1e-3


def test_items_are_uniform_over_a_large_catalogue() -> None:
    from scipy.stats import chisquare

    lines, n_items, n = 2_000, 500, 100
    asked = evaluation([list(range(0, 100, 2))] * lines, [[1]] * lines, n_items)
    drawn = draw_candidates(asked, n, seed=0).items[:, 1:]
    counts = np.bincount(drawn.ravel(), minlength=n_items)
    known = np.array([*range(0, 100, 2), 1])
    assert not counts[known].any()
    counts = np.delete(counts, known)
    # without replacement a count varies less than the chi-square law has it: the ratio is known
    variance = (1 - n / len(counts)) * len(counts) / (len(counts) - 1)
    statistic = chisquare(counts).statistic / variance
    from scipy.stats import chi2

    assert 1e-3 < chi2.sf(statistic, len(counts) - 1) < 1 - 1e-3


def test_too_few_items_name_the_user_and_the_limit() -> None:
    asked = evaluation([[0], [0, 1, 2]], [[1], [3]], 6)
    with pytest.raises(DataError) as caught:
        draw_candidates(asked, 4, seed=0)
    assert str(caught.value) == (
        "4 negatives cannot be drawn for 1 of 2 users: one of them has only 2 of 6 items outside "
        "history and targets\n  Sample at most 2, or use the protocol `full`."
    )


def test_no_users_no_lines() -> None:
    drawn = draw_candidates(evaluation([], [], 6), 4, seed=0)
    assert drawn.items.shape == (0, 5)
    assert len(drawn) == 0


def test_what_is_masked_is_no_negative() -> None:
    plain = evaluation([[0], [1]], [[2], [3]], 6)
    masked = replace(plain, masked=Histories.of([[1, 3], []], 6))
    drawn = draw_candidates(masked, 2, seed=0)
    check(drawn, plain, 2)
    assert drawn.items[0].tolist() == [2, 4, 5]


def test_the_pool_is_all_items_with_few_training_interactions() -> None:
    asked = evaluation([[0], [1]], [[2], [3]], 6)
    counts = np.array([5, 4, 1, 3, 0, 0])
    assert cold_pool(asked, counts, 2, split="x").items.tolist() == [2, 4, 5]
    assert cold_pool(asked, counts, 5, split="x").items.tolist() == [1, 2, 3, 4, 5]
    two, three = (cold_pool(asked, counts, below, split="x") for below in (2, 3))
    assert two.hash == three.hash != cold_pool(asked, counts, 4, split="x").hash


def test_a_pool_that_nobody_is_asked_for_names_split_and_protocol() -> None:
    asked = evaluation([[0], [1]], [[2], [3]], 6)
    with pytest.raises(DataError) as caught:
        cold_pool(asked, np.array([5, 4, 1, 3, 0, 0]), 1, split="leave_one_out")
    assert str(caught.value) == (
        "the protocol cold:1 has nobody to ask: of 2 test targets of the split 'leave_one_out', "
        "none has fewer than 1 training interaction; the least has 1\n"
        "  Hold whole items out with split: {strategy: cold_items}, raise the number after cold, "
        "or leave the protocol out."
    )
