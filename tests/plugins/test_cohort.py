"""Cohorts: numbers of groups, never of a few people."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dynmm_framework.data.tables import Histories, Interactions, TrainingData
from dynmm_framework.engine.context import bare_context
from dynmm_framework.testing import EvidenceConformance
from dynmm_framework.testing.contexts import ContextFactory
from dynmm_plugins.cohort.config import CohortConfig
from dynmm_plugins.cohort.model import Cohort

N_ITEMS = 6


class TestCohortConformance(EvidenceConformance):
    component: ClassVar[str] = "cohort"
    config: ClassVar[dict[str, Any]] = {"size": 40}


class TestNoisyCohortConformance(EvidenceConformance):
    component: ClassVar[str] = "cohort"
    config: ClassVar[dict[str, Any]] = {"size": 40, "epsilon": 5.0, "contribution": 2}

    def test_the_same_seed_finds_the_same(self) -> None:  # type: ignore[override]
        """Noise that a seed gives can be taken away by who knows it; see the next tests."""


class Sides:
    """Users who have item 0 point one way, the others the other way."""

    def item_vectors(self) -> np.ndarray:
        return np.eye(N_ITEMS, 2, dtype=np.float32)

    def user_vectors(self, histories: Histories) -> np.ndarray:
        has = np.array([0 in row.tolist() for row in histories], np.float32)
        return np.stack([2 * has - 1, np.full(len(has), 0.1)], axis=1).astype(np.float32)


def data(lists: list[list[int]]) -> TrainingData:
    histories = Histories.of(lists, N_ITEMS)
    rows = Interactions(histories.rows.astype(np.int32), histories.items, len(lists), N_ITEMS)
    return TrainingData(rows, pa.table({"id": [str(n) for n in range(N_ITEMS)]}))


def fitted(lists: list[list[int]], context: Any, **config: Any) -> Cohort:
    extractor = Cohort(CohortConfig(**config))
    extractor.fit(data(lists), Sides(), context)
    return extractor


def told(extractor: Cohort, history: list[int]) -> dict[int, tuple[float, float]]:
    asked = np.arange(N_ITEMS, dtype=np.int32)[None]
    table = extractor.extract(Histories.of([history], N_ITEMS), asked)
    facts = extractor.facts(table.references)
    return {
        int(column): (fact.values["count"], fact.values["users"])
        for column, fact in zip(table.columns, facts, strict=True)
    }


def test_a_number_is_that_of_the_group(dynmm_context: ContextFactory) -> None:
    lists = [[0, 1, 1], *[[0, 1]] * 7, *[[0, 2]] * 12, *[[3]] * 9, *[[4]] * 11]
    extractor = fitted(lists, dynmm_context(), size=20)
    assert told(extractor, [0]) == {1: (8, 20), 2: (12, 20)}  # 0 is the user's own
    assert told(extractor, [5]) == {3: (9, 20), 4: (11, 20)}
    assert told(extractor, [0, 1]) == {2: (12, 20)}
    assert told(extractor, []) == {}


@pytest.mark.parametrize(
    ("chose", "left", "expected"), [(5, 6, True), (4, 9, False), (5, 5, False)]
)
def test_both_sides_need_k_people(
    dynmm_context: ContextFactory, chose: int, left: int, expected: bool
) -> None:
    lists = [[1]] * chose + [[2]] * left
    extractor = fitted(lists, dynmm_context(), size=100)
    assert (1 in told(extractor, [5])) == expected


def test_what_everyone_chooses_as_often_says_nothing_of_a_group(
    dynmm_context: ContextFactory,
) -> None:
    lists = [[0, 1]] * 6 + [[0, 2]] * 14 + [[3, 1]] * 12 + [[3]] * 8
    assert set(told(fitted(lists, dynmm_context(), size=20), [0])) == {2}
    assert set(told(fitted(lists, dynmm_context(), size=20, least_lift=0), [0])) == {1, 2}


@given(
    st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=4), min_size=1, max_size=60),
    st.integers(5, 9),
    st.integers(10, 40),
)
@settings(max_examples=40, deadline=None)
def test_no_number_is_of_fewer_than_k_people(lists: list[list[int]], k: int, size: int) -> None:
    """k-anonymity, both ways, whatever the data; and no array of the state is as long as users."""
    if not any(lists):
        return
    context = _context()
    extractor = fitted(lists, context, k=k, size=size, least_lift=0)
    state = extractor.get_state()
    of_group = np.repeat(np.arange(len(state["sizes"])), np.diff(state["offsets"]))
    counts, sizes = state["counts"], state["sizes"][of_group]
    assert (counts >= k).all()
    assert (sizes - counts > k).all()
    assert state["sizes"].sum() == sum(bool(row) for row in lists)
    for references in ([n] for n in range(len(counts))):
        (fact,) = extractor.facts(np.array(references))
        assert fact.values["count"] >= k
        assert not fact.name
        assert fact.item == -1


def _context() -> Any:
    from dynmm_framework.catalogue import Catalogue

    return bare_context(Catalogue())


def test_noise_has_the_scale_that_epsilon_asks_for(dynmm_context: ContextFactory) -> None:
    """Of 10,000 people each chose 4 items of 400: 100 people an item, and Laplace noise."""
    n_items, epsilon = 400, 1.0
    lists = [[4 * (user % 100) + n for n in range(4)] for user in range(10_000)]
    histories = Histories.of(lists, n_items)
    rows = Interactions(histories.rows.astype(np.int32), histories.items, len(lists), n_items)
    given_ = TrainingData(rows, pa.table({"id": [str(n) for n in range(n_items)]}))

    class Alike:
        def item_vectors(self) -> np.ndarray:
            return np.ones((n_items, 2), np.float32)

        def user_vectors(self, histories: Histories) -> np.ndarray:
            return np.ones((len(histories), 2), np.float32)

    extractor = Cohort(CohortConfig(size=10_000, epsilon=epsilon, contribution=4))
    extractor.fit(given_, Alike(), dynmm_context())
    noise = extractor.get_state()["counts"] - 100.0
    # The mean of |Laplace| is its scale: (4 items + 1 for the group's size) / epsilon.
    assert np.abs(noise).mean() == pytest.approx(5 / epsilon, rel=0.35)  # seven standard errors
    (fact,) = extractor.facts(np.array([0]))
    assert fact.values["epsilon"] == epsilon


def test_one_person_counts_with_no_more_than_its_contribution(
    dynmm_context: ContextFactory,
) -> None:
    lists = [list(range(N_ITEMS))] * 400
    extractor = Cohort(CohortConfig(size=400, epsilon=1000, contribution=2, least_lift=0))
    extractor.fit(data(lists), Sides(), dynmm_context())
    counts = extractor.get_state()["counts"]
    assert counts.sum() == pytest.approx(2 * 400, abs=2)
    assert counts.min() > 90  # drawn at random, not the first ones


def test_noise_hides_whether_one_person_chose(dynmm_context: ContextFactory) -> None:
    """With ε, what is told follows noisy numbers alone: true ones below k may pass."""
    lists = [[1]] * 3 + [[2]] * 60
    seen = [
        told(fitted(lists, dynmm_context(seed=s), size=100, epsilon=0.2, least_lift=0), [5])
        for s in range(120)
    ]
    assert any(1 in found for found in seen)
    assert len({found.get(2) for found in seen}) > 3
    assert all(count >= 5 for found in seen for count, _ in found.values())


def test_two_dictionaries_of_one_seed_do_not_give_a_person_away(
    dynmm_context: ContextFactory,
) -> None:
    """Seeded noise would cancel in the difference, and leave what the added person chose."""
    lists = [[1 + user % 5] for user in range(300)]
    settings_ = {"size": 1000, "epsilon": 0.5, "contribution": 2, "least_lift": 0}
    before = fitted(lists, dynmm_context(seed=3), **settings_)
    after = fitted([*lists, [2]], dynmm_context(seed=3), **settings_)
    assert len({*_numbers(before).items()} & {*_numbers(after).items()}) < 5
    again = fitted(lists, dynmm_context(seed=3), **settings_)
    assert _numbers(before) != _numbers(again)


def _numbers(extractor: Cohort) -> dict[int, int]:
    state = extractor.get_state()
    return dict(zip(state["items"].tolist(), state["counts"].tolist(), strict=True))


def test_without_noise_the_seed_gives_the_same(dynmm_context: ContextFactory) -> None:
    lists = [[1 + user % 5] for user in range(300)]
    one, other = (fitted(lists, dynmm_context(seed=3), least_lift=0) for _ in range(2))
    assert _numbers(one) == _numbers(other) != {}


def test_fewer_than_five_cannot_be_asked_for() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 5"):
        CohortConfig(k=4)


def test_the_vector_is_that_of_what_the_group_chose(dynmm_context: ContextFactory) -> None:
    lists = [*[[1]] * 6, *[[2]] * 8, *[[0, 3]] * 6, *[[0, 4]] * 10]
    extractor = fitted(lists, dynmm_context(), size=15, least_lift=0)
    asked = np.array([[1]], np.int32)
    table = extractor.extract(Histories.of([[5]], N_ITEMS), asked)
    assert extractor.vectors(table.references)[0] == pytest.approx([0, 6 / 14])
