from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from dynmm_framework.data.tables import Histories, Interactions, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.testing import BaselineConformance
from dynmm_plugins.popularity.config import PopularityConfig
from dynmm_plugins.popularity.model import Popularity

CONTEXT: Any = SimpleNamespace()  # popularity asks nothing of it


class TestPopularityConformance(BaselineConformance):
    component: ClassVar[str] = "popularity"
    expected: ClassVar[dict[str, tuple[float, float]]] = {"ndcg@10": (0.13, 0.17)}


def training_data(items: list[int], n_items: int) -> TrainingData:
    users = np.arange(len(items), dtype=np.int32)
    return TrainingData(
        Interactions(users, np.array(items, np.int32), len(items), n_items),
        pa.table({"id": [str(item) for item in range(n_items)]}),
    )


def test_scores_are_training_counts_for_every_history() -> None:
    model = Popularity(PopularityConfig())
    model.fit(training_data([2, 0, 2, 1, 2, 0], n_items=4), CONTEXT)
    scores = model.score(Histories.of([[0], [], [3, 3]], n_items=4))
    np.testing.assert_array_equal(scores, [[2, 1, 3, 0]] * 3)


def test_items_with_equal_counts_get_equal_scores() -> None:
    model = Popularity(PopularityConfig())
    model.fit(training_data([1, 0, 1, 0], n_items=3), CONTEXT)
    (scores,) = model.score(Histories.of([[]], n_items=3))
    assert scores[0] == scores[1] > scores[2]


def test_rows_of_scores_may_be_masked_one_by_one() -> None:
    model = Popularity(PopularityConfig())
    model.fit(training_data([0, 1], n_items=2), CONTEXT)
    scores = model.score(Histories.of([[0], [1]], n_items=2))
    scores[0, 0] = -np.inf
    assert scores[1, 0] == 1
    np.testing.assert_array_equal(model.score(Histories.of([[0]], n_items=2)), [[1, 1]])


def test_scoring_before_fit_says_what_to_do() -> None:
    with pytest.raises(StageError, match=r"Popularity is not fitted\n  Call fit or load_state"):
        Popularity(PopularityConfig()).score(Histories.of([[]], n_items=1))


def test_state_is_empty_before_fit_and_can_be_restored() -> None:
    model = Popularity(PopularityConfig())
    assert model.get_state() == {}
    model.load_state({})
    assert model.get_state() == {}
