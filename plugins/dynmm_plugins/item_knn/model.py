"""Item-based collaborative filtering on sparse matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from dynmm_framework.errors import StageError
from dynmm_plugins.item_knn.config import ItemKNNConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dynmm_framework.data.tables import Histories, Interactions, TrainingData
    from dynmm_framework.protocols import Context, FloatArray, IntArray, State

BLOCK_ENTRIES = 16_000_000
"""Bound on the entries of one block of the similarity matrix before pruning (about 200 MB)."""


class ItemKNN:
    """Scores an item by the sum of its similarities to the items of the history.

    Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001. The
    similarity is the cosine of two columns of the binary user-item matrix; each scored item
    keeps its ``neighbours`` most similar items (ties by item id).

    Differences from the paper: implicit feedback, so the score is the plain sum of similarities
    and not a weighted mean of ratings (which would be constant); shrinkage; optional weights by
    recency. An item that stands several times in a history counts once, where it is newest. An
    item without training interactions has no neighbours: it neither adds to a score nor gets
    one. An empty history scores zero everywhere.

    Training is O(Σ_u |history_u|²) in time; memory is O(n_items · neighbours) plus one block.
    Scoring is a sparse product, O(batch · n_items) in memory for its result.
    """

    def __init__(self, config: ItemKNNConfig) -> None:
        self.config = config
        self._similarity: sp.csr_matrix | None = None  # (history item, scored item)

    def fit(self, data: TrainingData, ctx: Context) -> None:
        chosen = _binary(data.train)
        by_item = chosen.T.tocsr()  # (n_items, n_users)
        counts = np.diff(by_item.indptr).astype(np.float32)
        # No row of the similarity matrix has more entries than its products, or than items.
        products = by_item @ np.diff(chosen.indptr).astype(np.float64)
        entries = np.cumsum(np.minimum(products, data.n_items))
        blocks: list[sp.csr_matrix] = []
        start = 0
        with ctx.progress("item similarities", data.n_items) as advance:
            while start < data.n_items:
                done = entries[start - 1] if start else 0.0
                stop = int(np.searchsorted(entries, done + BLOCK_ENTRIES, side="right"))
                stop = min(max(stop, start + 1), data.n_items)
                common = (by_item[start:stop] @ chosen).tocsr()
                blocks.append(self._neighbours(common, counts, start))
                advance(stop - start)
                start = stop
        self._similarity = sp.vstack(blocks, format="csr").T.tocsr()
        self._similarity.sort_indices()

    def score(self, histories: Histories, candidates: IntArray | None = None) -> FloatArray:
        if self._similarity is None:
            raise StageError("Item-kNN is not fitted", hint="Call fit or load_state first.")
        scores: FloatArray = (self._weights(histories) @ self._similarity).toarray()
        return scores if candidates is None else np.take_along_axis(scores, candidates, axis=1)

    def get_state(self) -> State:
        if self._similarity is None:
            return {}
        return {
            "offsets": np.asarray(self._similarity.indptr, dtype=np.int64),
            "items": np.asarray(self._similarity.indices, dtype=np.int32),
            "similarities": self._similarity.data,
        }

    def load_state(self, state: State) -> None:
        if not state:
            self._similarity = None
            return
        n_items = len(state["offsets"]) - 1
        self._similarity = sp.csr_matrix(
            (state["similarities"], state["items"], state["offsets"]), shape=(n_items, n_items)
        )

    def _neighbours(self, common: sp.csr_matrix, counts: FloatArray, start: int) -> sp.csr_matrix:
        """Turns counts of common users, ``(block, n_items)``, into pruned similarities."""
        common.sort_indices()
        rows = np.repeat(np.arange(common.shape[0]), np.diff(common.indptr))
        norms = np.sqrt(counts)
        shrunk = norms[rows + start] * norms[common.indices] + np.float32(self.config.shrinkage)
        common.data = (common.data / shrunk).astype(np.float32)
        common.data[common.indices == rows + start] = 0  # an item is not its own neighbour
        common.eliminate_zeros()
        return _largest(common, self.config.neighbours)

    def _weights(self, histories: Histories) -> sp.csr_matrix:
        """Returns the weight of every item in every history, ``(batch, n_items)``."""
        if self.config.last is not None:
            histories = histories.last(self.config.last)
        rows, items = histories.rows, histories.items.astype(np.int64)
        age = histories.offsets[rows + 1] - 1 - np.arange(len(items))  # 0 is the newest
        weights = np.power(self.config.decay, age).astype(np.float32)
        # Oldest first and a stable sort: the last of equal keys is an item's newest position.
        keys = rows * histories.n_items + items
        order = np.argsort(keys, kind="stable")
        newest = order[np.diff(keys[order], append=-1) != 0]
        return sp.csr_matrix(
            (weights[newest], (rows[newest], items[newest])),
            shape=(len(histories), histories.n_items),
        )


def _binary(train: Interactions) -> sp.csr_matrix:
    """Returns who chose what, ``(n_users, n_items)``, each pair once."""
    matrix = sp.csr_matrix(
        (np.ones(len(train), np.float32), (train.users, train.items)),
        shape=(train.n_users, train.n_items),
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _largest(matrix: sp.csr_matrix, k: int) -> sp.csr_matrix:
    """Keeps the ``k`` largest entries of each row, of equal ones those with the lowest column.

    Entries are positive float32, whose bit patterns order like the numbers: one integer key per
    entry sorts all rows at once.
    """
    lengths = np.diff(matrix.indptr)
    if lengths.max(initial=0) <= k:
        return matrix
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.uint64), lengths)
    bits = np.uint64(0xFFFFFFFF) - matrix.data.view(np.uint32).astype(np.uint64)
    keys = (rows << np.uint64(32)) | bits  # ascending: by row, then from the largest value
    long_rows = np.flatnonzero(lengths > k)
    in_long = np.repeat(lengths > k, lengths)
    ends = np.cumsum(lengths[long_rows])
    limits = np.full(matrix.shape[0], np.iinfo(np.uint64).max)
    limits[long_rows] = np.sort(keys[in_long])[ends - lengths[long_rows] + k - 1]
    limit = np.repeat(limits, lengths)
    keep = keys < limit
    tied = np.flatnonzero(keys == limit)
    tied_rows = rows[tied].astype(np.int64)
    room = k - _count(rows[keep & in_long], matrix.shape[0])  # places left for ties, by row
    ties = _count(tied_rows, matrix.shape[0])
    number = np.arange(len(tied)) - (np.cumsum(ties) - ties)[tied_rows]
    keep[tied[number < room[tied_rows]]] = True
    offsets = np.concatenate([[0], np.cumsum(_count(rows[keep], matrix.shape[0]))])
    return sp.csr_matrix((matrix.data[keep], matrix.indices[keep], offsets), shape=matrix.shape)


def _count(rows: NDArray[Any], n: int) -> NDArray[np.int64]:
    return np.bincount(rows.astype(np.int64), minlength=n)
