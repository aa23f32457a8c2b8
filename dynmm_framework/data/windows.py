"""Windows over a stream of interactions: of so many events, or of so much time.

Everything in a window is predicted before anything in it is learned, so the border between two
windows decides what is known when. Two events of the same time must not stand on different sides
of it: then the one would be known when the other is predicted, though nobody knows which came
first. Hence the rules:

* A window of ``n`` events ends at the first change of time at or after its ``n``-th event. A tie
  that reaches beyond ``2 n`` events, as in data with days for times, is split there; such windows
  say so (:attr:`Window.splits_tie`).
* A window of ``s`` seconds holds the events of one interval ``[k s, (k + 1) s)``. Intervals without
  an event make no window; the next one tells how many there were (:attr:`Window.gap`). One with
  more than :data:`LARGEST` events is cut like a window by count.

Events may come out of order. Those of the open window are sorted; those that are older than a
window that has been learned already are late: they belong to the open window, at the time of the
border, and are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.config.windows import WindowRule
from dynmm_framework.data.tables import Interactions
from dynmm_framework.errors import DataError
from dynmm_framework.protocols import IntArray, State

LARGEST = 100_000
"""Events after which a window by time is cut, so that a burst does not take all memory."""


@dataclass(frozen=True, eq=False)
class Events:
    """Interactions in the order of time: parallel columns of one length.

    Attributes:
        users: User ids, ``(n,)`` int32.
        items: Item ids, ``(n,)`` int32.
        times: Unix seconds, ``(n,)`` int64.
    """

    users: IntArray
    items: IntArray
    times: NDArray[np.int64]

    @classmethod
    def of(cls, users: Any, items: Any, times: Any) -> Events:
        """Makes events from any columns of whole numbers."""
        return cls(
            np.asarray(users, dtype=np.int32),
            np.asarray(items, dtype=np.int32),
            np.asarray(times, dtype=np.int64),
        )

    @classmethod
    def none(cls) -> Events:
        return cls.of([], [], [])

    @classmethod
    def joined(cls, parts: Iterable[Events]) -> Events:
        """Returns the events of several, one after another."""
        several = [cls.none(), *parts]
        return cls(
            np.concatenate([part.users for part in several]),
            np.concatenate([part.items for part in several]),
            np.concatenate([part.times for part in several]),
        )

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: NDArray[Any] | slice) -> Events:
        """Returns the chosen events, by index, mask or slice, in the given order."""
        return Events(self.users[rows], self.items[rows], self.times[rows])

    def by_time(self) -> Events:
        """Returns the events in the order of time; those of the same time keep their order."""
        if bool((self.times[1:] >= self.times[:-1]).all()):
            return self
        return self.take(np.argsort(self.times, kind="stable"))


def stream_of(rows: Interactions) -> Events:
    """Returns interactions in the order of time; ties in the order of the rows.

    Raises:
        DataError: If the interactions have no timestamps.
    """
    if rows.timestamps is None:
        raise DataError(
            "a stream needs timestamps, and this data has none",
            hint="Name the timestamp column in the reader's settings.",
        )
    return Events.of(rows.users, rows.items, rows.timestamps).by_time()


@dataclass(frozen=True, eq=False)
class Window:
    """Events that are predicted together, then learned.

    Attributes:
        number: From 1.
        events: By time, at least one.
        gap: Empty windows by time since the one before.
        splits_tie: Whether the next window begins with events of the time at which this ends.
    """

    number: int
    events: Events
    gap: int = 0
    splits_tie: bool = False


@dataclass(eq=False)
class Windower:
    """Cuts a stream that comes in pieces into windows; any pieces give the same windows.

    Memory is that of one open window.

    Attributes:
        rule: How long a window is.
        late: Events so far that came after their window had been closed.
        number: Windows closed so far.
    """

    rule: WindowRule
    late: int = 0
    number: int = 0
    _open: Events = field(default_factory=Events.none)
    _border: int = -1  # time of the newest event in a closed window
    _place: int = -1  # interval of the last closed window by time

    @property
    def pending(self) -> Events:
        """Events of the open window, by time."""
        return self._open

    def since(self, time: int) -> None:
        """Says that all that is older than this has been closed: it comes late."""
        self._border = max(self._border, time)

    def push(self, events: Events) -> Iterator[Window]:
        """Takes events and yields the windows that they close."""
        newest = max(self._border, int(self._open.times[-1]) if len(self._open) else -1)
        highest = np.maximum.accumulate(np.append(newest, events.times))[:-1]
        start = 0
        # What is out of order meets the windows that are closed when it comes, however many come
        # with it.
        for place in np.flatnonzero(events.times < highest).tolist():
            yield from self._taken(events.take(slice(start, place)))
            yield from self._taken(events.take(slice(place, place + 1)))
            start = place + 1
        yield from self._taken(events.take(slice(start, None)))

    def _taken(self, events: Events) -> Iterator[Window]:
        late = events.times < self._border
        if late.any():
            self.late += int(late.sum())
            times = np.maximum(events.times, self._border)
            events = Events(events.users, events.items, times)
        self._open = Events.joined([self._open, events]).by_time()
        yield from self._closed(final=False)

    def flush(self) -> Iterator[Window]:
        """Closes the open window, if it holds anything."""
        yield from self._closed(final=True)

    def get_state(self) -> State:
        numbers = [self.late, self.number, self._border, self._place]
        return {
            "numbers": np.asarray(numbers, dtype=np.int64),
            "users": self._open.users,
            "items": self._open.items,
            "times": self._open.times,
        }

    def load_state(self, state: State) -> None:
        self.late, self.number, self._border, self._place = map(int, state["numbers"])
        self._open = Events.of(state["users"], state["items"], state["times"])

    def _closed(self, *, final: bool) -> Iterator[Window]:
        while stop := self._end(final=final):
            events = self._open.take(slice(0, stop))
            rest = self._open.take(slice(stop, None))
            gap = 0
            if self.rule.seconds:
                place = int(events.times[0]) // self.rule.seconds
                gap = max(place - self._place - 1, 0) if self._place >= 0 else 0
                self._place = place
            splits = bool(len(rest)) and int(rest.times[0]) == int(events.times[-1])
            self._open, self._border = rest, int(events.times[-1])
            self.number += 1
            yield Window(self.number, events, gap, splits)

    def _end(self, *, final: bool) -> int:
        """Returns where the open window ends; 0 if that cannot be told yet."""
        times = self._open.times
        if not len(times):
            return 0
        if self.rule.seconds:
            after = (int(times[0]) // self.rule.seconds + 1) * self.rule.seconds
            stop = int(np.searchsorted(times, after))
            if stop > LARGEST:
                return _end_by_count(times, LARGEST, final=final)
            return stop if stop < len(times) or final else 0
        return _end_by_count(times, self.rule.events, final=final)


def _end_by_count(times: NDArray[np.int64], size: int, *, final: bool) -> int:
    if len(times) < size:
        return len(times) if final else 0
    tie = int(np.searchsorted(times, times[size - 1], side="right"))
    if tie == len(times) <= 2 * size and not final:
        return 0  # the tie may go on
    return min(tie, 2 * size)


def windows_of(events: Events, rule: WindowRule) -> Iterator[Window]:
    """Yields the windows of a whole stream, the last one whatever its length."""
    cutter = Windower(rule)
    yield from cutter.push(events)
    yield from cutter.flush()
