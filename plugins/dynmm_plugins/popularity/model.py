"""Popularity: the floor that every personalised recommender has to clear."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dynmm_framework.errors import StageError
from dynmm_plugins.popularity.config import PopularityConfig

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context, FloatArray, IntArray, State


class Popularity:
    """Scores every item by its number of training interactions, whoever asks.

    Items with equal counts get equal scores; the evaluator gives a tied target the mean rank of
    its tie. Histories do not matter, so unknown users and empty histories are served alike.
    Training is O(interactions), scoring O(batch · items).
    """

    def __init__(self, config: PopularityConfig) -> None:
        self.config = config
        self._counts: FloatArray | None = None  # (n_items,)

    def fit(self, data: TrainingData, ctx: Context) -> None:
        self._counts = data.train.item_counts().astype(np.float32)

    def score(self, histories: Histories, candidates: IntArray | None = None) -> FloatArray:
        if self._counts is None:
            raise StageError("Popularity is not fitted", hint="Call fit or load_state first.")
        if candidates is not None:
            return self._counts[candidates]
        return np.repeat(self._counts[None, :], len(histories), axis=0)

    def get_state(self) -> State:
        return {} if self._counts is None else {"counts": self._counts}

    def load_state(self, state: State) -> None:
        counts = state.get("counts")
        self._counts = None if counts is None else np.asarray(counts, dtype=np.float32)
