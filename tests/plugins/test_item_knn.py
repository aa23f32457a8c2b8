from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from dynmm_framework.data.tables import Histories, Interactions, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.testing import BaselineConformance
from dynmm_plugins.item_knn import model as item_knn
from dynmm_plugins.item_knn.config import ItemKNNConfig
from dynmm_plugins.item_knn.model import ItemKNN

CONTEXT: Any = SimpleNamespace(progress=lambda name, total: nullcontext(lambda n=1, note="": None))

FOUR_USERS = [[0, 1], [0, 1, 2], [1, 2], [0]]
"""Users per item: 0 has three, 1 three, 2 two, 3 none; 0 and 1 share two, 0 and 2 one, 1 and 2
two.
"""


class TestItemKNNConformance(BaselineConformance):
    component: ClassVar[str] = "item_knn"
    config: ClassVar[dict[str, Any]] = {"neighbours": 20}
    expected: ClassVar[dict[str, tuple[float, float]]] = {"ndcg@10": (0.18, 0.22)}


def training_data(lists: list[list[int]], n_items: int) -> TrainingData:
    histories = Histories.of(lists, n_items)
    return TrainingData(
        Interactions(histories.rows.astype(np.int32), histories.items, len(lists), n_items),
        pa.table({"id": [str(item) for item in range(n_items)]}),
    )


def fitted(lists: list[list[int]], n_items: int, **settings: Any) -> ItemKNN:
    model = ItemKNN(ItemKNNConfig(**{"shrinkage": 0.0, **settings}))
    model.fit(training_data(lists, n_items), CONTEXT)
    return model


def similarities(model: ItemKNN, n_items: int) -> np.ndarray:
    """Row i: what a history of item i alone gives to every item."""
    return model.score(Histories.of([[item] for item in range(n_items)], n_items))


def test_similarities_are_cosines() -> None:
    a, b, c = 2 / 3, 1 / math.sqrt(6), 2 / math.sqrt(6)
    np.testing.assert_allclose(
        similarities(fitted(FOUR_USERS, 4), 4),
        [[0, a, b, 0], [a, 0, c, 0], [b, c, 0, 0], [0, 0, 0, 0]],
        rtol=1e-6,
    )


def test_shrinkage_is_added_to_the_denominator() -> None:
    scores = similarities(fitted(FOUR_USERS, 4, shrinkage=7.0), 4)
    assert scores[0, 1] == pytest.approx(2 / (3 + 7))


def test_a_scored_item_keeps_its_nearest_neighbours() -> None:
    c = 2 / math.sqrt(6)
    # Column j holds the neighbours of item j: of 0 it is 1, of 1 it is 2, of 2 it is 1.
    np.testing.assert_allclose(
        similarities(fitted(FOUR_USERS, 4, neighbours=1), 4),
        [[0, 0, 0, 0], [2 / 3, 0, c, 0], [0, c, 0, 0], [0, 0, 0, 0]],
        rtol=1e-6,
    )


def test_equally_near_neighbours_are_taken_in_order_of_their_ids() -> None:
    scores = similarities(fitted([[0, 1, 2, 3]], 4, neighbours=2), 4)
    np.testing.assert_array_equal(np.flatnonzero(scores[:, 3]), [0, 1])
    np.testing.assert_array_equal(np.flatnonzero(scores[:, 0]), [1, 2])


def test_a_history_scores_by_the_sum_of_its_items() -> None:
    model = fitted(FOUR_USERS, 4)
    alone = similarities(model, 4)
    (scores,) = model.score(Histories.of([[0, 2]], 4))
    np.testing.assert_allclose(scores, alone[0] + alone[2], rtol=1e-6)


def test_repeated_interactions_count_once() -> None:
    repeated = fitted([[0, 1, 1], [0, 1, 2, 0], [1, 2], [0]], 4)
    np.testing.assert_array_equal(similarities(repeated, 4), similarities(fitted(FOUR_USERS, 4), 4))
    once, twice = repeated.score(Histories.of([[0, 2], [0, 2, 0]], 4))
    np.testing.assert_array_equal(once, twice)


def test_only_the_last_items_are_used_when_asked() -> None:
    model = fitted(FOUR_USERS, 4, last=1)
    np.testing.assert_array_equal(*model.score(Histories.of([[1, 0, 2], [2]], 4)))


def test_older_items_weigh_less_with_decay() -> None:
    model = fitted(FOUR_USERS, 4, decay=0.5)
    alone = similarities(model, 4)
    first, repeated = model.score(Histories.of([[1, 0, 2], [2, 0, 2]], 4))
    np.testing.assert_allclose(first, alone[2] + alone[0] / 2 + alone[1] / 4, rtol=1e-6)
    np.testing.assert_allclose(repeated, alone[2] + alone[0] / 2, rtol=1e-6)


def test_an_item_without_interactions_gives_and_gets_nothing() -> None:
    model = fitted(FOUR_USERS, 4)
    scores = model.score(Histories.of([[3], []], 4))
    np.testing.assert_array_equal(scores, np.zeros((2, 4)))


def test_blocks_of_the_matrix_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    lists = [list(rng.choice(30, 6, replace=False)) for _ in range(40)]
    whole = similarities(fitted(lists, 30, neighbours=5), 30)
    monkeypatch.setattr(item_knn, "BLOCK_ENTRIES", 50)
    np.testing.assert_array_equal(similarities(fitted(lists, 30, neighbours=5), 30), whole)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_the_largest_entries_of_each_row_are_kept(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.integers(0, 4, (5, 8)).astype(np.float32) / 4  # many ties
    kept = item_knn._largest(sp.csr_matrix(dense), k).toarray()
    for row, chosen in zip(dense, kept, strict=True):
        best = np.lexsort((np.arange(8), -row))[:k]
        expected = np.zeros(8, np.float32)
        expected[best] = row[best]
        np.testing.assert_array_equal(chosen, expected)


def test_scoring_before_fit_says_what_to_do() -> None:
    with pytest.raises(StageError, match=r"Item-kNN is not fitted\n  Call fit or load_state"):
        ItemKNN(ItemKNNConfig()).score(Histories.of([[]], 1))


def test_state_is_empty_before_fit_and_can_be_restored() -> None:
    model = ItemKNN(ItemKNNConfig())
    assert model.get_state() == {}
    model.load_state({})
    assert model.get_state() == {}
