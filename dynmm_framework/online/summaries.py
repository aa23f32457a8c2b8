"""Sliding summaries of items: what recent windows say, updated in O(events of the window)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.windows import Events, Window
from dynmm_framework.online.lesson import Summary
from dynmm_framework.protocols import FloatArray, IntArray, State

if TYPE_CHECKING:
    import scipy.sparse as sp

SPANS: Final = (1, 6, 24)
"""Windows over which events are counted: W, 6W and 24W."""
NAMES: Final = (
    "log count W",
    "log count 6W",
    "log count 24W",
    "log count",
    "log growth W / 6W",
    "log growth 6W / 24W",
    "log share 24W / share",
    "log users 24W",
    "log events since the last",
    "log age",
    "rare in training",
    "share of W",
)
"""Features of an item before the mean vector of the items chosen with it.

Counts are log1p of events in the last, the last 6, the last 24 windows, and of all. Growth is the
count in W over a sixth of that in 6W, and of 6W over a quarter of 24W, each plus one. The share
compares an item's part of the events of 24W with its part of all. Users are distinct within each
window, summed over 24. Time since the last event, and age since the first, are counted in events
of the whole stream. Rare items have fewer than 5 training events.
"""
RARE: Final = 5
LIMIT: Final = 5.0
"""Standardised features are clipped to ± this."""
FADING: Final = 0.9
"""Factor, a window, of what is remembered of the items chosen together with an item."""


class RunningStandard:
    """Mean and deviation of features over all rows seen so far (Chan's update of moments).

    Args:
        width: Number of features.
    """

    def __init__(self, width: int) -> None:
        self.n = 0.0
        self.mean = np.zeros(width)
        self.square = np.zeros(width)  # sum of squared deviations

    def update(self, rows: NDArray[Any]) -> None:
        """Takes rows ``(n, width)``."""
        n = len(rows)
        if not n:
            return
        rows = rows.astype(np.float64)
        mean = rows.mean(axis=0)
        shift, total = mean - self.mean, self.n + n
        self.square += ((rows - mean) ** 2).sum(axis=0) + shift**2 * self.n * n / total
        self.mean = self.mean + shift * (n / total)
        self.n = total

    def __call__(self, rows: NDArray[Any]) -> FloatArray:
        """Standardises rows and clips them to ± :data:`LIMIT`."""
        deviation = np.sqrt(self.square / max(self.n, 1))
        scaled = (rows - self.mean) / np.where(deviation > 1e-8, deviation, 1.0)
        return np.clip(scaled, -LIMIT, LIMIT).astype(np.float32)


class ItemSummaries:
    """Counts, growth, recency and company of every item over sliding windows.

    An update costs O(events · d), a summary O(items active in 24 windows · d); memory is O(items ·
    d), however long the stream.

    Args:
        vectors: The frozen vectors of all items, ``(n_items, d)``.
        trained: Training events of each item, ``(n_items,)``.
    """

    def __init__(self, vectors: FloatArray, trained: NDArray[np.int64]) -> None:
        n, d = vectors.shape
        self.vectors, self.trained = vectors, trained
        self.counts = np.zeros((len(SPANS), n), np.int64)
        self.totals = np.zeros(len(SPANS), np.int64)  # events in W, 6W, 24W
        self.users = np.zeros(n, np.int64)
        self.all = np.zeros(n, np.int64)
        self.events = 0
        self.now = 0  # number of the window that would come next, gaps included
        self.first = np.full(n, -1, np.int64)
        self.last = np.full(n, -1, np.int64)
        self.company = np.zeros((n, d), np.float32)
        self.weight = np.zeros(n, np.float32)
        self.touched = np.zeros(n, np.int64)  # window in which company was updated
        self.standard = RunningStandard(len(NAMES) + d)
        self._ring: deque[_Past] = deque()

    @property
    def n_features(self) -> int:
        return len(NAMES) + int(self.vectors.shape[1])

    def remember(self, events: Events) -> None:
        """Counts events from before the windows begin, for totals, age and recency only."""
        items = events.items
        self.all += np.bincount(items, minlength=len(self.all))
        places = np.arange(self.events, self.events + len(items))
        self._date(items, places)
        self.events += len(items)

    def advance(self, window: Window) -> None:
        """Takes a finished window: it becomes W, and what was W moves on."""
        import scipy.sparse as sp

        self.now += window.gap
        events = window.events
        items, column = _numbered(events.items)
        users, row = _numbered(events.users)
        ones = np.ones(len(events), np.float32)
        chosen = sp.csr_matrix((ones, (row, column)), shape=(len(users), len(items)))
        counts = np.bincount(column, minlength=len(items))
        distinct = np.bincount(chosen.indices, minlength=len(items))  # pairs stand there once
        past = _Past(self.now, items, counts, distinct, len(events))
        self._ring.append(past)
        self.counts[:, items] += counts
        self.users[items] += past.users
        self.totals += len(events)
        self.all[items] += counts
        self._date(events.items, np.arange(self.events, self.events + len(events)))
        self.events += len(events)
        self.now += 1
        self._expire()
        self._accompany(chosen, items)
        # Statistics follow the items of the window: what has just happened is what is summarised.
        self.standard.update(self._raw(items))

    def summary(self, *, span: int = 24) -> Summary:
        """Returns the standardised features of the items of the last 24 windows, or of fewer.

        Args:
            span: Windows: 1, 6 or 24.
        """
        active = np.flatnonzero(self.counts[SPANS.index(span)]).astype(np.int32)
        features = self.standard(self._raw(active))
        return Summary(active, features, self.counts[0, active] > 0)

    def get_state(self) -> State:
        ring = [*self._ring]
        joined = {
            f"ring_{name}": np.concatenate(
                [np.empty(0, np.int64), *(getattr(past, name) for past in ring)]
            )
            for name in ("items", "counts", "users")
        }
        heads = [(past.number, past.events, len(past.items)) for past in ring]
        return {
            **{name: getattr(self, name) for name in _ARRAYS},
            **joined,
            "ring_heads": np.asarray(heads, np.int64).reshape(-1, 3),
            "numbers": np.asarray([self.events, self.now], np.int64),
            "standard_n": np.asarray(self.standard.n),
            "standard_mean": self.standard.mean,
            "standard_square": self.standard.square,
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        for name in _ARRAYS:
            setattr(self, name, np.array(state[name]))
        self.events, self.now = map(int, state["numbers"])
        self.standard.n = float(state["standard_n"])
        self.standard.mean = np.array(state["standard_mean"])
        self.standard.square = np.array(state["standard_square"])
        self._ring.clear()
        start = 0
        for number, events, length in state["ring_heads"].tolist():
            part = slice(start, start + length)
            start += length
            kept, counts, users = (np.array(state[f"ring_{name}"][part]) for name in _COLUMNS)
            past = _Past(number, kept, counts, users, events)
            past.left = sum(number <= self.now - 1 - span for span in SPANS)
            self._ring.append(past)

    def _date(self, items: NDArray[Any], places: NDArray[np.int64]) -> None:
        self.last[items] = places  # NumPy keeps the last of equal indices
        unseen = self.first[items] < 0
        self.first[items[unseen][::-1]] = places[unseen][::-1]

    def _expire(self) -> None:
        """Takes windows out of the spans that they have left."""
        for row, span in enumerate(SPANS):
            for past in self._ring:
                if past.number > self.now - 1 - span:
                    break
                if past.left <= row:
                    past.left = row + 1
                    self.counts[row, past.items] -= past.counts
                    self.totals[row] -= past.events
                    if span == SPANS[-1]:
                        self.users[past.items] -= past.users
        while self._ring and self._ring[0].left == len(SPANS):
            self._ring.popleft()

    def _accompany(self, chosen: sp.csr_matrix, items: NDArray[Any]) -> None:
        """Adds, for each item, the vectors of what its users chose besides in the window.

        Args:
            chosen: How often each user of the window chose each of its items.
            items: The items of the columns.
        """
        events = np.asarray(chosen.sum(axis=1), np.float32).ravel()  # of each user
        others = np.maximum(events - 1, 1)
        has_others = (events > 1).astype(np.float32)
        vectors = self.vectors[items]
        sums = (chosen @ vectors) / others[:, None] * has_others[:, None]
        weights = chosen.T @ (has_others / others)  # how much of an item's own is in its sums
        company = chosen.T @ sums - weights[:, None] * vectors
        fading = np.float32(FADING) ** (self.now - self.touched[items]).astype(np.float32)
        self.company[items] = self.company[items] * fading[:, None] + company
        self.weight[items] = self.weight[items] * fading + chosen.T @ has_others
        self.touched[items] = self.now

    def _raw(self, items: NDArray[Any]) -> NDArray[np.float64]:
        """Returns the features of items before standardisation, ``(len(items), n_features)``."""
        recent = self.counts[:, items].astype(np.float64)  # (3, n)
        every = self.all[items].astype(np.float64)
        n = len(self.all)
        share = np.log((recent[2] + 1) / (self.totals[2] + n))
        columns = [
            *np.log1p(recent),
            np.log1p(every),
            np.log((recent[0] + 1) / (recent[1] / 6 + 1)),
            np.log((recent[1] + 1) / (recent[2] / 4 + 1)),
            share - np.log((every + 1) / (self.events + n)),
            np.log1p(self.users[items]),
            np.log1p(self.events - self.last[items]),
            np.log1p(self.events - self.first[items]),
            self.trained[items] < RARE,
            recent[0] / max(int(self.totals[0]), 1),
        ]
        company = self.company[items] / np.maximum(self.weight[items], 1e-6)[:, None]
        return np.hstack([np.stack(columns, axis=1), company])


def _numbered(values: IntArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the distinct values, ascending, and the place of each value among them.

    As ``np.unique``, without sorting where the values are dense.
    """
    largest = int(values.max(initial=-1))
    if largest > 16 * len(values) + 1024:
        distinct, places = np.unique(values, return_inverse=True)
        return distinct.astype(np.int64), places
    there = np.zeros(largest + 1, np.bool_)
    there[values] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[values]


_COLUMNS = ("items", "counts", "users")
_ARRAYS = (
    "counts", "totals", "users", "all", "first", "last", "company", "weight", "touched",
)  # fmt: skip


class _Past:
    """A window in the ring: its items, and how many spans it has left already."""

    def __init__(
        self,
        number: int,
        items: NDArray[Any],
        counts: NDArray[np.int64],
        users: NDArray[np.int64],
        events: int,
    ) -> None:
        self.number, self.items, self.counts, self.users = number, items, counts, users
        self.events, self.left = events, 0
