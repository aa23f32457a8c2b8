from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynmm_framework.data.features import Features
from dynmm_framework.data.tables import Histories, Interactions, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.explain.records import EvidenceTable
from dynmm_framework.testing import EvidenceConformance
from dynmm_plugins.cf_neighbours.config import CFNeighboursConfig
from dynmm_plugins.cf_neighbours.model import CFNeighbours

CONTEXT: Any = SimpleNamespace(
    progress=lambda name, total: nullcontext(lambda n=1, note="": None),
    rng=lambda name: np.random.default_rng(0),
    record=lambda name, value: None,
    log=lambda message: None,
)
ANGLES = np.radians([0, 60, 180, 240, 10, 190])
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)
"""Items around a mean of zero: 0 and 4 are alike, 1 a little like both; so are 2, 5 and 3."""


class TestCFNeighboursConformance(EvidenceConformance):
    component: ClassVar[str] = "cf_neighbours"
    config: ClassVar[dict[str, Any]] = {"k": 3}


class TestPlainConformance(EvidenceConformance):
    component: ClassVar[str] = "cf_neighbours"
    config: ClassVar[dict[str, Any]] = {"weighted": False, "minimum": 0.1, "neighbours": 5}


class Base:
    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors.astype(np.float32)

    def item_vectors(self) -> np.ndarray:
        return self.vectors

    def user_vectors(self, histories: Histories) -> np.ndarray:
        rows = [self.vectors[row].sum(axis=0) for row in histories]
        return np.array(rows, np.float32).reshape(len(histories), -1)


def training(lists: list[list[int]], n_items: int, **more: Any) -> TrainingData:
    histories = Histories.of(lists, n_items)
    rows = Interactions(histories.rows.astype(np.int32), histories.items, len(lists), n_items)
    titles = [f"Film {number}" for number in range(n_items)]
    return TrainingData(rows, pa.table({"id": titles, "title": titles}), **more)


def fitted(
    vectors: np.ndarray, lists: list[list[int]] | None = None, **changed: Any
) -> CFNeighbours:
    extractor = CFNeighbours(CFNeighboursConfig(**{"weighted": False, "minimum": 0.0, **changed}))
    everything = [list(range(len(vectors)))]
    extractor.fit(training(lists or everything, len(vectors)), Base(vectors), CONTEXT)
    return extractor


def cited(table: EvidenceTable, column: int = 0) -> list[tuple[int, float, int]]:
    chosen = table.take(table.columns == column)
    values = (chosen.references, chosen.scores, chosen.support)
    return [(int(i), round(float(s), 4), int(n)) for i, s, n in zip(*values, strict=True)]


def test_items_of_the_history_come_first_whatever_their_cosine() -> None:
    extractor = fitted(CIRCLE)
    table = extractor.extract(Histories.of([[1]], 6), np.array([[0]], np.int32))
    assert cited(table) == [
        (1, pytest.approx((1 + math.cos(math.radians(60))) / 2, abs=1e-3), 1),
        (4, pytest.approx(math.cos(math.radians(10)) / 2, abs=1e-3), 0),
    ]


def test_a_similar_item_of_the_history_is_found_beyond_the_dictionary() -> None:
    extractor = fitted(CIRCLE, neighbours=1, k=5)
    assert extractor.get_state()["nearest"][0].tolist() == [4]
    table = extractor.extract(Histories.of([[1, 2]], 6), np.array([[0]], np.int32))
    assert [item for item, _, _ in cited(table)] == [1, 4]


def test_an_item_beyond_the_newest_of_the_history_still_counts_as_the_users_own() -> None:
    extractor = fitted(CIRCLE, history=1)
    table = extractor.extract(Histories.of([[4, 3]], 6), np.array([[0]], np.int32))
    assert cited(table)[0][0] == 4
    assert cited(table)[0][2] == 1
    assert cited(table)[0][1] > 0.5


def test_what_is_less_alike_than_the_minimum_is_not_cited() -> None:
    table = fitted(CIRCLE, minimum=0.9).extract(
        Histories.of([[2]], 6), np.array([[0, 1]], np.int32)
    )
    assert [item for item, _, _ in cited(table)] == [4]
    assert cited(table, 1) == []


def test_the_item_itself_is_never_cited_and_repeats_count_once() -> None:
    table = fitted(CIRCLE).extract(Histories.of([[0, 4, 0, 4, 4]], 6), np.array([[0]], np.int32))
    assert [item for item, _, _ in cited(table)] == [4, 1]


def test_equal_vectors_are_neighbours_but_an_item_is_not_its_own() -> None:
    twins = np.array([[1, 0], [1, 0], [1, 0], [-1, 0]], np.float32)
    table = fitted(twins).extract(Histories.of([[]], 4), np.array([[1]], np.int32))
    assert [item for item, _, _ in cited(table)] == [0, 2]


