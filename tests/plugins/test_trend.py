from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from dynmm_framework.data.tables import Histories, Interactions, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.explain.records import Fact
from dynmm_framework.testing import EvidenceConformance
from dynmm_plugins.trend.config import TrendConfig
from dynmm_plugins.trend.model import DAY, Trend

CONTEXT: Any = SimpleNamespace(record=lambda name, value: None)
NOBODY = Histories.of([[]], 4)


class TestTrendConformance(EvidenceConformance):
    component: ClassVar[str] = "trend"
    config: ClassVar[dict[str, Any]] = {"top": 1.0}


class Base:
    def item_vectors(self) -> np.ndarray:
        return np.eye(4, dtype=np.float32)

    def user_vectors(self, histories: Histories) -> np.ndarray:
        return np.zeros((len(histories), 4), np.float32)


def events(*groups: tuple[int, int, int], first: int = 0) -> Interactions:
    """People who chose an item on a day: groups of (how many, item, day), each a new person."""
    items = np.concatenate([np.full(n, item) for n, item, _ in groups]).astype(np.int32)
    days = np.concatenate([np.full(n, day) for n, _, day in groups])
    users = np.arange(first, first + len(items), dtype=np.int32)
    return Interactions(users, items, len(users), 4, timestamps=days.astype(np.int64) * DAY)


def fitted(train: Interactions, **changed: Any) -> Trend:
    extractor = Trend(TrendConfig(**{"days": 10, "top": 1.0, **changed}))
    table = pa.table({"id": [str(number) for number in range(4)]})
    extractor.fit(TrainingData(train, table), Base(), CONTEXT)
    return extractor


def told(extractor: Trend) -> dict[int, tuple[float, Fact]]:
    table = extractor.extract(NOBODY, np.arange(4, dtype=np.int32)[None])
    facts = extractor.facts(table.references)
    return {
        int(item): (float(score), fact)
        for item, score, fact in zip(table.references, table.scores, facts, strict=True)
    }


def test_facts_count_the_people_of_the_newest_window() -> None:
    found = told(fitted(events((6, 0, 1), (20, 0, 15), (8, 1, 20), (5, 2, 11), (9, 3, 10))))
    assert sorted(found) == [0, 1, 2]  # item 3 was chosen a day too early
    assert found[0][1] == Fact("trend", values={"count": 20.0, "days": 10.0}, source="interactions")
    assert [round(found[item][0], 3) for item in (0, 1, 2)] == [1, 0.667, 0.333]


def test_growth_is_told_if_the_window_before_is_whole_and_enough() -> None:
    train = events((1, 3, 0), (5, 0, 5), (4, 1, 5), (15, 0, 15), (8, 1, 20))
    found = told(fitted(train))
    assert found[0][1].values == {"count": 15, "days": 10, "before": 5, "growth": 3}
    assert found[1][1].values == {"count": 8, "days": 10}  # 4 people are too few to tell of
    young = told(fitted(events((5, 0, 5), (15, 0, 15), (8, 1, 20))))
    assert "growth" not in young[0][1].values  # the data begin within the window before


def test_few_people_are_not_told_of() -> None:
    assert 1 not in told(fitted(events((4, 1, 1), (9, 0, 1))))
    assert 1 in told(fitted(events((5, 1, 1), (9, 0, 1))))


def test_one_person_counts_once() -> None:
    same = events((9, 0, 5), (9, 1, 5))
    train = Interactions(
        np.where(same.items == 1, 100, same.users).astype(np.int32),
        same.items, 101, 4, timestamps=same.timestamps,
    )  # fmt: skip
    assert sorted(told(fitted(train))) == [0]


def test_only_the_most_popular_are_told_of_and_what_has_grown() -> None:
    train = events((1, 3, 0), (9, 2, 5), (5, 1, 5), (30, 0, 15), (9, 2, 15), (10, 1, 20))
    assert sorted(told(fitted(train, top=0.3))) == [0, 1]  # 1 has doubled, 2 has not
    assert sorted(told(fitted(train, top=0.3, growth=2.5))) == [0]


def test_without_dates_the_window_is_a_number_of_interactions_and_says_so() -> None:
    lists = [[1, 2, 3, 0]] * 6 + [[2, 3, 1, 0]] * 6
    histories = Histories.of(lists, 4)
    train = Interactions(histories.rows.astype(np.int32), histories.items, 12, 4)
    found = told(fitted(train, share=0.25))
    assert sorted(found) == [0]
    assert found[0][1].values == {"count": 12, "of": 12}
    assert found[0][1].source == "interactions, by order"
    twice = told(fitted(train, share=0.5))
    assert {item: fact.values["count"] for item, (_, fact) in twice.items()} == {0: 12, 1: 6, 3: 6}


def test_refreshing_moves_the_window_on() -> None:
    extractor = fitted(events((1, 3, 0), (20, 0, 15), (8, 1, 20)))
    extractor.refresh(events((6, 2, 29), first=100))
    found = told(extractor)
    assert {item: fact.values["count"] for item, (_, fact) in found.items()} == {1: 8, 2: 6}
    again = Trend(extractor.config)
    again.load_state(extractor.get_state())
    again.attach(Base())
    assert told(again) == found
    assert np.array_equal(again.vectors(np.arange(4)), extractor.vectors(np.arange(4)))


def test_refreshing_in_pieces_is_refreshing_at_once() -> None:
    first, second = events((6, 2, 21), first=100), events((9, 1, 26), first=200)
    pieces, once = (fitted(events((20, 0, 15), (8, 1, 20))) for _ in range(2))
    pieces.refresh(first)
    pieces.refresh(second)
    once.refresh(events((6, 2, 21), (9, 1, 26), first=100))
    assert {i: f.values for i, (_, f) in told(pieces).items()} == {
        i: f.values for i, (_, f) in told(once).items()
    }


def test_new_items_are_left_out() -> None:
    extractor = fitted(events((6, 0, 1)))
    new = Interactions(
        np.arange(6, dtype=np.int32), np.full(6, 9, np.int32), 6, 10,
        timestamps=np.full(6, DAY, np.int64),
    )  # fmt: skip
    extractor.refresh(new)
    assert sorted(told(extractor)) == [0]


def test_dates_come_always_or_never() -> None:
    extractor = fitted(events((6, 0, 1)))
    undated = Interactions(np.zeros(1, np.int32), np.zeros(1, np.int32), 1, 4)
    with pytest.raises(StageError, match="refreshed with some without"):
        extractor.refresh(undated)
    with pytest.raises(StageError, match="is not fitted"):
        Trend(TrendConfig()).refresh(undated)


def test_vectors_point_from_all_items_to_those_chosen_lately() -> None:
    extractor = fitted(events((30, 0, 1), (10, 1, 1)))
    vectors = extractor.vectors(np.array([0, 1, 2]))
    np.testing.assert_allclose(vectors[0], [0.5, 0, -0.25, -0.25], atol=1e-6)
    np.testing.assert_allclose(vectors[1], vectors[0] / 2, atol=1e-6)
    assert not vectors[2].any()
