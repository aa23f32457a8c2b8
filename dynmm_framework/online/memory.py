"""What a stream leaves behind without learning: histories, summaries and decayed priors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events, Window
from dynmm_framework.evaluation.scoring import as_tensor
from dynmm_framework.online.config import OnlineConfig
from dynmm_framework.online.histories import HistoryStore
from dynmm_framework.online.lesson import People, Summary, profiles_of
from dynmm_framework.online.priors import DecayedPopularity, DecayedTransitions
from dynmm_framework.online.summaries import ItemSummaries
from dynmm_framework.protocols import FloatArray, IntArray, Scores, State

CELLS = 1 << 20
"""Scores that are held at once; few enough to stay in a processor's cache from pass to pass."""


class VectorModel(Protocol):
    """Whatever gives vectors of items and users: a backbone, or an alignment on one."""

    def item_vectors(self) -> Scores: ...
    def user_vectors(self, histories: Histories) -> Scores: ...


class FrozenBase:
    """The trained model that stays as it is, and what was counted when it was trained.

    Args:
        model: Gives vectors; is never trained.
        trained: Training events of each item, ``(n_items,)``.
    """

    def __init__(self, model: VectorModel, trained: NDArray[np.int64]) -> None:
        self.model = model
        self.trained = trained
        items = as_tensor(model.item_vectors()).float().cpu().numpy()
        self.items: FloatArray = np.ascontiguousarray(items)
        self.items.flags.writeable = False
        self.prior: FloatArray = np.log1p(trained).astype(np.float32)

    @property
    def n_items(self) -> int:
        return len(self.items)

    @cached_property
    def table(self) -> Tensor:
        """Vectors of all items, ``(n_items, d)``."""
        return torch.from_numpy(self.items.copy())

    def users(self, histories: Histories) -> FloatArray:
        """Returns vectors of users, ``(len(histories), d)`` float32."""
        if not len(histories):
            return np.empty((0, self.items.shape[1]), np.float32)
        with torch.no_grad():
            found = as_tensor(self.model.user_vectors(histories)).float().cpu().numpy()
        return np.ascontiguousarray(found)

    def digest(self) -> str:
        """Returns a sha256 of the vectors and of the model's weights, if it tells them."""
        digest = hashlib.sha256(self.items.tobytes() + self.prior.tobytes())
        state: State = getattr(self.model, "get_state", dict)()
        for name in sorted(state):
            digest.update(name.encode() + np.ascontiguousarray(state[name]).tobytes())
        return digest.hexdigest()


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
    """

    base: FrozenBase
    summaries: Mapping[int, Summary]
    people: People
    lately: People | None
    targets: IntArray
    popularity: FloatArray
    transitions: DecayedTransitions = field(repr=False)

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

    def chunks(self) -> Iterator[Scene]:
        """Yields the events in parts whose scores fit into memory."""
        size = max(1, CELLS // max(self.base.n_items, 1))
        if len(self) <= size:
            yield self
            return
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))

    def take(self, rows: NDArray[Any]) -> Scene:
        """Returns the chosen events, with the same that is known of items."""
        lately = None if self.lately is None else self.lately.take(rows)
        people = self.people.take(rows)
        return replace(self, people=people, lately=lately, targets=self.targets[rows])


class Memory:
    """Histories, summaries and priors of a stream, shared by all strategies that meet it.

    Args:
        base: The frozen base.
        config: Settings.
    """

    def __init__(self, base: FrozenBase, config: OnlineConfig) -> None:
        self.base, self.config = base, config
        self.spans = {config.span}
        self.recent_users = config.recent_users
        n = base.n_items
        self.histories = HistoryStore(n, longest=config.history, most=config.known_users)
        self.recent = HistoryStore(n, longest=config.history, most=config.known_users)
        self.summaries = ItemSummaries(base.items, base.trained)
        self.popularity = DecayedPopularity(n, half_life=config.half_life)
        self.transitions = DecayedTransitions(
            n,
            half_life=config.transition_half_life,
            last=config.transition_items,
            fading=config.transition_fading,
        )
        self._summaries: dict[int, Summary] = {}

    def serve(self, config: OnlineConfig) -> None:
        """Has ready, from now on, what an adapter of these settings reads."""
        self.spans.add(config.span)
        self.recent_users |= config.recent_users

    def summary(self, span: int) -> Summary:
        """Returns the summary of so many windows up to now: 1, 6 or 24."""
        if span not in self._summaries:
            self._summaries[span] = self.summaries.summary(span=span)
        return self._summaries[span]

    def scene(self, window: Window) -> Scene:
        """Returns a window as it is met, before anything of it is learned."""
        return self.scene_of(window.events)

    def scene_of(self, events: Events) -> Scene:
        """Returns events, by time, as they would be met now."""
        known = self.histories.before(events)
        # Events of one user and moment, half of what is rated on MovieLens, have one history.
        moments = np.stack([events.users.astype(np.int64), events.times])
        _, first, same = np.unique(moments, axis=1, return_index=True, return_inverse=True)
        same = same.ravel()
        people, lately = self._people(known.take(first), events.users[first])
        people = replace(people.take(same), known=known)
        if lately is not None:
            lately = replace(lately.take(same), known=known)
        return self.renewed(people, lately, events.items)

    def renewed(self, people: People, lately: People | None, targets: IntArray) -> Scene:
        """Returns users as they were once, with what is known of items now."""
        return Scene(
            self.base,
            {span: self.summary(span) for span in sorted(self.spans)},
            people,
            lately,
            targets,
            self.popularity.log(),
            self.transitions,
        )

    def standing(self, users: IntArray, histories: Histories) -> Scene:
        """Returns users as they would be met now, without targets."""
        return self.renewed(*self._people(histories, users), np.empty(0, np.int32))

    def _people(self, known: Histories, users: IntArray) -> tuple[People, People | None]:
        vectors = self.base.users(known)
        people = People(vectors, profiles_of(known, self.base.items), known.lengths > 0, known)
        recent = self.recent.of(users) if self.recent_users else None
        return people, None if recent is None else people.lately(recent, self.base.items)

    def remember(self, events: Events, *, size: int) -> Iterator[tuple[Events, Histories]]:
        """Takes events from before the stream, oldest first, in pieces of ``size``.

        Yields:
            Every piece, with the user's history before each of its events.
        """
        for start in range(0, len(events), size):
            piece = events.take(slice(start, start + size))
            known = self.histories.before(piece)
            self.summaries.remember(piece)
            self._count(piece, known)
            self.histories.extend(piece)
            yield piece, known

    def learn(self, window: Window, known: Histories, *, seen: Events | None = None) -> None:
        """Takes a finished window.

        Args:
            window: The window.
            known: The user's history before each event, as its scene had them.
            seen: What belongs to histories, where that is more than what is counted.
        """
        seen = window.events if seen is None else seen
        self.summaries.advance(window)
        self._summaries = {}
        self._count(window.events, known)
        self.histories.extend(seen)
        if self.recent_users:
            self.recent = HistoryStore(self.base.n_items, longest=self.config.history)
            self.recent.extend(seen)

    def _count(self, events: Events, known: Histories) -> None:
        self.popularity.learn(events)
        self.transitions.learn(events, known)

    def get_state(self) -> State:
        state: dict[str, NDArray[Any]] = {}
        for name in _PARTS:
            part = getattr(self, name).get_state()
            state |= {f"{name}.{key}": array for key, array in part.items()}
        return state

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        for name in _PARTS:
            getattr(self, name).load_state(below(state, name))
        self._summaries = {}


_PARTS = ("histories", "recent", "summaries", "popularity", "transitions")


def below(state: Mapping[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
    """Returns the arrays of a part of a state, by their names within it."""
    prefix = f"{name}."
    return {key[len(prefix) :]: array for key, array in state.items() if key.startswith(prefix)}