def test_an_item_that_nobody_chose_has_no_neighbours_and_is_none() -> None:
    extractor = fitted(CIRCLE, [[0, 1, 2, 3]])
    table = extractor.extract(Histories.of([[4], []], 6), np.array([[0], [4]], np.int32))
    assert 4 not in table.references
    assert not (table.rows == 1).any()


def test_content_makes_up_for_missing_interactions() -> None:
    extractor = CFNeighbours(CFNeighboursConfig(weighted=False, minimum=0.0))
    present = np.arange(6) == 4
    features = {"text": Features(np.ones((6, 1), np.float32) * present[:, None], present)}
    extractor.fit(training([[0, 1, 2, 3]], 6, features=features), Base(CIRCLE), CONTEXT)
    table = extractor.extract(Histories.of([[]], 6), np.array([[4]], np.int32))
    assert cited(table)[0][0] == 0


def test_a_vector_that_is_the_mean_of_all_has_no_neighbours() -> None:
    vectors = np.array([[3, 1], [1, 1], [2, 1]], np.float32)
    table = fitted(vectors).extract(Histories.of([[0, 1]], 3), np.array([[2]], np.int32))
    assert len(table) == 0


def test_what_all_users_weigh_alike_takes_no_part() -> None:
    rng = np.random.default_rng(0)
    taste = rng.normal(size=(30, 3)).astype(np.float32)
    popular = np.linspace(-50, 50, 30, dtype=np.float32)[:, None]

    class Biased(Base):
        def user_vectors(self, histories: Histories) -> np.ndarray:
            own = np.random.default_rng(1).normal(size=(len(histories), 3))
            return np.hstack([own, np.ones((len(own), 1))]).astype(np.float32)

    lists = [list(range(30)) for _ in range(40)]
    near = []
    for column in (popular, popular * 0):
        extractor = CFNeighbours(CFNeighboursConfig(neighbours=3, minimum=0.0))
        extractor.fit(training(lists, 30), Biased(np.hstack([taste, column])), CONTEXT)
        near.append(extractor.get_state()["nearest"])
    assert np.array_equal(*near)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(1, 30), st.integers(0, 2**31))
def test_the_dictionary_is_what_comparing_all_pairs_gives(n: int, kept: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)
    extractor = fitted(vectors, neighbours=kept)
    units = vectors - vectors.mean(axis=0)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    cosine = units @ units.T
    np.fill_diagonal(cosine, -1)
    for item, near in enumerate(extractor.get_state()["nearest"]):
        expected = [j for j in np.argsort(-cosine[item]) if cosine[item, j] > 1e-5][:kept]
        assert near[near >= 0].tolist()[: len(expected)] == expected


def test_many_users_are_looked_up_in_blocks() -> None:
    rng = np.random.default_rng(3)
    extractor = fitted(rng.normal(size=(40, 6)).astype(np.float32))
    histories = Histories.of([rng.choice(40, rng.integers(0, 9)).tolist() for _ in range(150)], 40)
    asked = rng.integers(0, 40, (150, 4)).astype(np.int32)
    table = extractor.extract(histories, asked)
    for row in (0, 63, 64, 149):
        one = extractor.extract(histories.take(slice(row, row + 1)), asked[row : row + 1])
        among = table.take(table.rows == row)
        assert np.array_equal(one.references, among.references)
        assert np.array_equal(one.scores, among.scores)


def test_places_without_a_candidate_have_no_evidence() -> None:
    table = fitted(CIRCLE).extract(Histories.of([[1]], 6), np.array([[-1, 0]], np.int32))
    assert set(table.columns.tolist()) == {1}


def test_facts_are_titles_and_vectors_those_that_recommend() -> None:
    extractor = fitted(CIRCLE)
    (fact,) = extractor.facts(np.array([4], np.int32))
    assert (fact.kind, fact.name, fact.item, fact.source) == (
        "neighbour", "Film 4", 4, "interactions",
    )  # fmt: skip
    assert np.array_equal(extractor.vectors(np.array([4, 0])), CIRCLE[[4, 0]])


def test_other_items_below_are_refused() -> None:
    extractor = fitted(CIRCLE)
    with pytest.raises(StageError, match=r"knows 6 items by vectors of width 2, and is put on"):
        extractor.attach(Base(CIRCLE[:3]))
    empty = CFNeighbours(CFNeighboursConfig())
    empty.load_state(extractor.get_state())
    with pytest.raises(StageError, match="attached to nothing"):
        empty.extract(Histories.of([[]], 6), np.array([[0]], np.int32))
    empty.load_state({})
    assert empty.get_state() == {}
