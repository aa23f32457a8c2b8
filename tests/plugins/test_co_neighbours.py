from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from dynmm_framework.data.tables import Histories, Interactions, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.testing import EvidenceConformance
from dynmm_plugins.co_neighbours.config import CoNeighboursConfig
from dynmm_plugins.co_neighbours.model import CoNeighbours

CONTEXT: Any = SimpleNamespace(
    record=lambda name, value: None,
    progress=lambda name, total: nullcontext(lambda n: None),
)


class TestCoNeighboursConformance(EvidenceConformance):
    component: ClassVar[str] = "co_neighbours"
    config: ClassVar[dict[str, Any]] = {"k": 4}


class Base:
    def item_vectors(self) -> np.ndarray:
        return np.eye(5, dtype=np.float32)

    def user_vectors(self, histories: Histories) -> np.ndarray:
        return np.zeros((len(histories), 5), np.float32)


def people(*groups: tuple[int, list[int]]) -> Interactions:
    """Groups of people who chose the same items: (how many, items)."""
    baskets = [items for number, items in groups for _ in range(number)]
    users = np.repeat(np.arange(len(baskets)), [len(items) for items in baskets])
    items = np.concatenate([np.array(items) for items in baskets])
    return Interactions(users.astype(np.int32), items.astype(np.int32), len(baskets), 5)


def fitted(train: Interactions, **changed: Any) -> CoNeighbours:
    extractor = CoNeighbours(CoNeighboursConfig(**changed))
    table = pa.table({"id": list("abcde"), "title": [f"Film {n}" for n in range(5)]})
    extractor.fit(TrainingData(train, table), Base(), CONTEXT)
    return extractor


def told(extractor: CoNeighbours, history: list[int], item: int) -> dict[int, float]:
    found = extractor.extract(Histories.of([history], 5), np.array([[item]], np.int32))
    return dict(zip(found.references.tolist(), found.scores.tolist(), strict=True))


def test_the_score_is_the_cosine_of_choices_less_what_has_been_chosen_since() -> None:
    # 9 chose items 0 and 1, 7 chose 0 and 2, 16 chose 1 alone: 16 people chose 0, 25 chose 1.
    extractor = fitted(people((9, [0, 1]), (7, [0, 2]), (16, [1]), (4, [0, 3])), decay=0.5)
    cosine = {1: 9 / (20 * 25) ** 0.5, 2: 7 / (20 * 7) ** 0.5}
    assert told(extractor, [1, 2], 0) == pytest.approx({2: cosine[2], 1: cosine[1] / 2})
    assert told(extractor, [2, 1, 4], 0) == pytest.approx({1: cosine[1] / 2, 2: cosine[2] / 4})
    assert told(extractor, [1, 4, 1], 0) == pytest.approx({1: cosine[1]})  # where it is newest


def test_of_fewer_people_than_least_nothing_is_told() -> None:
    train = people((4, [0, 2]), (5, [0, 3]), (6, [0, 1]))
    assert set(told(fitted(train), [3, 1, 2], 0)) == {1, 3}
    assert set(told(fitted(train, least=6), [3, 1, 2], 0)) == {1}
    with pytest.raises(ValidationError, match="greater than or equal to 5"):
        CoNeighboursConfig(least=4)


def test_an_item_speaks_neither_for_itself_nor_from_beyond_the_history() -> None:
    extractor = fitted(people((9, [0, 1, 2])), history=1)
    assert told(extractor, [0], 0) == {}
    assert set(told(extractor, [1, 2], 0)) == {2}
    assert told(extractor, [], 0) == {}
    assert told(extractor, [4], 0) == {}
    assert told(extractor, [1], -1) == {}


def test_the_best_are_kept_and_cited() -> None:
    train = people((9, [0, 1]), (7, [0, 2]), (6, [0, 3]))
    assert list(told(fitted(train, k=2, decay=1.0), [1, 2, 3], 0)) == [1, 2]
    assert list(told(fitted(train, neighbours=1, decay=1.0), [1, 2, 3], 0)) == [1]


def test_a_restored_extractor_finds_the_same() -> None:
    extractor = fitted(people((9, [0, 1]), (7, [0, 2])))
    other = CoNeighbours(CoNeighboursConfig())
    other.load_state(extractor.get_state())
    with pytest.raises(StageError, match="attached to nothing"):
        told(other, [1], 0)
    other.attach(Base())
    assert told(other, [1, 2], 0) == told(extractor, [1, 2], 0)
    (fact,) = other.facts(np.array([2], np.int32))
    assert (fact.kind, fact.name, fact.item) == ("neighbour", "Film 2", 2)
    with pytest.raises(StageError, match="knows 0 items"):
        CoNeighbours(CoNeighboursConfig()).attach(Base())


# A training example is asked about without itself.


def random_baskets(seed: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.permutation(5)[: rng.integers(2, 5)].tolist() for _ in range(60)]


def joined(baskets: list[list[int]]) -> Interactions:
    users = np.repeat(np.arange(len(baskets)), [len(items) for items in baskets])
    items = np.concatenate([np.array(items) for items in baskets])
    return Interactions(users.astype(np.int32), items.astype(np.int32), len(baskets), 5)


def without_own(extractor: CoNeighbours, history: list[int], item: int) -> dict[int, float]:
    found = extractor.extract_without_own(
        Histories.of([history], 5), np.array([[item]], np.int32), np.ones((1, 1), np.bool_)
    )
    return dict(zip(found.references.tolist(), found.scores.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_left_out_it_is_as_if_the_example_had_never_been_counted(seed: int) -> None:
    baskets = random_baskets(seed)
    extractor = fitted(joined(baskets))
    differ = 0
    for user, (*history, target) in enumerate(baskets[:20]):
        shorter = fitted(joined([*baskets[:user], history, *baskets[user + 1 :]]))
        expected = told(shorter, history, target)
        assert without_own(extractor, history, target) == pytest.approx(expected)
        differ += expected != pytest.approx(told(extractor, history, target))
    assert differ


def test_a_pair_of_just_enough_people_is_not_told_of_to_one_of_them() -> None:
    extractor = fitted(people((5, [0, 1]), (6, [0, 2])), decay=1.0)
    assert set(told(extractor, [1, 2], 0)) == {1, 2}
    # Of 11 people who chose item 0 ten are left, and five of those who chose 2 too.
    assert without_own(extractor, [1, 2], 0) == pytest.approx({2: 5 / (10 * 6) ** 0.5})


def test_an_extractor_of_an_older_version_cannot_leave_out() -> None:
    state = dict(fitted(people((9, [0, 1]))).get_state())
    del state["people"]
    older = CoNeighbours(CoNeighboursConfig())
    older.load_state(state)
    older.attach(Base())
    assert set(told(older, [1], 0)) == {1}
    with pytest.raises(StageError, match="did not keep how many people"):
        without_own(older, [1], 0)
