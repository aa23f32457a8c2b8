"""What comes in from outside: checked, counted, bounded, never trusted and never fatal."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.windows import Events, Window
from dynmm_framework.protocols import State

REASONS: Final = (
    "malformed",
    "unknown item",
    "bad time",
    "far future",
    "duplicate",
    "repeated",
    "too many of one user",
)
"""Why events are skipped. Late ones are not: they are counted by the windows and kept."""
AGREED: Final = 10
"""Far events in a row that are believed: the stream had a gap."""
REMEMBERED: Final = 20_000
"""Newest events among which duplicates are found."""


@dataclass(frozen=True, slots=True)
class RawEvent:
    """An event by the identifiers of its source."""

    user: str
    item: str
    time: int


def read_line(line: str) -> RawEvent | None:
    """Reads ``{"user": …, "item": …, "time": …}``; ``None`` if it is not that.

    Times are unix seconds, or ISO 8601 (``timestamp`` is read as ``time``).
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return read_record(record)


def read_record(record: Any) -> RawEvent | None:
    """Reads an event from plain data; ``None`` if user, item or time is missing or odd."""
    if isinstance(record, RawEvent):
        return record
    if not isinstance(record, Mapping):
        return None
    user, item = record.get("user"), record.get("item")
    time = _seconds(record.get("time", record.get("timestamp")))
    if time is None or not _is_id(user) or not _is_id(item):
        return None
    return RawEvent(str(user), str(item), time)


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _seconds(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            return int(datetime.fromisoformat(value).timestamp())
        except (ValueError, OverflowError):
            return None
    if isinstance(value, int | float) and np.isfinite(value) and abs(value) < 1 << 40:
        return int(value)
    return None


class Vocabulary:
    """Identifiers of a source and the numbers that stand for them; users come and go.

    Args:
        items: Identifiers of all items, in the order of their numbers.
        users: Identifiers of the users known at first, likewise; they are never forgotten.
    """

    def __init__(self, items: Sequence[str], users: Sequence[str]) -> None:
        self.items = {str(name): number for number, name in enumerate(items)}
        self._first = {str(name): number for number, name in enumerate(users)}
        self._new: dict[str, int] = {}
        self._next = len(self._first)

    def __len__(self) -> int:
        """Number of users known."""
        return len(self._first) + len(self._new)

    def user(self, name: str) -> int:
        """Returns a user's number, -1 for one who is not known; from any thread."""
        number = self._first.get(name)
        return self._new.get(name, -1) if number is None else number

    def numbered(self, events: Iterable[RawEvent | None]) -> tuple[Events, int]:
        """Returns events by number, -1 for unknown items, and how many were malformed.

        Unknown users become known.
        """
        everything = list(events)
        read = [event for event in everything if event is not None]
        known = self.items.get
        items = [known(event.item, -1) for event in read]
        first, new = self._first.get, self._new.get
        users: list[int] = []
        for event, item in zip(read, items, strict=True):
            if item < 0:  # a user of whom only unknown items are seen need not be remembered
                users.append(0)
                continue
            name = event.user
            number = first(name)
            if number is None and (number := new(name)) is None:
                number = self._new[name] = self._next
                self._next += 1
            users.append(number)
        times = [event.time for event in read]
        return Events.of(users, items, times), len(everything) - len(read)

    def keep(self, users: Container[int]) -> None:
        """Forgets the names of users who came later and are not among these."""
        # Replaced, not changed: other threads read it.
        self._new = {name: number for name, number in self._new.items() if number in users}

    def get_state(self) -> State:
        text = json.dumps(list(self._new)).encode()
        return {
            "new_users": np.frombuffer(text, np.uint8),
            "numbers": np.fromiter(self._new.values(), np.int64, len(self._new)),
            "next": np.asarray(self._next, np.int64),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        names = json.loads(state["new_users"].tobytes().decode())
        self._new = dict(zip(names, state["numbers"].tolist(), strict=True))
        self._next = int(state["next"])


class Intake:
    """Lets events in, or skips and counts them.

    Skipped are items that do not exist, times before 1970, events far ahead of all others (a
    wrong clock would make everything after them late; they wait until ten in a row agree, which are
    all let in, or one does not, and they are skipped), and events that
    are equal to one of the newest in user, item and time.

    Args:
        n_items: Items of the catalogue.
        horizon: Seconds that an event may be ahead of the newest.
    """

    def __init__(self, n_items: int, *, horizon: int) -> None:
        self.n_items, self.horizon = n_items, horizon
        self.skipped = dict.fromkeys(REASONS, 0)
        self.newest = -1
        self._held = Events.none()  # far ahead, in a row; let in if enough agree
        self._seen = np.empty(0, np.uint64)  # newest last

    @property
    def waiting(self) -> int:
        """Events far ahead, of which it is not known yet whether their clock is wrong."""
        return len(self._held)

    def admit(self, events: Events) -> Events:
        """Returns the events that count, in their order."""
        known = (events.items >= 0) & (events.items < self.n_items)
        dated = events.times >= 0
        self.skipped["unknown item"] += int((~known).sum())
        self.skipped["bad time"] += int((known & ~dated).sum())
        events = events.take(known & dated)
        events = self._near(events)
        return self._once(events)

    def _near(self, events: Events) -> Events:
        if not len(events):
            return events
        if self.newest < 0:  # the first batch says where the stream is
            self.newest = int(np.median(events.times))
        times = np.maximum.accumulate(np.append(self.newest, events.times))
        if not (np.diff(times) > self.horizon).any():
            self._refuse_held()
            self.newest = int(times[-1])
            return events
        kept: list[Events] = []
        for row, time in enumerate(events.times.tolist()):
            event = events.take(slice(row, row + 1))
            if time <= self.newest + self.horizon:
                self._refuse_held()
                self.newest = max(self.newest, time)
                kept.append(event)
                continue
            self._held = Events.joined([self._held, event])
            if len(self._held) == AGREED:
                kept.append(self._held)
                self.newest = int(np.median(self._held.times))
                self._held = Events.none()
        return Events.joined(kept)

    def _refuse_held(self) -> None:
        """Takes what was ahead for wrong, as the stream goes on where it was."""
        self.skipped["far future"] += len(self._held)
        self._held = Events.none()

    def _once(self, events: Events) -> Events:
        keys = _mixed(events)
        _, first = np.unique(keys, return_index=True)
        fresh = np.zeros(len(keys), np.bool_)
        fresh[first] = True
        fresh &= ~np.isin(keys, self._seen)
        self.skipped["duplicate"] += int((~fresh).sum())
        self._seen = np.concatenate([self._seen, keys[fresh]])[-REMEMBERED:]
        return events if fresh.all() else events.take(fresh)

    def bound(self, window: Window, *, repeats: int, per_user: int) -> Window:
        """Takes out of a window what one user did too often, and counts it.

        Args:
            window: A window.
            repeats: Events of a user with one item that count.
            per_user: Events of a user that count.
        """
        events = window.events
        pairs = events.users.astype(np.int64) * self.n_items + events.items
        once = _ordinals(pairs) < repeats
        self.skipped["repeated"] += int((~once).sum())
        events = events.take(once)
        few = _ordinals(events.users) < per_user
        self.skipped["too many of one user"] += int((~few).sum())
        if once.all() and few.all():
            return window
        return Window(window.number, events.take(few), window.gap, window.splits_tie)

    def get_state(self) -> State:
        counts = [self.skipped[reason] for reason in REASONS]
        return {
            "skipped": np.asarray(counts, np.int64),
            "newest": np.asarray(self.newest, np.int64),
            "seen": self._seen,
            "held_users": self._held.users,
            "held_items": self._held.items,
            "held_times": self._held.times,
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.skipped = dict(zip(REASONS, state["skipped"].tolist(), strict=True))
        self.newest = int(state["newest"])
        self._held = Events.of(*(state[f"held_{name}"] for name in ("users", "items", "times")))
        self._seen = np.array(state["seen"])


def _mixed(events: Events) -> NDArray[np.uint64]:
    """Returns a number for each (user, item, time) that differs where they do, but by accident."""
    mixed = events.times.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for column in (events.users, events.items):
        mixed ^= mixed >> np.uint64(29)
        mixed = (mixed + column.astype(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
    return mixed ^ (mixed >> np.uint64(32))


def _ordinals(keys: NDArray[Any]) -> NDArray[np.int64]:
    """Returns how many equal keys stand before each."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.ones(len(keys), np.bool_)
    begins[1:] = ordered[1:] != ordered[:-1]
    places = np.arange(len(keys))
    out = np.empty(len(keys), np.int64)
    out[order] = places - np.maximum.accumulate(np.where(begins, places, 0))
    return out
