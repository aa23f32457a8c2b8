"""Histories that grow with a stream, as they were before each event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events
from dynmm_framework.online.lending import Lease, Lent
from dynmm_framework.protocols import IntArray, State

_NOTHING: IntArray = np.empty(0, np.int32)
_Parts = tuple[dict[int, IntArray], dict[int, int]]
"""Every user's items, the user seen last at the end, and the place of the newest of them."""
_Came = tuple[int, IntArray, int]
"""A user, the items that are now kept of it, and the place of the newest."""


class HistoryStore:
    """The newest items of every user, oldest first.

    Arrays are replaced and never written to, and who is in the store is lent to readers, so that a
    snapshot costs as much as what came since the one before; see
    :class:`~dynmm_framework.online.lending.Lent`. Memory is bounded: of a user the newest
    ``longest`` items are kept, and of users the ``most`` that were seen last.

    Args:
        n_items: Items of the catalogue.
        longest: Items kept of a user.
        most: Users kept.
    """

    def __init__(self, n_items: int, *, longest: int = 1000, most: int = 1_000_000) -> None:
        self.n_items, self.longest, self.most = n_items, longest, most
        self._lent = self._lendable({}, {})
        self._lease: Lease | None = None  # held by snapshots only
        self.place = 0  # events taken so far

    @property
    def _items(self) -> dict[int, IntArray]:
        return self._lent.whole[0]

    @property
    def _last(self) -> dict[int, int]:
        """Place in the stream of each user's newest event."""
        return self._lent.whole[1]

    def __len__(self) -> int:
        return len(self._items)

    def users(self) -> Iterable[int]:
        """Returns the users whose history is kept, the one seen last at the end."""
        return self._items.keys()

    def copy(self) -> HistoryStore:
        """Returns a snapshot, which later additions leave as it is."""
        other = HistoryStore(self.n_items, longest=self.longest, most=self.most)
        parts, other._lease = self._lent.lend()
        other._lent = other._lendable(*parts)
        other._lent.borrowed(other._lease)
        other.place = self.place
        return other

    def extend(self, events: Events) -> None:
        """Adds events, in their order, which is that of time."""
        store, longest = self._items, self.longest
        join, start = np.concatenate, self.place
        came: list[_Came] = []
        for user, items, place in _by_user(events):
            known = store.get(user)
            # A copy, as a part of all events of a window would keep all of them.
            joined = items.copy() if known is None else join((known, items))
            if len(joined) > longest:
                joined = joined[-longest:].copy()
            came.append((user, joined, start + place))
        self._lent.write(came, size=8 * len(came), most=len(store))
        self.place += len(events)

    def of(self, users: IntArray) -> Histories:
        """Returns the present histories of users, ``(len(users),)``, empty for unknown ones."""
        return self._histories([self._items.get(user, _NOTHING) for user in users.tolist()])

    def last(self, users: NDArray[Any]) -> NDArray[np.int64]:
        """Returns the place in the stream of the newest event of users, ``(len(users),)``.

        For unknown ones it is the next place: they have not been away.
        """
        places, place = self._last, self.place
        return np.fromiter((places.get(user, place) for user in users.tolist()), np.int64)

    def lengths(self, users: IntArray) -> NDArray[np.int64]:
        """Returns how many items are kept of users, ``(len(users),)``."""
        kept = self._items
        return np.fromiter((len(kept.get(user, _NOTHING)) for user in users.tolist()), np.int64)

    def before(self, events: Events) -> Histories:
        """Returns the user's history before each event.

        Events of the same window that are older, not those of the same time, belong to it: what a
        user did a minute ago is known when the next thing is recommended, though nothing has been
        learned from it yet.

        Args:
            events: A window, by time; none of them is in the store.
        """
        n = len(events)
        order = np.lexsort((events.times, events.users))  # stable
        users, times = events.users[order], events.times[order]
        distinct, first, counts = np.unique(users, return_index=True, return_counts=True)
        known = self.of(distinct)
        inside = Histories(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            events.items[order],
            self.n_items,
        )
        whole = known.append(inside)  # (distinct users)
        row = np.repeat(np.arange(len(distinct)), counts)
        # Where the run of events of this user and time begins.
        begins = np.ones(n, np.bool_)
        begins[1:] = (users[1:] != users[:-1]) | (times[1:] != times[:-1])
        start = np.maximum.accumulate(np.where(begins, np.arange(n), 0))
        lengths = np.empty(n, np.int64)
        lengths[order] = known.lengths[row] + start - first[row]
        origin = np.empty(n, np.int64)
        origin[order] = whole.offsets[row]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(origin - offsets[:-1], lengths)
        return Histories(offsets, whole.items[places], self.n_items)

    def get_state(self) -> State:
        whole = self._histories(list(self._items.values()))
        users = np.fromiter(self._items, dtype=np.int64, count=len(self._items))
        return {
            "users": users,
            "offsets": whole.offsets,
            "items": whole.items,
            "last": self.last(users),
            "place": np.asarray(self.place, np.int64),
        }

    def load_state(self, state: State) -> None:
        offsets, items = state["offsets"], state["items"]
        users = state["users"].tolist()
        self._lent = self._lendable(
            {user: items[offsets[row] : offsets[row + 1]] for row, user in enumerate(users)},
            dict(zip(users, state["last"].tolist(), strict=True)),
        )
        self.place = int(state["place"])

    def _lendable(
        self, items: dict[int, IntArray], last: dict[int, int]
    ) -> Lent[_Parts, list[_Came]]:
        most = self.most

        def take(parts: _Parts, came: list[_Came]) -> None:
            store, places = parts
            for user, joined, place in came:
                store.pop(user, None)  # comes last again: the newest user
                store[user] = joined
                places[user] = place
            while len(store) > most:
                oldest = next(iter(store))
                del store[oldest]
                places.pop(oldest, None)

        return Lent((items, last), copied=_copied, change=take)

    def _histories(self, rows: list[IntArray]) -> Histories:
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        return Histories(
            np.concatenate([[0], np.cumsum(lengths)]),
            np.concatenate([_NOTHING, *rows]),
            self.n_items,
        )


def _copied(parts: _Parts) -> _Parts:
    return dict(parts[0]), dict(parts[1])


def _by_user(events: Events) -> Iterator[tuple[int, IntArray, int]]:
    """Yields every user's items and the place of the last, users in the order of these places."""
    order = np.argsort(events.users, kind="stable")
    users, items = events.users[order], events.items[order]
    ends = np.append(np.flatnonzero(users[1:] != users[:-1]) + 1, len(users))[: len(users)]
    begins = np.append(0, ends[:-1])[: len(ends)]
    places = order[ends - 1]
    by_last = np.argsort(places)
    columns = (users[begins], begins, ends, places)
    for user, begin, end, place in zip(*(part[by_last].tolist() for part in columns), strict=True):
        yield user, items[begin:end], place
