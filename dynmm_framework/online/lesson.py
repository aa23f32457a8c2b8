"""What an online adapter sees: a window's events, and the summaries that belonged to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.protocols import FloatArray, IntArray, State


@dataclass(frozen=True, eq=False)
class Summary:
    """What recent windows say about the items that had an event in them.

    Attributes:
        items: Items with an event in the last 24 windows, ascending, ``(active,)`` int32.
        features: Standardised features, ``(active, n_features)``; names in
            :data:`dynmm_framework.online.summaries.NAMES`, then the mean vector of the items that
            the same users chose in the same windows.
        newest: Which of them had one in the last window, ``(active,)`` bool.
    """

    items: IntArray
    features: FloatArray
    newest: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.items)

    def silenced(self) -> Summary:
        """Returns the same items with all features zero, for the control without summaries."""
        return Summary(self.items, np.zeros_like(self.features), self.newest)


@dataclass(frozen=True, eq=False)
class People:
    """The users that are scored, by what was known of them before.

    Attributes:
        vectors: The base's vectors, ``(n, d)``.
        profiles: What the adapter reads besides, ``(n, 1 + d)``: log1p of the number of items, and
            the mean vector of the newest; see :func:`profiles_of`.
        seen: Users of which anything is known, ``(n,)`` bool; of others nothing is corrected.
        known: All items that each is known to have chosen; they are masked.
    """

    vectors: FloatArray
    profiles: FloatArray
    seen: NDArray[np.bool_]
    known: Histories

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: NDArray[Any]) -> People:
        """Returns the chosen rows."""
        return People(
            self.vectors[rows], self.profiles[rows], self.seen[rows], self.known.take(rows)
        )

    def part(self, start: int, stop: int) -> People:
        """Returns the rows from ``start`` to before ``stop``, without copying them."""
        known = self.known
        first, last = known.offsets[start], known.offsets[stop]
        offsets = known.offsets[start : stop + 1] - first
        rows = slice(start, stop)
        return People(
            self.vectors[rows],
            self.profiles[rows],
            self.seen[rows],
            Histories(offsets, known.items[first:last], known.n_items),
        )

    def spread(self, rows: NDArray[Any], known: Histories) -> People:
        """Returns the chosen rows, whose histories the caller has already."""
        return People(self.vectors[rows], self.profiles[rows], self.seen[rows], known)

    def lately(self, recent: Histories, items: FloatArray) -> People:
        """Returns the same users with profiles of what they chose in the last window alone.

        Args:
            recent: That, ``(n,)``.
            items: Vectors of all items, ``(n_items, d)``.
        """
        longest = int(recent.lengths.max(initial=1))
        profiles = profiles_of(recent, items, last=longest)
        return People(self.vectors, profiles, recent.lengths > 0, self.known)

    @classmethod
    def joined(cls, parts: Sequence[People]) -> People:
        """Returns the users of several, one after another; there has to be at least one."""
        known = [part.known for part in parts]
        lengths = np.concatenate([histories.lengths for histories in known])
        whole = Histories(
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.concatenate([histories.items for histories in known]),
            known[0].n_items,
        )
        return cls(
            np.concatenate([part.vectors for part in parts]),
            np.concatenate([part.profiles for part in parts]),
            np.concatenate([part.seen for part in parts]),
            whole,
        )


@dataclass(frozen=True, eq=False)
class Lesson:
    """Events with all that was known when they were predicted.

    Attributes:
        summary: Summary of the windows before.
        people: The users as they were before each event.
        targets: What they chose, ``(n,)`` int32.
    """

    summary: Summary
    people: People
    targets: IntArray

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def masked(self) -> NDArray[np.int64]:
        """Places of the known items, targets excepted, among flat scores of ``(n, n_items)``."""
        known = self.people.known
        rows, items = known.rows.astype(np.int64), known.items.astype(np.int64)
        others = items != self.targets[rows]
        places: NDArray[np.int64] = rows[others] * known.n_items + items[others]
        return places

    def take(self, rows: NDArray[Any]) -> Lesson:
        """Returns the chosen events, with the same summary."""
        return Lesson(self.summary, self.people.take(rows), self.targets[rows])

    def get_state(self) -> State:
        known = self.people.known
        return {
            "items": self.summary.items,
            "features": self.summary.features,
            "newest": self.summary.newest,
            "vectors": self.people.vectors,
            "profiles": self.people.profiles,
            "seen": self.people.seen,
            "known_offsets": known.offsets,
            "known_items": known.items,
            "n_items": np.asarray(known.n_items, dtype=np.int64),
            "targets": self.targets,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Lesson:
        """Restores what :meth:`get_state` returned."""
        known = Histories(state["known_offsets"], state["known_items"], int(state["n_items"]))
        people = People(state["vectors"], state["profiles"], state["seen"], known)
        summary = Summary(state["items"], state["features"], state["newest"])
        return cls(summary, people, state["targets"])


def profiles_of(histories: Histories, items: FloatArray, *, last: int = 20) -> FloatArray:
    """Summarises histories for an adapter.

    Args:
        histories: ``n`` histories.
        items: Vectors of all items, ``(n_items, d)``.
        last: Newest items whose vectors are averaged.

    Returns:
        ``(n, 1 + d)`` float32: log1p of the length, and the mean; zeros for an empty history.
    """
    import scipy.sparse as sp

    newest = histories.last(last)
    weights = (1 / np.maximum(newest.lengths, 1)).astype(np.float32)[newest.rows]
    shape = (len(histories), len(items))
    profiles = np.empty((len(histories), 1 + items.shape[1]), np.float32)
    profiles[:, 0] = np.log1p(histories.lengths)
    profiles[:, 1:] = sp.csr_matrix((weights, newest.items, newest.offsets), shape=shape) @ items
    return profiles
