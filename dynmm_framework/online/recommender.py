"""A recommender that learns while it serves: readers never see half an update."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.errors import DataError
from dynmm_framework.evaluation.topk import largest
from dynmm_framework.online.checkpoint import load_session, save_session
from dynmm_framework.online.histories import HistoryStore
from dynmm_framework.online.intake import Vocabulary, read_record
from dynmm_framework.online.lesson import People, profiles_of
from dynmm_framework.online.memory import FrozenBase, Scene
from dynmm_framework.online.priors import DecayedTransitions
from dynmm_framework.online.ranks import mask
from dynmm_framework.online.reports import WindowReport
from dynmm_framework.online.session import Session
from dynmm_framework.online.strategies import Fusion, Weights
from dynmm_framework.protocols import FloatArray, IntArray, UserCorrection
from dynmm_framework.specs import did_you_mean


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All that is needed to recommend, as it was at one moment; nothing in it ever changes.

    Attributes:
        number: How many updates there were before.
        base: The frozen base.
        weights: Of the priors.
        strength: λ, the part of the correction that is served.
        table: Corrected latents of all items, ``(n_items, d)``; ``None`` without an adapter.
        users: Corrects users; ``None`` without an adapter.
        histories: Of all users, up to the last closed window.
        pending: Of users with events in the open window, these.
        recent: Histories within the last window, for adapters that read them; else ``None``.
        popularity: log(decayed events + 1), ``(n_items,)``.
        transitions: The decayed transitions.
    """

    number: int
    base: FrozenBase
    weights: Weights
    strength: float
    table: Tensor | None
    users: UserCorrection | None
    histories: HistoryStore
    pending: HistoryStore
    recent: HistoryStore | None
    popularity: FloatArray
    transitions: DecayedTransitions

    @classmethod
    def of(cls, session: Session, number: int) -> Snapshot:
        """Copies what the first strategy of a session serves."""
        fusion = next(iter(session.strategies.values()))
        assert isinstance(fusion, Fusion)
        memory = session.memory
        learner = fusion.learner
        table = users = None
        if learner is not None and fusion.strength:
            table = torch.from_numpy(
                learner.adapter.correct_items(
                    learner.summary_of({span: memory.summary(span) for span in memory.spans})
                ).copy()
            )
            users = learner.adapter.user_correction()
        return cls(
            number=number,
            base=session.base,
            weights=fusion.weights,
            strength=fusion.strength,
            table=table,
            users=users,
            histories=memory.histories.copy(),
            pending=_pending(session),
            recent=memory.recent if memory.recent_users else None,
            popularity=memory.popularity.log(),
            transitions=copy.copy(memory.transitions),  # its matrices are replaced, not written
        )

    def noticed(self, session: Session, number: int) -> Snapshot:
        """Returns the same with the events of the open window, which nothing is learned from."""
        return replace(self, number=number, pending=_pending(session))

    def scores(self, users: IntArray) -> tuple[Tensor, Histories]:
        """Returns scores ``(n, n_items)`` and the histories by which they were made."""
        known = self.histories.of(users).append(self.pending.of(users))
        return self.scores_of(known, users), known

    def scores_of(self, known: Histories, users: IntArray) -> Tensor:
        """Scores all items for histories, ``(n, n_items)``."""
        vectors = self.base.users(known)
        people = People(vectors, profiles_of(known, self.base.items), known.lengths > 0, known)
        if self.recent is not None:
            people = people.lately(self.recent.of(users), self.base.items)
        scene = Scene(
            self.base,
            {},
            people,
            None,
            np.empty(0, np.int32),
            self.popularity,
            self.transitions,
        )
        scores = self.weights(scene)
        if self.table is not None and self.users is not None:
            scores.addmm_(scene.vectors, self.base.table.T, alpha=-self.strength)
            corrected = torch.from_numpy(self.users(people))
            scores.addmm_(corrected, self.table.T, alpha=self.strength)
        return scores


def _pending(session: Session) -> HistoryStore:
    store = HistoryStore(session.base.n_items, longest=session.config.history)
    store.extend(session.windower.pending)
    return store


