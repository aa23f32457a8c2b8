"""What has been chosen lately, and what follows what: priors that are added to scores.

Both forget at one half-life, counted in events, and cost O(events) a window. They stay outside of
the adapter's loss and are added to the scores that it serves (late fusion).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events
from dynmm_framework.online.pairs import FAINT, DensePairs, SparsePairs
from dynmm_framework.protocols import FloatArray, State


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


@dataclass(frozen=True, eq=False)
class LongTermPriors:
    """Priors that have hardly faded, for those who have long been away.

    Of a user whose newest event lies ``away`` events back, their share is max(0, 1 - ``half_life``
    / ``away``): nothing within a half-life of the short-term priors, nearly all after many.

    Attributes:
        half_life: Half-life, in events, of short-term popularity.
        popularity: log(events + 1) of all items by the long-term half-life, ``(n_items,)``.
        transitions: Transitions, likewise.
    """

    half_life: float
    popularity: FloatArray
    transitions: DecayedTransitions

    def share(self, away: NDArray[np.int64]) -> FloatArray:
        """Returns their share for users who have been away for so many events, ``(n,)`` float32."""
        share: FloatArray = (1 - self.half_life / np.maximum(away, self.half_life)).astype(
            np.float32
        )
        return share


class DecayedTransitions:
    """How often an item followed another in a user's history, the longer ago the less.

    Of a small catalogue pairs are kept in one dense matrix, whose rows are summed far faster than
    sparse ones once transitions are many. Of a larger one they are kept in two sparse matrices, a
    large one and what came since, which is merged into it when it has grown to an eighth: O(events)
    a window on average. Pairs that have faded below :data:`FAINT`, and of more than ``most`` the
    smallest, are then forgotten, so neither memory nor time grows with the stream.

    Args:
        n_items: Items of the catalogue.
        half_life: Events of the stream.
        last: Items of a history from which the next one follows, in scoring and in learning.
        fading: Factor from each of them to the one before it.
        both: Count what came before as well as what followed.
        most: Pairs that are kept; with four times as many cells, or fewer, the matrix is dense.
    """

    def __init__(
        self,
        n_items: int,
        *,
        half_life: float,
        last: int = 5,
        fading: float = 0.8,
        both: bool = False,
        most: int = 4_000_000,
    ) -> None:
        self.n_items, self.half_life = n_items, half_life
        self.last, self.fading, self.both = last, fading, both
        self._scale = 1.0  # stored values times this are the decayed ones
        self._pairs: DensePairs | SparsePairs
        if n_items**2 <= 4 * most:
            self._pairs = DensePairs(n_items)
        else:
            self._pairs = SparsePairs(n_items, most)

    def learn(self, events: Events, before: Histories) -> None:
        """Takes a finished window.

        Args:
            events: ``n`` events.
            before: The user's history before each, ``(n,)``.
        """
        self._scale *= 0.5 ** (len(events) / self.half_life)
        if self._scale < self._pairs.least:
            self._pairs.fade(self._scale)
            self._scale = 1.0
        newest = before.last(self.last)
        weights = self._weights(newest) / self._scale
        earlier, later = newest.items, np.repeat(events.items, newest.lengths)
        if self.both:
            earlier, later = np.append(earlier, later), np.append(later, earlier)
            weights = np.tile(weights, 2)
        self._pairs.add(earlier, later, weights, faint=FAINT / self._scale)

    def counts(self, histories: Histories, *, scale: FloatArray | None = None) -> FloatArray:
        """Returns how often each item followed the newest of each history.

        Args:
            histories: ``n`` histories.
            scale: Factor of every item of a history, ``(n_items,)``; 1 if ``None``.

        Returns:
            ``(len(histories), n_items)`` float32, decayed; zeros for an empty history.
        """
        newest, weights = self._asked(histories)
        if scale is not None:
            weights = weights * scale[newest.items]
        return self._pairs.counts(newest, weights)

    def log(self, histories: Histories) -> FloatArray:
        """Returns the logarithms of the counts plus one, ``(len(histories), n_items)``."""
        return self._pairs.log(*self._asked(histories))

    def frozen(self) -> DecayedTransitions:
        """Returns the same as of now, whatever is learned afterwards."""
        twin = copy.copy(self)
        twin._pairs = self._pairs.frozen()
        return twin

    def get_state(self) -> State:
        main = self._pairs.matrix(faint=FAINT / self._scale)
        return {
            "offsets": np.asarray(main.indptr, np.int64),
            "items": np.asarray(main.indices, np.int32),
            "values": main.data,
            "scale": np.asarray(self._scale),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        import scipy.sparse as sp

        shape = (self.n_items, self.n_items)
        parts = (state["values"], state["items"], state["offsets"])
        self._pairs.load(sp.csr_matrix(parts, shape=shape))
        self._scale = float(state["scale"])

    def _asked(self, histories: Histories) -> tuple[Histories, FloatArray]:
        newest = histories.last(self.last)
        return newest, self._weights(newest) * np.float32(self._scale)

    def _weights(self, newest: Histories) -> FloatArray:
        """Returns the weight of each item of histories, 1 for the newest."""
        age = newest.offsets[1:][newest.rows] - 1 - np.arange(len(newest.items))
        powers = np.float32(self.fading) ** np.arange(self.last)
        weights: FloatArray = powers.astype(np.float32)[age]
        return weights
