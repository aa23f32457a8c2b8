"""What holds for histories that real data has and tidy data lacks: served, and learned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import BaseModel

from dynmm_framework.data.tables import Dataset, Histories, Interactions, TrainingData
from dynmm_framework.errors import DynmmError
from dynmm_framework.specs import Component
from dynmm_framework.testing.conformance.component import require
from dynmm_framework.testing.conformance.measuring import require_scores
from dynmm_framework.testing.conformance.training import TrainingConformance, with_content
from dynmm_framework.testing.contexts import ContextFactory

N_ITEMS = 12
"""Items of the hand-made data."""
RAGGED: Sequence[Sequence[int]] = (
    [0, 1, 2, 3],
    [],  # nothing
    [4],  # one interaction
    [1, 1, 5, 1, 5, 5, 5],  # the same items again
    [5, 4, 3, 2, 1, 0, 6, 7, 8, 9] * 20,  # longer than any model reads
    [2, 3, 4],
)
"""Training histories of all lengths; items 10 and 11 have no interactions."""
SATURATED: Sequence[Sequence[int]] = (list(range(N_ITEMS)), [0, 1, 2], [9, 8, 7, 6])
"""One user has every item, so that there is no negative to draw."""
TINY: Mapping[str, tuple[Sequence[Sequence[int]], int]] = {
    "a catalogue of one item": ([[0], [0], [0]], 1),
    "a single user": ([[0, 1, 2, 3]], 6),
    "one interaction of each user": ([[0], [1], [2], [0]], 4),
    "every user with every item": ([[0, 1, 2], [2, 1, 0]], 3),
}
"""Data of which some models can learn nothing: training lists, and number of items."""


class OddHistoriesConformance(TrainingConformance):
    """Conformance in the cases at the edge; part of every recommender's."""

    @pytest.fixture
    def train_on(
        self,
        make: Callable[..., Any],
        config_model: type[BaseModel],
        registered: Component,
        dynmm_dataset: Dataset,
        dynmm_context: ContextFactory,
    ) -> Callable[..., Any]:
        """Trains a fresh component on plain lists of items, for a few epochs if it has any."""
        short = {"epochs": 2} if "epochs" in config_model.model_fields else {}

        def train(lists: Sequence[Sequence[int]], n_items: int) -> Any:
            model = make(**short)
            data = with_content(_training_data(lists, n_items, dynmm_dataset), registered)
            model.fit(data, dynmm_context(validate=False))
            return model

        return train

    def test_an_empty_history_is_served(self, fitted: Any, histories: Histories) -> None:
        mixed = Histories.of([[], [0, 1], []], histories.n_items)
        require_scores(self.scores(fitted, mixed), mixed, "empty histories")
        alone = Histories.of([[]], histories.n_items)
        require_scores(self.scores(fitted, alone), alone, "an empty history alone")

    def test_a_long_history_with_repeats_is_served(self, fitted: Any, histories: Histories) -> None:
        long = Histories.of([[0, 1, 1, 2] * 100], histories.n_items)
        require_scores(self.scores(fitted, long), long, "400 items with repeats")

    def test_an_item_without_training_interactions_is_served(
        self, fitted: Any, histories: Histories, data: TrainingData
    ) -> None:
        unseen = np.flatnonzero(data.train.item_counts() == 0).tolist()
        if not unseen:
            pytest.skip("every item has training interactions")
        cold = Histories.of([unseen[:1], [0, unseen[0]]], histories.n_items)
        what = "histories with an item that has no training interactions"
        require_scores(self.scores(fitted, cold), cold, what)

    def test_a_history_of_one_item_is_served(self, fitted: Any, histories: Histories) -> None:
        ones = Histories.of([[0], [1], [0]], histories.n_items)
        require_scores(self.scores(fitted, ones), ones, "histories of one item")

    def test_a_history_of_the_whole_catalogue_is_served(
        self, fitted: Any, histories: Histories
    ) -> None:
        n_items = histories.n_items
        everything = Histories.of([range(n_items), [0, 1], range(n_items)[::-1]], n_items)
        require_scores(self.scores(fitted, everything), everything, "a history of all items")

    def test_odd_histories_are_learned_from(
        self, fitted: Any, train_on: Callable[..., Any]
    ) -> None:
        what = (
            "trained on users with no, one, repeated and very many interactions, and items without"
        )
        self._require_trained(train_on(RAGGED, N_ITEMS), RAGGED, N_ITEMS, what)

    def test_a_user_with_every_item_is_learned_from(
        self, fitted: Any, train_on: Callable[..., Any]
    ) -> None:
        what = "trained on a user who has every item"
        self._require_trained(train_on(SATURATED, N_ITEMS), SATURATED, N_ITEMS, what)

    @pytest.mark.parametrize("case", TINY)
    def test_tiny_data_is_learned_from_or_refused_in_words(
        self, fitted: Any, train_on: Callable[..., Any], case: str
    ) -> None:
        lists, n_items = TINY[case]
        try:
            model = train_on(lists, n_items)
        except DynmmError as error:
            require(
                bool(error.hint) and " nan" not in error.message.lower(),
                f"training on {case} ends in {str(error)!r}. Say before the first step that there"
                " is nothing to learn from, and what to do about it (hint).",
            )
            return
        self._require_trained(model, lists, n_items, f"trained on {case}")

    def _require_trained(
        self, model: Any, lists: Sequence[Sequence[int]], n_items: int, what: str
    ) -> None:
        __tracebackhide__ = True
        known = Histories.of(lists, n_items, users=np.arange(len(lists), dtype=np.int32))
        strangers = Histories.of([[], [0], list(range(n_items))], n_items)
        require_scores(self.scores(model, known), known, f"{what}, its own users")
        require_scores(self.scores(model, strangers), strangers, f"{what}, other users")


def _training_data(lists: Sequence[Sequence[int]], n_items: int, dataset: Dataset) -> TrainingData:
    """Makes training data of plain lists, with the columns of a dataset's tables."""
    if dataset.n_items < n_items:
        pytest.skip(f"the dataset has fewer than {n_items} items")
    made = Histories.of(lists, n_items)
    n = len(made.items)
    given = dataset.interactions
    rows = Interactions(
        users=made.rows.astype(np.int32),
        items=made.items,
        n_users=len(lists),
        n_items=n_items,
        timestamps=None if given.timestamps is None else np.arange(n, dtype=np.int64),
        ratings=None if given.ratings is None else np.full(n, 4, dtype=np.float32),
    )
    items: pa.Table = dataset.items.slice(0, n_items)
    return TrainingData(rows, items)
