"""What an alignment has to be better than."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.features import Features
from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.latents.blend import Term, fit_weights
from dynmm_framework.latents.inputs import as_array, user_vectors
from dynmm_framework.protocols import Backbone, Context, FloatArray, State


def rarity(counts: NDArray[np.int64]) -> FloatArray:
    """Returns the standardised -log(1 + count) of each item, ``(n_items, 1)``."""
    values = -np.log1p(counts.astype(np.float64))
    scale = values.std()
    standard = (values - values.mean()) / (scale if scale > 0 else 1)
    column: FloatArray = standard[:, None].astype(np.float32)
    return column


class PopularityBias:
    """A backbone's score and a term in popularity, mixed by weights fitted on validation users.

    It knows no content: of an alignment that has such a term, this much of the gain is not due
    to content. An adapter of slot ``align`` like the others.
    """

    def __init__(self) -> None:
        self._weights = np.empty(0, np.float32)
        self._rarity = np.empty((0, 1), np.float32)
        self._backbone: Backbone | None = None

    def fit(self, data: TrainingData, backbone: Backbone, ctx: Context) -> None:
        """Fits two weights; without validation users the backbone stays as it is."""
        self._rarity = rarity(data.train.item_counts())
        self._weights = np.array([1, 0], np.float32)
        self.attach(data.features, backbone)
        if ctx.validator is None:
            return
        evaluation = ctx.validator.evaluation
        vectors = user_vectors(backbone, evaluation.histories)
        ones = np.ones((len(vectors), 1), np.float32)
        terms = [
            Term("latent", vectors, as_array(backbone.item_vectors())),
            Term("rarity", ones, self._rarity),
        ]
        found = fit_weights(terms, evaluation, start=[1.0, 0.1])
        self._weights = np.array([found["latent"], found["rarity"]], np.float32)
        ctx.record("blend", found)

    def attach(self, features: Mapping[str, Features], backbone: Backbone) -> None:
        """Stands on a backbone; features do not matter."""
        self._backbone = backbone

    def item_latents(self) -> FloatArray:
        """Returns weighted vectors and the weighted term, ``(n_items, d + 1)``."""
        vectors = as_array(self._attached().item_vectors())
        parts = [self._weights[0] * vectors, self._weights[1] * self._rarity]
        return np.concatenate(parts, axis=1)

    def user_latents(self, histories: Histories) -> FloatArray:
        """Returns the backbone's vectors and ones, ``(len(histories), d + 1)``."""
        vectors = user_vectors(self._attached(), histories)
        return np.concatenate([vectors, np.ones((len(vectors), 1), np.float32)], axis=1)

    def get_state(self) -> State:
        """Returns what was fitted; empty before."""
        if not len(self._weights):
            return {}
        return {"weights": self._weights, "rarity": self._rarity}

    def load_state(self, state: State) -> None:
        """Restores what :meth:`get_state` returned; call :meth:`attach` next."""
        self._backbone = None
        self._weights = np.asarray(state.get("weights", np.empty(0, np.float32)))
        self._rarity = np.asarray(state.get("rarity", np.empty((0, 1), np.float32)))

    def _attached(self) -> Backbone:
        if self._backbone is None:
            raise StageError(
                "the popularity control is attached to no backbone",
                hint="Call attach after load_state.",
            )
        return self._backbone
