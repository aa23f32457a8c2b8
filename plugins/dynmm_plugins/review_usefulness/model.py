"""What users wrote of an item, most useful first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.reviews import require_reviews
from dynmm_framework.errors import StageError
from dynmm_framework.explain.passages import pack_texts, packed_text, quotable
from dynmm_framework.explain.records import EvidenceTable, Fact
from dynmm_framework.latents.inputs import as_array
from dynmm_plugins.review_usefulness.config import ReviewUsefulnessConfig

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context, FloatArray, IntArray, Retriever, State

NAME = "review_usefulness"


class ReviewUsefulness:
    """Quotes the reviews of a candidate that a model's attention finds most useful.

    Chen et al., "Neural attentional rating regression with review-level explanations", WWW 2018:
    the attention over an item's reviews tells which of them a reader would find useful. The model
    is named by ``model`` and trained here, on the training interactions.

    A quotation is one sentence of a review, verbatim, the first that may be quoted
    (:mod:`dynmm_framework.explain.passages`): without addresses, telephone numbers, signatures or
    introductions, and without orders to a model. Who wrote it is not kept. An item that the user
    has is not spoken for, as the user may have written of it.

    The score is the review's weight among all reviews of its item, those that are not quoted among
    them; the vector is the item's latent. Nothing of the user is looked at: support is 0. A look-up
    is O(candidates); memory is the quotations.
    """

    def __init__(self, config: ReviewUsefulnessConfig) -> None:
        self.config = config
        self._ctx: Context | None = None
        self._base: Retriever | None = None
        self._latents: FloatArray | None = None
        self._arrays: dict[str, NDArray[Any]] = {}

    def connect(self, ctx: Context) -> None:
        self._ctx = ctx

    def fit(self, data: TrainingData, base: Retriever, ctx: Context) -> None:
        texts = require_reviews(data.train, owner=NAME)
        model = ctx.component(self.config.model)
        if not hasattr(model, "review_weights"):
            raise StageError(
                f"stage {ctx.stage}: {NAME} asks {self.config.model.name} how useful reviews are, "
                "and it weighs none",
                hint="Name a recommender with a method review_weights() in model, such as narre.",
            )
        model.fit(data, ctx.part("model"))
        weights = np.asarray(model.review_weights(), np.float32)
        fit = weights > 0
        if self.config.least_rating is not None and data.train.ratings is not None:
            fit &= data.train.ratings >= self.config.least_rating
        rows = np.flatnonzero(fit)
        order = rows[np.lexsort((rows, -weights[rows], data.train.items[rows]))]
        kept, quotations, counts = [], [], np.zeros(data.n_items, np.int64)
        for row in order.tolist():
            item = data.train.items[row]
            if counts[item] < self.config.reviews:
                found = self._quotation(texts[row].as_py())
                if found:
                    kept.append(row)
                    quotations.append(found)
                    counts[item] += 1
        self._arrays = {
            "first": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            "weights": weights[kept],
            **pack_texts("texts", quotations),
        }
        if data.train.ratings is not None:
            self._arrays["ratings"] = data.train.ratings[kept].astype(np.float32)
        ctx.record(
            "evidence",
            {
                "items": data.n_items,
                "quotations": len(kept),
                "without_quotations": int((counts == 0).sum()),
            },
        )
        self.attach(base)

    def _quotation(self, text: str) -> str:
        return next(iter(quotable(text, most=self.config.length)), "")

    def attach(self, base: Retriever) -> None:
        self._base, self._latents = base, None

    def extract(self, histories: Histories, candidates: IntArray) -> EvidenceTable:
        arrays = self._fitted()
        places = np.maximum(candidates, 0)
        own = np.isin(
            np.arange(len(histories))[:, None] * histories.n_items + candidates,
            histories.rows * histories.n_items + histories.items,
        )
        counts = arrays["first"][places + 1] - arrays["first"][places]  # (batch, C)
        counts = np.where((candidates < 0) | own, 0, np.minimum(counts, self.config.k))
        rows, columns = np.nonzero(counts)
        each = counts[rows, columns]
        starts = np.repeat(arrays["first"][places[rows, columns]], each)
        references = starts + np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        return EvidenceTable.of(
            np.repeat(rows, each),
            np.repeat(columns, each),
            references,
            np.clip(arrays["weights"][references], 0, 1),
        )

    def facts(self, references: IntArray) -> list[Fact]:
        arrays = self._fitted()
        ratings = arrays.get("ratings")
        return [
            Fact(
                kind="review",
                values={} if ratings is None else {"rating": float(ratings[number])},
                passage=packed_text("texts", arrays, number),
                source="reviews",
            )
            for number in np.asarray(references).tolist()
        ]

    def vectors(self, references: IntArray) -> FloatArray:
        arrays = self._fitted()
        if self._latents is None:
            if self._base is None:
                raise StageError(f"{NAME} is attached to nothing", hint="Call fit or attach first.")
            self._latents = as_array(self._base.item_vectors())
        items = np.searchsorted(arrays["first"], np.asarray(references), side="right") - 1
        found: FloatArray = self._latents[items]
        return found

    def get_state(self) -> State:
        return dict(self._arrays)

    def load_state(self, state: State) -> None:
        self._arrays = {name: np.asarray(values) for name, values in state.items()}

    def _fitted(self) -> dict[str, NDArray[Any]]:
        if not self._arrays:
            raise StageError(f"{NAME} is not fitted", hint="Call fit or load_state first.")
        return self._arrays
