"""A window as it is met: its events, and all that is known before them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.online.lesson import People, Summary
from dynmm_framework.online.priors import DecayedTransitions, LongTermPriors
from dynmm_framework.protocols import FloatArray, IntArray

if TYPE_CHECKING:
    from dynmm_framework.online.memory import FrozenBase

CELLS = 1 << 21
"""Scores that are held at once; few enough to stay in a processor's cache from pass to pass."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A window as it is met: its events, and all that is known before them.

    Attributes:
        base: The frozen base.
        summaries: Summaries of the windows before, by the windows that they span.
        people: The user before each event.
        lately: The same by the last window alone, where an adapter asks for that.
        targets: What was chosen, ``(n,)`` int32.
        popularity: log(decayed events + 1) of all items, ``(n_items,)``.
        transitions: The decayed transitions, as they are before the window.
        last: Place in the stream of the newest event of each user, ``(n,)``.
        now: Place of the next event.
        long_term: What users who have long been away are met with; ``None`` for the same as others.
    """

    base: FrozenBase
    summaries: Mapping[int, Summary]
    people: People
    lately: People | None
    targets: IntArray
    popularity: FloatArray
    transitions: DecayedTransitions = field(repr=False)
    last: NDArray[np.int64]
    now: int
    long_term: LongTermPriors | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def vectors(self) -> Tensor:
        """The base's vectors of the users, ``(n, d)``."""
        return torch.from_numpy(self.people.vectors)

    @cached_property
    def following(self) -> Tensor:
        """log(decayed transitions + 1), ``(n, n_items)``."""
        return torch.from_numpy(self.transitions.log(self.people.known))

    @cached_property
    def absent(self) -> tuple[NDArray[np.int64], FloatArray]:
        """Rows of users who have long been away, and the share of long-term priors for each."""
        if self.long_term is None:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        share = self.long_term.share(self.now - self.last)
        rows = np.flatnonzero(share)
        return rows, share[rows]

    @cached_property
    def recalled(self) -> Tensor:
        """What those who have long been away gain in transitions, ``(len(rows), n_items)``."""
        assert self.long_term is not None  # or nobody has been away
        rows, share = self.absent
        kept = torch.from_numpy(self.long_term.transitions.log(self.people.known.take(rows)))
        kept -= self.following[torch.from_numpy(rows)]
        return kept.mul_(torch.from_numpy(share)[:, None])

    def chunks(self) -> Iterator[Scene]:
        """Yields the events in parts whose scores fit into memory."""
        size = max(1, CELLS // max(self.base.n_items, 1))
        if len(self) <= size:
            yield self
            return
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            lately = None if self.lately is None else self.lately.part(start, stop)
            people, targets = self.people.part(start, stop), self.targets[start:stop]
            last = self.last[start:stop]
            yield replace(self, people=people, lately=lately, targets=targets, last=last)

    def take(self, rows: NDArray[Any]) -> Scene:
        """Returns the chosen events, with the same that is known of items."""
        lately = None if self.lately is None else self.lately.take(rows)
        people = self.people.take(rows)
        targets, last = self.targets[rows], self.last[rows]
        return replace(self, people=people, lately=lately, targets=targets, last=last)
