"""What a live recommender serves at one moment: readers never see half an update."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.online.histories import HistoryStore
from dynmm_framework.online.lesson import People, profiles_of
from dynmm_framework.online.memory import FrozenBase, Scene
from dynmm_framework.online.priors import DecayedTransitions
from dynmm_framework.online.session import Session
from dynmm_framework.online.strategies import Fusion, Weights
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
