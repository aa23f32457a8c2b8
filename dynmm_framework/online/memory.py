"""What a stream leaves behind without learning: histories, summaries and decayed priors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
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
from dynmm_framework.online.priors import DecayedPopularity, DecayedTransitions, LongTermPriors
from dynmm_framework.online.scene import Scene
from dynmm_framework.online.summaries import ItemSummaries
from dynmm_framework.protocols import FloatArray, IntArray, Scores, State


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
        self._long_term: tuple[DecayedPopularity, DecayedTransitions] | None = None
        if config.lasting_half_life is not None:
            self._long_term = (
                DecayedPopularity(n, half_life=config.lasting_half_life),
                DecayedTransitions(
                    n,
                    half_life=config.lasting_half_life,
                    last=config.transition_items,
                    fading=config.transition_fading,
                ),
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
        first, same = _moments(events)
        people, lately = self._people(known.take(first), events.users[first])
        people = people.spread(same, known)
        if lately is not None:
            lately = lately.spread(same, known)
        users, row = np.unique(events.users[first], return_inverse=True)
        row = row[same]
        last = self.histories.last(users)[row]
        # Who has come in this window already has not been away.
        last[known.lengths > self.histories.lengths(users)[row]] = self.histories.place
        return self.renewed(people, lately, events.items, last)

    def renewed(
        self,
        people: People,
        lately: People | None,
        targets: IntArray,
        last: NDArray[np.int64],
    ) -> Scene:
        """Returns users as they were once, with what is known of items now."""
        return Scene(
            self.base,
            {span: self.summary(span) for span in sorted(self.spans)},
            people,
            lately,
            targets,
            self.popularity.log(),
            self.transitions,
            last,
            self.histories.place,
            self.long_term_priors(),
        )

    def standing(self, users: IntArray, histories: Histories) -> Scene:
        """Returns users as they would be met now, without targets."""
        people, lately = self._people(histories, users)
        return self.renewed(people, lately, np.empty(0, np.int32), self.histories.last(users))

    def long_term_priors(self) -> LongTermPriors | None:
        """Returns what users who have long been away are met with; ``None`` for the same."""
        if self._long_term is None:
            return None
        popularity, transitions = self._long_term
        return LongTermPriors(self.config.half_life, popularity.log(), transitions)

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
        for popularity, transitions in self._priors():
            popularity.learn(events)
            transitions.learn(events, known)

    def _priors(self) -> Iterator[tuple[DecayedPopularity, DecayedTransitions]]:
        yield self.popularity, self.transitions
        if self._long_term is not None:
            yield self._long_term

    def get_state(self) -> State:
        state: dict[str, NDArray[Any]] = {}
        for name, part in self._parts().items():
            state |= {f"{name}.{key}": array for key, array in part.get_state().items()}
        return state

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        for name, part in self._parts().items():
            part.load_state(below(state, name))
        self._summaries = {}

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("histories", "recent", "summaries", "popularity", "transitions")
        }
        if self._long_term is not None:
            popularity, transitions = self._long_term
            parts |= {"long_term_popularity": popularity, "long_term_transitions": transitions}
        return parts


def _moments(events: Events) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the first event of each user and time, and which of these each event equals."""
    order = np.lexsort((events.times, events.users))
    users, times = events.users[order], events.times[order]
    begins = np.ones(len(events), np.bool_)
    begins[1:] = (users[1:] != users[:-1]) | (times[1:] != times[:-1])
    same = np.empty(len(events), np.int64)
    same[order] = np.cumsum(begins) - 1
    return order[begins], same


def below(state: Mapping[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
    """Returns the arrays of a part of a state, by their names within it."""
    prefix = f"{name}."
    return {key[len(prefix) :]: array for key, array in state.items() if key.startswith(prefix)}
