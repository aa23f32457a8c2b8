"""What a live recommender serves at one moment: readers never see half an update."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.online.histories import HistoryStore
from dynmm_framework.online.lesson import People, profiles_of
from dynmm_framework.online.memory import FrozenBase
from dynmm_framework.online.priors import DecayedTransitions, LongTermPriors
from dynmm_framework.online.scene import Scene
from dynmm_framework.online.session import Session
from dynmm_framework.online.strategies import Fusion
from dynmm_framework.online.weights import Weights, add_corrected
from dynmm_framework.protocols import FloatArray, IntArray, UserCorrection


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
        long_term: What users who have long been away are met with.
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
    long_term: LongTermPriors | None

    @classmethod
    def of(cls, session: Session, number: int) -> Snapshot:
        """Copies what the first strategy of a session serves."""
        fusion = next(iter(session.strategies.values()))
        assert isinstance(fusion, Fusion)
        memory = session.memory
        learner = fusion.learner
        long_term = memory.long_term_priors()
        table = users = None
        if learner is not None and fusion.strength:
            # The next window is met with the same table.
            table = learner.table({span: memory.summary(span) for span in memory.spans}).clone()
            users = learner.adapter.user_correction()
        return cls(
            number=number,
            base=session.base,
            weights=fusion.served,
            strength=fusion.strength,
            table=table,
            users=users,
            histories=memory.histories.copy(),
            pending=_pending(session),
            recent=memory.recent if memory.recent_users else None,
            popularity=memory.popularity.log(),
            transitions=memory.transitions.frozen(),
            long_term=None
            if long_term is None
            else replace(long_term, transitions=long_term.transitions.frozen()),
        )

    def noticed(self, session: Session, number: int) -> Snapshot:
        """Returns the same with the events of the open window, which nothing is learned from."""
        return replace(self, number=number, pending=_pending(session))

    def scores(self, users: IntArray) -> tuple[Tensor, Histories]:
        """Returns scores ``(n, n_items)`` and the histories by which they were made."""
        new = self.pending.of(users)
        known = self.histories.of(users).append(new)
        last = np.where(new.lengths > 0, self.histories.place, self.histories.last(users))
        return self.scores_of(known, users, last=last), known

    def scores_of(
        self, known: Histories, users: IntArray, *, last: NDArray[np.int64] | None = None
    ) -> Tensor:
        """Scores all items for histories, ``(n, n_items)``.

        Args:
            known: ``n`` histories.
            users: Their users; -1 for none.
            last: Place in the stream of the newest event of each; ``None`` for just now.
        """
        now = self.histories.place
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
            np.full(len(users), now) if last is None else last,
            now,
            self.long_term,
        )
        if self.table is None or self.users is None:
            return self.weights(scene)
        corrected = torch.from_numpy(self.users(people))
        scores = self.weights(scene, base=0.0)
        add_corrected(
            scores, scene, corrected, self.table, weights=self.weights, strength=self.strength
        )
        return scores


def _pending(session: Session) -> HistoryStore:
    store = HistoryStore(session.base.n_items, longest=session.config.history)
    store.extend(session.windower.pending)
    return store
