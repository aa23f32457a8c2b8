"""Recent popularity of items, from a window that moves with the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.errors import StageError
from dynmm_framework.explain.records import EvidenceTable, Fact
from dynmm_framework.latents.inputs import as_array
from dynmm_plugins.trend.config import TrendConfig

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories, Interactions, TrainingData
    from dynmm_framework.protocols import Context, FloatArray, IntArray, Retriever, State

DAY = 86_400
"""Seconds of a day."""


class Trend:
    """Tells how many people chose an item lately, as LLM4Rec's contextual explanations do.

    The window is the newest ``days`` of the data, in training and after every :meth:`refresh`; a
    fact holds ``count``, the people who chose the item in it, and ``days``. Where the data reach
    back over the window before, it holds the people of that one, ``before``, and, if they were
    ``least`` or more, ``growth``, the quotient. Without dates a window is a number of interactions,
    ``of``, in place of days.

    The score is the share of the items chosen in the window that no more people chose: 1 for the
    most popular. An item that fewer than ``least`` people chose has no fact.

    All facts point the same way in the space of the items: from their mean towards the mean of
    what was chosen lately, as far as the score says.

    Complexity: looking up is one access; memory is the interactions of two windows and 16 bytes an
    item.

    Args:
        config: Settings.
    """

    def __init__(self, config: TrendConfig) -> None:
        self.config = config
        self._n_items = 0
        self._size = 0  # interactions of a window without dates
        self._begin = 0  # when the data begin
        self._users = np.empty(0, np.int32)
        self._items = np.empty(0, np.int32)
        self._times: NDArray[np.int64] | None = None
        self._direction: FloatArray = np.empty(0, np.float32)
        self._vectors: FloatArray | None = None
        self._measure()

    # Learning.

    def fit(self, data: TrainingData, base: Retriever, ctx: Context) -> None:
        train = data.train
        self._n_items = data.n_items
        self._users, self._items = np.empty(0, np.int32), np.empty(0, np.int32)
        self._size = max(1, round(self.config.share * len(train)))
        self._times = None if train.timestamps is None else np.empty(0, np.int64)
        if train.timestamps is not None and len(train):
            self._begin = int(train.timestamps.min())
        self._append(train if train.timestamps is not None else _by_place(train))
        self.attach(base)
        told = {
            "interactions": int(self._windows()[0].sum()),
            "items": int((self._scores > 0).sum()),
        }
        ctx.record("evidence", told)

    def refresh(self, recent: Interactions) -> None:
        """Moves the window on.

        Args:
            recent: What came after training, or after the last refresh, oldest first; users that
                are new have numbers of their own. Items that are new are left out.

        Raises:
            StageError: If the extractor is not fitted, or only one of the two has dates.
        """
        if not self._n_items:
            raise StageError("trend is not fitted", hint="Call fit or load_state first.")
        if (recent.timestamps is None) != (self._times is None):
            raise StageError(
                "trend was fitted on interactions with dates, and is refreshed with some without"
                if recent.timestamps is None
                else "trend was fitted on interactions without dates, and is refreshed with some"
                " that have dates",
                hint="Give both or neither.",
            )
        self._append(recent.take(recent.items < self._n_items))
        self._point()

    def _append(self, rows: Interactions) -> None:
        """Takes interactions, oldest first where they have no dates, and forgets old ones."""
        users = np.concatenate([self._users, rows.users])
        items = np.concatenate([self._items, rows.items])
        if self._times is None:
            kept = np.arange(max(0, len(items) - 2 * self._size), len(items))
        else:
            times = np.concatenate([self._times, np.asarray(rows.timestamps)])
            newest = int(times.max(initial=0))
            kept = np.flatnonzero(times > newest - 2 * self.config.days * DAY)
            kept = kept[np.lexsort((items[kept], users[kept], times[kept]))]
            self._times = times[kept]
        self._users, self._items = users[kept], items[kept]
        self._measure()

    def _measure(self) -> None:
        """Counts the people of both windows and scores the items."""
        window, earlier = self._windows()
        self._recent, self._before = self._people(window), self._people(earlier)
        chosen = np.sort(self._recent[self._recent > 0])
        more = len(chosen) - np.searchsorted(chosen, self._recent, side="right")
        share = more / max(len(chosen), 1)  # of the items that more people chose
        enough = (self._before >= self.config.least) & self._whole
        # The quotient of both windows; 0 where too few people chose an item before.
        self._growth = np.where(enough, self._recent / np.maximum(self._before, 1), 0)
        grown = self._growth >= self.config.growth
        told = (self._recent >= self.config.least) & ((share < self.config.top) | grown)
        self._scores = np.where(told, 1 - share, 0).astype(np.float32)

    def _windows(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tells which interactions are of the window, and which of the one before."""
        if self._times is None:
            new = np.arange(len(self._items)) >= len(self._items) - self._size
        else:
            newest = int(self._times.max(initial=0))
            new = self._times > newest - self.config.days * DAY
        return new, ~new

    @property
    def _whole(self) -> bool:
        """Whether the data reach back over the whole window before."""
        if self._times is None:
            return len(self._items) >= 2 * self._size
        newest = int(self._times.max(initial=0))
        return self._begin <= newest - 2 * self.config.days * DAY

    def _people(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Counts, for each item, the different people of some interactions, ``(n_items,)``."""
        pairs = self._items[chosen].astype(np.int64) << 32 | self._users[chosen]
        return np.bincount(np.unique(pairs) >> 32, minlength=self._n_items)

    # Looking up.

    def attach(self, base: Retriever) -> None:
        vectors = as_array(base.item_vectors())
        if len(vectors) != self._n_items:
            raise StageError(
                f"trend knows {self._n_items:,} items and is put on {len(vectors):,}",
                hint="Call fit or load_state first; what is restored goes on what it was fitted"
                " on.",
            )
        self._vectors = vectors
        self._point()

    def _point(self) -> None:
        """Finds the way from the mean of all items to that of what was chosen lately."""
        if self._vectors is None:
            return
        people = self._recent.astype(np.float64)
        weights = people / people.sum() - 1 / self._n_items if people.any() else people
        self._direction = (weights @ self._vectors).astype(np.float32)

    def extract(self, histories: Histories, candidates: IntArray) -> EvidenceTable:
        if not self._n_items:
            raise StageError("trend is not fitted", hint="Call fit or load_state first.")
        asked = candidates.astype(np.int64)
        scores = np.where(asked >= 0, self._scores[asked], 0)
        places = np.nonzero(scores)
        return EvidenceTable.of(*places, asked[places], scores[places])

    def facts(self, references: IntArray) -> Sequence[Fact]:
        dated = self._times is not None
        source = "interactions" if dated else "interactions, by order"
        out = []
        for item in references.tolist():
            values = {"count": float(self._recent[item])}
            values |= {"days": float(self.config.days)} if dated else {"of": float(self._size)}
            if self._growth[item]:
                values["before"] = float(self._before[item])
                values["growth"] = float(self._growth[item])
            out.append(Fact("trend", values=values, source=source))
        return out

    def vectors(self, references: IntArray) -> FloatArray:
        if self._vectors is None:
            raise StageError(
                "trend is attached to nothing", hint="Call fit, or load_state and attach, first."
            )
        found: FloatArray = self._scores[references][:, None] * self._direction
        return found

    # State.

    def get_state(self) -> State:
        if not self._n_items:
            return {}
        state = {
            "users": self._users,
            "items": self._items,
            "sizes": np.array([self._n_items, self._size, self._begin], np.int64),
        }
        return state if self._times is None else {**state, "times": self._times}

    def load_state(self, state: State) -> None:
        self._vectors = None
        self._users = np.asarray(state["users"] if state else [], np.int32)
        self._items = np.asarray(state["items"] if state else [], np.int32)
        self._times = np.asarray(state["times"]) if "times" in state else None
        sizes = state["sizes"].tolist() if state else (0, 0, 0)
        self._n_items, self._size, self._begin = sizes
        self._measure()


def _by_place(rows: Interactions) -> Interactions:
    """Returns interactions without dates by their place in each user's order, first things first.

    The last of a short history and the last of a long one are both new.
    """
    counts = np.bincount(rows.users, minlength=rows.n_users)
    ends = np.cumsum(counts)
    order = np.argsort(rows.users, kind="stable")
    place = np.arange(len(rows)) - np.repeat(ends - counts, counts)
    relative = (place + 1) / np.repeat(counts, counts)
    return rows.take(order[np.argsort(relative, kind="stable")])
