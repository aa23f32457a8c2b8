"""A recommender that learns while it serves: readers never see half an update."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events
from dynmm_framework.errors import ArtifactError, DataError
from dynmm_framework.evaluation.topk import largest
from dynmm_framework.online.checkpoint import load_session, save_session
from dynmm_framework.online.intake import Vocabulary, read_record
from dynmm_framework.online.memory import below
from dynmm_framework.online.ranks import mask
from dynmm_framework.online.reports import WindowReport
from dynmm_framework.online.session import Session
from dynmm_framework.online.snapshot import Snapshot
from dynmm_framework.protocols import FloatArray, IntArray, State
from dynmm_framework.specs import did_you_mean

_EVIDENCE = "evidence"


class Explains(Protocol):
    """Explains what is recommended, and learns from the same windows."""

    def learn(self, events: Events) -> object:
        """Takes the events of a window that was learned."""
        ...

    def explain(
        self,
        user: str,
        history: Histories,
        items: IntArray,
        scores: FloatArray,
        *,
        ranks: Sequence[int],
    ) -> list[dict[str, Any]]:
        """Explains items ``(1, k)`` to a user with a history ``(1)``."""
        ...

    def get_state(self) -> State: ...

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None: ...


class OnlineRecommender:
    """Learns from events and recommends, from any number of threads.

    :meth:`update` works on the session alone; when it is done, one assignment swaps the snapshot
    that :meth:`recommend` reads. A reader therefore sees all of an update or nothing of it, and
    waits for no lock. Explanations do wait for an update: evidence is brought up to date in place.

    Example::

        live = run.online()
        live.update([{"user": "42", "item": "50", "time": 1700000000}])
        live.recommend("42", k=5)

    Args:
        session: A session that has begun; its first strategy is served.
        vocabulary: Identifiers of items and users.
        titles: Titles of items, for lists; empty for none.
        explainer: Explains; ``None`` without evidence.
    """

    def __init__(
        self,
        session: Session,
        vocabulary: Vocabulary,
        *,
        titles: Sequence[str | None] = (),
        explainer: Explains | None = None,
    ) -> None:
        self._session, self._vocabulary, self._explainer = session, vocabulary, explainer
        session.heard = None if explainer is None else explainer.learn
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

    @property
    def pending(self) -> int:
        """Events of the open window, which are learned when it closes."""
        return len(self._session.windower.pending)

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

        Raises:
            DataError: If ``events`` is a single event, a text, or nothing that has events.
        """
        if isinstance(events, str | bytes | Mapping) or not isinstance(events, Iterable):
            raise DataError(
                f"update() takes a list of events, not {type(events).__name__}",
                hint='One event is a list of one: update([{"user": …, "item": …, "time": …}]).',
            )
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

    def explain(
        self, user: str, items: Iterable[str] | None = None, *, k: int = 3
    ) -> list[dict[str, Any]]:
        """Explains what is recommended now, by evidence as new as its rules of refresh say.

        Args:
            user: The identifier of a user with a history.
            items: Items to explain; the best recommendations by default.
            k: Number of recommendations, without ``items``.

        Returns:
            Records as of :meth:`~dynmm_framework.engine.results.Run.explain`; scores and ranks are
            of the moment.

        Raises:
            ArtifactError: If the run's pipeline has no ``evidence``.
            DataError: If an item does not exist or is the user's already, the user has no history,
                or ``k`` is less than 1.
        """
        if self._explainer is None:
            raise ArtifactError(
                "this recommender has no evidence: the run's pipeline names no extractors",
                hint="Add them, such as evidence: [cf_neighbours, trend], and run it again.",
            )
        wanted = None
        if items is not None and not isinstance(items, str):
            wanted = list(dict.fromkeys(self._given(items)))
        if k < 1 or isinstance(items, str) or wanted == []:
            raise DataError("explain() takes a user, a list of items if any, and k >= 1")
        with self._lock:
            numbers = np.asarray([self._vocabulary.user(str(user))], np.int32)
            scores, known = self._snapshot.scores(numbers)
            if not known.lengths[0]:
                raise DataError(
                    f"user {user!r} has no history: there is nothing that a recommendation could"
                    " rest on",
                    hint="Name a user who has chosen something.",
                )
            mask(scores, known)
            depth = min(k, len(self._items)) if wanted is None else len(self._items)
            values, columns = (found.numpy() for found in largest(scores, depth))
            place_of = {item: place for place, item in enumerate(columns[0].tolist()) if item >= 0}
            if taken := [item for item in wanted or () if item not in place_of]:
                raise DataError(
                    f"user {user!r} has chosen item {self._items[taken[0]]!r} already: it is not"
                    " recommended",
                    hint="Name an item that the user does not have.",
                )
            places = [place_of[item] for item in (place_of if wanted is None else wanted)]
            return self._explainer.explain(
                str(user),
                known,
                columns[:, places],
                values[:, places],
                ranks=[place + 1 for place in places],
            )

    def save(self, path: Path | str, *, identity: str = "") -> None:
        """Writes a checkpoint; see :mod:`dynmm_framework.online.checkpoint`.

        Raises:
            ArtifactError: If it cannot be written.
        """
        with self._lock:
            more = dict(self._vocabulary.get_state())
            if self._explainer is not None:
                evidence = self._explainer.get_state()
                more |= {f"{_EVIDENCE}.{name}": array for name, array in evidence.items()}
            save_session(path, self._session, identity=identity, more=more)

    def load(self, path: Path | str, *, identity: str = "") -> int:
        """Goes on from a checkpoint; returns how many events of the stream it has taken in.

        Raises:
            ArtifactError: If it is damaged, or of another stream.
        """
        with self._lock:
            more = load_session(path, self._session, identity=identity)
            self._vocabulary.load_state(more)
            if self._explainer is not None:
                self._explainer.load_state(below(more, _EVIDENCE))
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
