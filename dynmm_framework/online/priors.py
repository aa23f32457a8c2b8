"""What has been chosen lately, and what follows what: priors that are added to scores.

Both forget at one half-life, counted in events, and cost O(events) a window. They stay outside of
the adapter's loss and are added to the scores that it serves (late fusion).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events
from dynmm_framework.protocols import FloatArray, State

if TYPE_CHECKING:
    import scipy.sparse as sp


FAINT: Final = 0.01
"""Decayed transitions that are forgotten: seen once, more than six half-lives ago."""


class DecayedPopularity:
    """Events of each item, the older the less: halved every ``half_life`` events.

    Args:
        n_items: Items of the catalogue.
        half_life: Events of the stream.
    """

    def __init__(self, n_items: int, *, half_life: float) -> None:
        self.half_life = half_life
        self.counts = np.zeros(n_items)

    def learn(self, events: Events) -> None:
        """Takes a finished window."""
        self.counts *= 0.5 ** (len(events) / self.half_life)
        self.counts += np.bincount(events.items, minlength=len(self.counts))

    def log(self) -> FloatArray:
        """Returns the logarithms of the counts plus one, ``(n_items,)``."""
        return np.log1p(self.counts).astype(np.float32)

    def get_state(self) -> State:
        return {"counts": self.counts}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.counts = np.array(state["counts"])


class DecayedTransitions:
    """How often an item followed another in a user's history, the longer ago the less.

    Pairs are kept in two sparse matrices, a large one and what came since, which is merged into it
    when it has grown to an eighth: O(events) a window on average. Pairs that have faded below
    :data:`FAINT`, and of more than ``most`` the smallest, are then forgotten, so neither memory nor
    time grows with the stream.

    Args:
        n_items: Items of the catalogue.
        half_life: Events of the stream.
        last: Items of a history from which the next one follows, in scoring and in learning.
        fading: Factor from each of them to the one before it.
        most: Pairs that are kept.
    """

    def __init__(
        self,
        n_items: int,
        *,
        half_life: float,
        last: int = 5,
        fading: float = 0.8,
        most: int = 4_000_000,
    ) -> None:
        import scipy.sparse as sp

        self.n_items, self.half_life = n_items, half_life
        self.last, self.fading, self.most = last, fading, most
        self._scale = 1.0  # stored values times this are the decayed ones
        self._main: sp.csr_matrix = sp.csr_matrix((n_items, n_items), dtype=np.float32)
        self._new: sp.csr_matrix = self._main.copy()

    def learn(self, events: Events, before: Histories) -> None:
        """Takes a finished window.

        Args:
            events: ``n`` events.
            before: The user's history before each, ``(n,)``.
        """
        self._scale *= 0.5 ** (len(events) / self.half_life)
        if self._scale < 1e-6:
            self._main, self._new = self._main * self._scale, self._new * self._scale
            self._scale = 1.0
        newest = before.last(self.last)
        weights = self._weights(newest) / self._scale
        pairs = (weights, (newest.items, np.repeat(events.items, newest.lengths)))
        self._new = self._new + _matrix(pairs, self._main.shape)
        if self._new.nnz * 8 > self._main.nnz:
            self._merge()

    def counts(
        self, histories: Histories, *, scale: FloatArray | None = None, both: bool = False
    ) -> FloatArray:
        """Returns how often each item followed the newest of each history.

        Args:
            histories: ``n`` histories.
            scale: Factor of every item of a history, ``(n_items,)``; 1 if ``None``.
            both: Count what they followed as well.

        Returns:
            ``(len(histories), n_items)`` float32, decayed; zeros for an empty history.
        """
        counts: FloatArray = self._found(histories.last(self.last), scale, both).toarray()
        return counts

    def log(self, histories: Histories) -> FloatArray:
        """Returns the logarithms of the counts plus one, ``(len(histories), n_items)``."""
        found = self._found(histories.last(self.last), None, False)
        found.data = np.log1p(found.data)  # of what was found; the log of one is zero
        logs: FloatArray = found.toarray()
        return logs

    # The same as a sparse matrix, of the newest items of histories.
    def _found(self, newest: Histories, scale: FloatArray | None, both: bool) -> sp.csr_matrix:
        weights = self._weights(newest) * np.float32(self._scale)
        if scale is not None:
            weights = weights * scale[newest.items]
        chosen = _matrix((weights, (newest.rows, newest.items)), (len(newest), self.n_items))
        found = (chosen @ self._main) + (chosen @ self._new)
        if both:
            found = found + (chosen @ self._main.T) + (chosen @ self._new.T)
        return found.tocsr()

    def get_state(self) -> State:
        self._merge()
        return {
            "offsets": np.asarray(self._main.indptr, np.int64),
            "items": np.asarray(self._main.indices, np.int32),
            "values": self._main.data,
            "scale": np.asarray(self._scale),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        import scipy.sparse as sp

        shape = (self.n_items, self.n_items)
        parts = (state["values"], state["items"], state["offsets"])
        self._main = sp.csr_matrix(parts, shape=shape)
        self._new = sp.csr_matrix(shape, dtype=np.float32)
        self._scale = float(state["scale"])

    def _weights(self, newest: Histories) -> FloatArray:
        """Returns the weight of each item of histories, 1 for the newest."""
        age = newest.offsets[1:][newest.rows] - 1 - np.arange(len(newest.items))
        weights: FloatArray = (np.float32(self.fading) ** age).astype(np.float32)
        return weights

    def _merge(self) -> None:
        import scipy.sparse as sp

        main = (self._main + self._new).tocsr()
        faint = main.data < FAINT / self._scale
        if faint.any():
            main.data[faint] = 0
            main.eliminate_zeros()
        if main.nnz > self.most:
            kept = self.most * 3 // 4
            limit = np.partition(main.data, main.nnz - kept)[main.nnz - kept]
            main.data[main.data < limit] = 0
            main.eliminate_zeros()
        main.sort_indices()
        self._main = main
        self._new = sp.csr_matrix(main.shape, dtype=np.float32)


def _matrix(pairs: tuple[Any, tuple[Any, Any]], shape: tuple[int, int]) -> sp.csr_matrix:
    import scipy.sparse as sp

    values, places = pairs
    return sp.csr_matrix((np.asarray(values, np.float32), places), shape=shape)
