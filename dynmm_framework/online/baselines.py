"""Baselines that learn from every window too (the family of StreamingRec).

Recent popularity and decayed transitions are the priors of
:mod:`dynmm_framework.online.priors` on their own, without any base.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.data.windows import Events, Window
from dynmm_framework.online.histories import HistoryStore
from dynmm_framework.online.priors import DecayedTransitions
from dynmm_framework.online.scene import Scene
from dynmm_framework.protocols import State

if TYPE_CHECKING:
    import scipy.sparse as sp


class IncrementalItemKNN:
    """Item-based neighbours whose counts grow with every window.

    The similarity of two items is the cosine n_ij / √(n_i n_j), n_ij how often both were within
    ``last`` items of a history; a score is the sum over the newest ``last`` items of a history.
    An update is O(events · last), a score a sparse product.

    Args:
        n_items: Items of the catalogue.
        last: Newest items of a history that count, in learning and in scoring.
    """

    def __init__(self, n_items: int, *, last: int = 20) -> None:
        self.n_items, self.last = n_items, last
        self.counts = np.zeros(n_items)
        # Without decay and fading, how often one item stood near another within a history.
        self.pairs = DecayedTransitions(n_items, half_life=1e18, last=last, fading=1.0, both=True)

    def score(self, scene: Scene) -> Tensor:
        """Returns similarities to the history, ``(n, n_items)``."""
        size = (1 / np.sqrt(np.maximum(self.counts, 1))).astype(np.float32)
        scores = self.pairs.counts(scene.people.known, scale=size) * size
        return torch.from_numpy(np.ascontiguousarray(scores))

    def warm_up(self, window: Window, scene: Scene, *, learned: bool) -> None:
        """Has been prepared by the same events."""

    def shares(self) -> Mapping[str, float]:
        """Has no guards."""
        return {}

    def watch(self, scene: Scene) -> None:
        """Has nothing to look at."""

    def prepare(self, events: Events, known: Histories) -> None:
        """Counts items, and what they stand beside."""
        self.counts += np.bincount(events.items, minlength=self.n_items)
        self.pairs.learn(events, known)

    def learn(self, window: Window, scene: Scene) -> None:
        """Counts the items of a window, and what they stand beside."""
        self.prepare(window.events, scene.people.known)

    def get_state(self) -> State:
        pairs = {f"pairs.{name}": array for name, array in self.pairs.get_state().items()}
        return {"counts": self.counts, **pairs}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.counts = np.array(state["counts"])
        self.pairs.load_state(
            {name.removeprefix("pairs."): a for name, a in state.items() if name != "counts"}
        )


class SessionKNN:
    """Neighbours among the histories of users that were active lately (Jannach & Ludewig, 2017).

    A history's newest ``last`` items are compared by cosine with those of the ``sessions`` users
    that were seen last; the items of the ``neighbours`` most similar are scored by the sum of
    their similarities.

    Args:
        n_items: Items of the catalogue.
        last: Newest items of a history that count.
        sessions: Users that are remembered.
        neighbours: Most similar users.
    """

    def __init__(
        self, n_items: int, *, last: int = 50, sessions: int = 2000, neighbours: int = 100
    ) -> None:
        self.n_items, self.last, self.neighbours = n_items, last, neighbours
        self.store = HistoryStore(n_items, longest=last, most=sessions)
        self._matrix: sp.csr_matrix | None = None

    def score(self, scene: Scene) -> Tensor:
        """Returns summed similarities, ``(n, n_items)``."""
        sessions = self._sessions()
        asked = _sets(scene.people.known.last(self.last), self.n_items)
        alike = np.asarray((asked @ sessions.T).toarray(), np.float32)
        sizes = np.sqrt(np.maximum(sessions.getnnz(axis=1), 1)).astype(np.float32)
        alike /= sizes
        alike /= np.sqrt(np.maximum(asked.getnnz(axis=1), 1)).astype(np.float32)[:, None]
        if alike.shape[1] > self.neighbours:
            place = alike.shape[1] - self.neighbours
            limit = np.partition(alike, place, axis=1)[:, place, None]
            alike[alike < limit] = 0
        return torch.from_numpy(np.ascontiguousarray(alike @ sessions, np.float32))

    def warm_up(self, window: Window, scene: Scene, *, learned: bool) -> None:
        """Has been prepared by the same events."""

    def shares(self) -> Mapping[str, float]:
        """Has no guards."""
        return {}

    def watch(self, scene: Scene) -> None:
        """Has nothing to look at."""

    def prepare(self, events: Events, known: Histories) -> None:
        """Remembers users, with the histories that they now have."""
        self.store.extend(events)
        self._matrix = None

    def learn(self, window: Window, scene: Scene) -> None:
        """Remembers the users of a window, with the histories that they now have."""
        self.prepare(window.events, scene.people.known)

    def get_state(self) -> State:
        return self.store.get_state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.store.load_state(state)
        self._matrix = None

    def _sessions(self) -> sp.csr_matrix:
        if self._matrix is None:
            users = np.fromiter(self.store.users(), np.int32, len(self.store))
            self._matrix = _sets(self.store.of(users), self.n_items)
        return self._matrix


def _sets(histories: Histories, n_items: int) -> sp.csr_matrix:
    """Returns which item is in which history, ``(n, n_items)`` of ones."""
    import scipy.sparse as sp

    parts = (np.ones(len(histories.items), np.float32), histories.items, histories.offsets)
    matrix = sp.csr_matrix(parts, shape=(len(histories), n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix
