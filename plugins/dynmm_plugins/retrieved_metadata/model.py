"""Retrieval of passages from the data set's own texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer

from dynmm_framework.data.reviews import require_reviews
from dynmm_framework.errors import StageError
from dynmm_framework.explain.passages import pack_texts, packed_text, quotable, unpack_texts
from dynmm_framework.explain.records import EvidenceTable, Fact
from dynmm_framework.language.titles import titles_of
from dynmm_framework.latents.inputs import as_array
from dynmm_plugins.retrieved_metadata.config import RetrievedMetadataConfig
from dynmm_plugins.retrieved_metadata.scorer import bm25_weights, idf

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context, FloatArray, IntArray, Retriever, State

NAME = "retrieved_metadata"
REVIEWS = "reviews"
"""Source of passages that people wrote."""
WORDS = 5
"""A passage with so many of a query's most telling words has the full score."""
FEW = 20
"""Fewer passages than this are too few to tell a common word from a rare one."""


class RetrievedMetadata:
    """Quotes the sentence of a candidate's texts that is nearest to what its user had lately.

    Retrieval-augmented evidence as LLM4Rec describes it: from the data set's own descriptions, and
    its reviews if asked for. The query is made of the most telling words (TF-IDF) of the user's
    newest items, weighted by recency; passages are ranked by BM25 (Robertson et al., "Okapi at
    TREC-3", 1994), each within its own item. A passage is a sentence, verbatim, of at most 300
    characters; what :mod:`dynmm_framework.explain.passages` finds to hold personal data, or orders
    to a model, is never one.

    A candidate's own words are no part of the query, even if the candidate stands in the history;
    what people wrote of an item that the user has is not quoted, as the user may have written it.
    A user without history asks for nothing and is given nothing.

    Scores are shares of what the five most telling words of the query could give. The vector of a
    passage is the mean of its words' vectors by their weights, a word's being the mean latent
    of the items that it tells of.

    Learning is O(words of all texts); memory O(passages' words + items · words + words · d). A user
    costs the words of the candidates' passages.
    """

    def __init__(self, config: RetrievedMetadataConfig) -> None:
        self.config = config
        self._arrays: dict[str, NDArray[Any]] = {}
        self._sources: list[str] = []
        self._passages: Any = None  # (n_passages, n_words)
        self._items: Any = None  # (n_items, n_words)

    def fit(self, data: TrainingData, base: Retriever, ctx: Context) -> None:
        texts, owners, sources, names = self._find(data, ctx)
        counter = CountVectorizer(
            stop_words="english",
            token_pattern=r"(?u)\b[^\W\d_]{3,}\b",  # noqa: S106 - of words
            dtype=np.int32,
        )
        try:
            counts = counter.fit_transform(texts).tocsr()
        except ValueError as error:  # no word is left, which the library calls an error
            if "empty vocabulary" not in str(error):
                raise
            counts, counter = sp.csr_matrix((len(texts), 1), dtype=np.int32), None
        if len(texts) >= FEW:
            common = np.bincount(counts.indices, minlength=counts.shape[1])
            counts.data[common[counts.indices] > self.config.largest_share * len(texts)] = 0
            counts.eliminate_zeros()
        weights = bm25_weights(counts, k1=self.config.k1, b=self.config.b)
        items = self._telling(data.items, counter, counts.shape[1])
        latents = as_array(base.item_vectors())
        told = items.multiply(1 / np.maximum(np.asarray(items.sum(axis=0)), 1e-12)).tocsr()
        self._arrays = {
            "first": np.searchsorted(owners, np.arange(data.n_items + 1)).astype(np.int64),
            "source": sources,
            "bound": idf(counts) * np.float32(self.config.k1 + 1),
            "words": np.asarray(told.T @ latents, np.float32),
            **_arrays("passages", weights),
            **_arrays("items", items),
            **pack_texts("texts", texts),
        }
        self._sources = names
        self._passages, self._items = weights, items
        bare = int((np.diff(self._arrays["first"]) == 0).sum())
        ctx.record(
            "evidence", {"items": data.n_items, "passages": len(texts), "without_passages": bare}
        )

    def attach(self, base: Retriever) -> None:
        """Needs nothing of what recommends: the dictionary holds all that is looked up."""

    def extract(self, histories: Histories, candidates: IntArray) -> EvidenceTable:
        self._fitted()
        found = [
            self._row(row, histories[row], candidates[row])
            for row in range(len(histories))
            if histories.lengths[row]
        ]
        if not found:
            return EvidenceTable.empty()
        return EvidenceTable.of(*(np.concatenate(column) for column in zip(*found, strict=True)))

    def facts(self, references: IntArray) -> list[Fact]:
        arrays = self._fitted()
        found = []
        for number in np.asarray(references).tolist():
            source = self._sources[int(arrays["source"][number])]
            found.append(
                Fact(
                    kind="review" if source == REVIEWS else "passage",
                    passage=packed_text("texts", arrays, number),
                    source=source,
                )
            )
        return found

    def vectors(self, references: IntArray) -> FloatArray:
        arrays = self._fitted()
        weights = self._passages[np.asarray(references)]
        total = np.maximum(np.asarray(weights.sum(axis=1)), 1e-12)
        found: FloatArray = np.asarray((weights @ arrays["words"]) / total, np.float32)
        return found

    def get_state(self) -> State:
        return {**self._arrays, **pack_texts("sources", self._sources)} if self._arrays else {}

    def load_state(self, state: State) -> None:
        self._arrays, self._sources = {}, []
        self._passages = self._items = None
        if not state:
            return
        self._arrays = {k: np.asarray(v) for k, v in state.items() if not k.startswith("sources.")}
        self._sources = unpack_texts("sources", state)
        width = len(self._arrays["bound"])
        self._passages = _matrix("passages", self._arrays, width)
        self._items = _matrix("items", self._arrays, width)

    def _fitted(self) -> dict[str, NDArray[Any]]:
        if not self._arrays:
            raise StageError(f"{NAME} is not fitted", hint="Call fit or load_state first.")
        return self._arrays

    def _find(
        self, data: TrainingData, ctx: Context
    ) -> tuple[list[str], NDArray[np.int64], NDArray[np.int16], list[str]]:
        """Returns the passages by item, their items, and numbers and names of their sources.

        Raises:
            StageError: If a column is missing, or there is nothing to quote.
        """
        config, there = self.config, data.items.column_names
        columns = config.columns
        if columns is None:
            columns = [column for column in ("text",) if column in there]
        if missing := [column for column in columns if column not in there]:
            raise StageError(
                f"stage {ctx.stage}: {NAME} quotes columns that the items do not have: "
                f"{', '.join(missing)}",
                hint=f"The item table has {', '.join(there)}; name some of them in columns.",
            )
        if not columns and not config.reviews:
            raise StageError(
                f"stage {ctx.stage}: {NAME} has nothing to quote: the items have no text",
                hint=f"The item table has {', '.join(there)}; name some of them in columns, or "
                "quote reviews.",
            )
        passages: list[list[tuple[str, int]]] = [[] for _ in range(data.n_items)]
        titles = titles_of(data.items)
        for source, column in enumerate(columns):
            for item, text in enumerate(data.items.column(column).cast(pa.string()).to_pylist()):
                described = _without_title(text, titles[item])
                for found in quotable(described, people=False)[: config.passages]:
                    passages[item].append((found, source))
        if config.reviews:
            room = np.full(data.n_items, config.passages)
            texts = require_reviews(data.train, owner=NAME)
            for item, text in zip(data.train.items.tolist(), texts.to_pylist(), strict=True):
                found_there = quotable(text) if room[item] else []
                for found in found_there[: room[item]]:
                    passages[item].append((found, len(columns)))
                    room[item] -= 1
        counts = [len(dict.fromkeys(found)) for found in passages]
        every = [entry for found in passages for entry in dict.fromkeys(found)]
        return (
            [text for text, _ in every],
            np.repeat(np.arange(data.n_items), counts),
            np.array([source for _, source in every], np.int16),
            [*columns, REVIEWS],
        )

    def _telling(
        self, items: pa.Table, counter: CountVectorizer | None, width: int
    ) -> sp.csr_matrix:
        """Returns the most telling words of each item, of length 1 together, ``(n_items, V)``."""
        if counter is None:
            return sp.csr_matrix((items.num_rows, width), dtype=np.float32)
        columns = [column for column in self.config.query if column in items.column_names]
        texts = [""] * items.num_rows
        for column in columns:
            for item, value in enumerate(items.column(column).to_pylist()):
                words = value if isinstance(value, list) else [value]
                texts[item] += " " + " ".join(str(word) for word in words if word is not None)
        counts = counter.transform(texts).astype(np.float32).tocsr()
        counts.data = (1 + np.log(counts.data)) * idf(counts)[counts.indices]
        rows = [_largest(counts[row], self.config.words) for row in range(counts.shape[0])]
        chosen = sp.vstack(rows, format="csr") if rows else counts
        lengths = np.sqrt(np.asarray(chosen.multiply(chosen).sum(axis=1)))
        return sp.csr_matrix(chosen.multiply(1 / np.maximum(lengths, 1e-12)), dtype=np.float32)

    def _row(
        self, row: int, history: IntArray, candidates: IntArray
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Returns the records of one user."""
        arrays, config = self._arrays, self.config
        newest = np.array(list(dict.fromkeys(history[::-1].tolist()))[: config.history])
        weights = np.float32(config.decay) ** np.arange(len(newest), dtype=np.float32)
        recent = self._items[newest]
        query, bound = self._query(recent, weights)
        known = np.isin(candidates, history)
        first, last, counts = _ranges(arrays["first"], candidates)
        passages = _runs(first, last)
        columns = np.repeat(np.arange(len(candidates)), counts)
        scores = self._score(passages, query) / bound
        for column in np.flatnonzero(known & (counts > 0)).tolist():
            others = np.where(newest == candidates[column], 0, weights)
            mine = columns == column
            own, limit = self._query(recent, others.astype(np.float32))
            scores[mine] = self._score(passages[mine], own) / limit
            written = arrays["source"][passages[mine]] == len(self._sources) - 1
            scores[mine] = np.where(written, 0, scores[mine])
        order = np.lexsort((passages, -scores, columns))
        place = np.arange(len(order)) - (np.cumsum(counts) - counts)[columns[order]]
        best = order[(place < config.k) & (scores[order] > 0)]
        chosen, of_column = passages[best], columns[best]
        shared = (self._passages[chosen] @ recent.T).toarray() > 0
        shared &= newest != candidates[of_column][:, None]
        return (
            np.full(len(best), row),
            of_column,
            chosen,
            np.clip(scores[best], 0, 1),
            shared.sum(axis=1),
        )

    def _query(self, recent: sp.csr_matrix, weights: FloatArray) -> tuple[FloatArray, float]:
        """Returns the weights of a query's words, ``(n_words,)``, and what counts as full score.

        A word counts once more for each further item that has it: what several of a user's items
        are about says more of the user than what is said of one.
        """
        counted = weights[np.repeat(np.arange(len(weights)), np.diff(recent.indptr))] > 0
        times = np.bincount(recent.indices[counted], minlength=recent.shape[1])
        query: FloatArray = (recent.T @ weights * times).astype(np.float32)
        words = np.flatnonzero(query)
        most = np.sort(query[words] * self._arrays["bound"][words])[-WORDS:]
        return query, max(float(most.sum()), 1e-12)

    def _score(self, passages: NDArray[np.int64], query: FloatArray) -> NDArray[np.float64]:
        """Returns the scores of passages, ``(len(passages),)``."""
        matrix = self._passages
        starts, ends = matrix.indptr[passages], matrix.indptr[passages + 1]
        entries = _runs(starts, ends)
        of_passage = np.repeat(np.arange(len(passages)), ends - starts)
        values = matrix.data[entries] * query[matrix.indices[entries]]
        return np.bincount(of_passage, weights=values, minlength=len(passages))


def _ranges(
    first: NDArray[np.int64], items: IntArray
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns where the passages of items begin and end, and how many there are."""
    places = np.maximum(items, 0)
    starts, ends = first[places], first[places + 1]
    ends = np.where(items >= 0, ends, starts)
    return starts, ends, ends - starts


def _runs(starts: NDArray[Any], ends: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the numbers from each start to below its end, one run after another."""
    lengths = (ends - starts).astype(np.int64)
    offsets = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - offsets, lengths)


def _without_title(text: str | None, title: str) -> str | None:
    """Returns a description without the title in front of it, where data sets have put one."""
    if not text or not title or not text.startswith(title):
        return text
    rest = text[len(title) :]
    # "Babe is a film" goes on in small letters: there the title is the sentence's own.
    return rest.lstrip() if rest[:1].isspace() and rest.lstrip()[:1].isupper() else text


def _largest(row: sp.csr_matrix, limit: int) -> sp.csr_matrix:
    """Returns a row with its largest entries alone."""
    if row.nnz > limit:
        keep = np.sort(np.argsort(-row.data, kind="stable")[:limit])
        indptr = np.array([0, limit])
        row = sp.csr_matrix((row.data[keep], row.indices[keep], indptr), shape=row.shape)
    return row


def _arrays(name: str, matrix: sp.csr_matrix) -> dict[str, NDArray[Any]]:
    return {
        f"{name}.values": matrix.data.astype(np.float32),
        f"{name}.columns": matrix.indices.astype(np.int32),
        f"{name}.offsets": matrix.indptr.astype(np.int64),
    }


def _matrix(name: str, arrays: State, width: int) -> sp.csr_matrix:
    offsets = arrays[f"{name}.offsets"]
    parts: Sequence[Any] = (arrays[f"{name}.values"], arrays[f"{name}.columns"], offsets)
    return sp.csr_matrix(tuple(parts), shape=(len(offsets) - 1, width))