class OnlineRecommender:
    """Learns from events and recommends, from any number of threads.

    :meth:`update` works on the session alone; when it is done, one assignment swaps the snapshot
    that :meth:`recommend` reads. A reader therefore sees all of an update or nothing of it, and
    waits for no lock.

    Example::

        live = run.online()
        live.update([{"user": "42", "item": "50", "time": 1700000000}])
        live.recommend("42", k=5)

    Args:
        session: A session that has begun; its first strategy is served.
        vocabulary: Identifiers of items and users.
        titles: Titles of items, for lists; empty for none.
    """

    def __init__(
        self, session: Session, vocabulary: Vocabulary, *, titles: Sequence[str | None] = ()
    ) -> None:
        self._session, self._vocabulary = session, vocabulary
        self._items = list(vocabulary.items)
        self._titles = list(titles)
        self._lock = threading.Lock()
        self._at_first = len(vocabulary)
        self._updates = 0
        self._snapshot = Snapshot.of(session, 0)

    @property
    def snapshot(self) -> Snapshot:
        """What is served now."""
        return self._snapshot

    @property
    def skipped(self) -> dict[str, int]:
        """How many events were skipped, by reason."""
        return self._session.skipped

    @property
    def means(self) -> dict[str, float]:
        """Prequential metrics of what was served, cumulative."""
        with self._lock:
            return next(iter(self._session.means.values()), {})

    @property
    def offset(self) -> int:
        """Events that were taken in, skipped ones included."""
        return self._session.offset

    def update(self, events: Iterable[Any], *, flush: bool = False) -> list[WindowReport]:
        """Takes events; every window that they close is predicted, then learned.

        What is wrong with an event never stops the others: it is skipped and counted
        (:attr:`skipped`). Events of a window that is still open belong to their user's history at
        once; they are learned when it closes.

        Args:
            events: Records with ``user``, ``item`` and ``time`` (unix seconds or ISO 8601), or
                :class:`~dynmm_framework.online.intake.RawEvent`.
            flush: Close the open window, however short.

        Returns:
            The reports of the windows that were closed.
        """
        with self._lock:
            numbered, malformed = self._vocabulary.numbered(map(read_record, events))
            reports = list(self._session.push(numbered, malformed=malformed))
            if flush:
                reports += self._session.flush()
            self._forget_names()
            self._updates += 1
            # Only a window that was closed changes more than the histories of those who came.
            self._snapshot = (
                Snapshot.of(self._session, self._updates)
                if reports
                else self._snapshot.noticed(self._session, self._updates)
            )
        return reports

    def recommend(
        self, user: str | None = None, *, k: int = 10, history: Iterable[str] | None = None
    ) -> list[dict[str, Any]]:
        """Recommends to a user, seen before or not, or to anyone by a history.

        Args:
            user: The user's identifier; who has never been seen gets what suits an empty history.
            k: Number of items; fewer where fewer are left.
            history: Items of someone else, oldest first, instead of a user.

        Returns:
            Records ``{"rank", "item", "title", "score"}``, best first, known items left out.

        Raises:
            DataError: If an item of the history does not exist, ``k`` is less than 1, or not
                exactly one of ``user`` and ``history`` is given.
        """
        if (user is None) == (history is None) or isinstance(history, str) or k < 1:
            raise DataError("recommend() takes a user or a list of items as history, and k >= 1")
        snapshot = self._snapshot
        numbers = np.asarray([self._vocabulary.user(str(user))], np.int32)
        if history is None:
            scores, known = snapshot.scores(numbers)
        else:
            known = Histories.of([self._given(history)], snapshot.base.n_items)
            scores = snapshot.scores_of(known, np.asarray([-1], np.int32))
        mask(scores, known)
        values, columns = largest(scores, min(k, scores.shape[1]))
        return [
            {
                "rank": rank,
                "item": self._items[item],
                "title": self._titles[item] if self._titles else None,
                "score": value,
            }
            for rank, (item, value) in enumerate(
                zip(columns[0].tolist(), values[0].tolist(), strict=True), start=1
            )
            if item >= 0
        ]

    def save(self, path: Path | str, *, identity: str = "") -> None:
        """Writes a checkpoint; see :mod:`dynmm_framework.online.checkpoint`.

        Raises:
            ArtifactError: If it cannot be written.
        """
        with self._lock:
            save_session(path, self._session, identity=identity, more=self._vocabulary.get_state())

    def load(self, path: Path | str, *, identity: str = "") -> int:
        """Goes on from a checkpoint; returns how many events of the stream it has taken in.

        Raises:
            ArtifactError: If it is damaged, or of another stream.
        """
        with self._lock:
            more = load_session(path, self._session, identity=identity)
            self._vocabulary.load_state(more)
            self._updates += 1
            self._snapshot = Snapshot.of(self._session, self._updates)
            return self._session.offset

    def digest(self) -> str:
        """Returns a sha256 of all that was learned and counted."""
        with self._lock:
            return self._session.digest()

    def _forget_names(self) -> None:
        """Forgets the names of users whose histories are forgotten, now and then."""
        session = self._session
        if len(self._vocabulary) > 1.25 * (session.config.known_users + self._at_first):
            pending = session.windower.pending.users.tolist()
            self._vocabulary.keep({*session.memory.histories.users(), *pending})

    def _given(self, history: Iterable[str]) -> list[int]:
        found = []
        for name in map(str, history):
            number = self._vocabulary.items.get(name)
            if number is None:
                hint = did_you_mean(name, list(self._vocabulary.items))
                raise DataError(f"there is no item {name!r}{hint}")
            found.append(number)
        return found
