"""What a language model re-ranks: latents of users and items, candidates, retrieval's scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.latents.inputs import as_array, user_vectors
from dynmm_framework.protocols import FloatArray, IntArray, Scores, State

CHUNK_USERS = 512
"""Users whose scores over the catalogue are held at once."""


class Vectors(Protocol):
    """What retrieves: a backbone, or an alignment on one. The score is the inner product."""

    def item_vectors(self) -> Scores: ...
    def user_vectors(self, histories: Histories) -> Scores: ...


@dataclass(frozen=True, eq=False)
class Asked:
    """Users, and what is to be ranked for each.

    Attributes:
        histories: The users, n of them.
        users: Their vectors, standardised, ``(n, width)``.
        candidates: Items, ``(n, C)``.
        base: Retrieval's scores of the candidates, ``(n, C)``.
        targets: Place of the target among the candidates, ``(n,)``; -1 where there is none.
    """

    histories: Histories
    users: FloatArray
    candidates: IntArray
    base: FloatArray
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: NDArray[np.int64]) -> Asked:
        """Returns some of the users."""
        return Asked(
            self.histories.take(rows),
            self.users[rows],
            self.candidates[rows],
            self.base[rows],
            self.targets[rows],
        )

    def reordered(self, order: NDArray[np.int64]) -> Asked:
        """Returns the same with candidates in the order ``(n, C)`` of their places."""
        places = np.argsort(order, axis=1, kind="stable")  # where each candidate has gone
        known = self.targets >= 0
        moved = places[np.arange(len(self)), np.maximum(self.targets, 0)]
        return Asked(
            self.histories,
            self.users,
            np.take_along_axis(self.candidates, order, axis=1),
            np.take_along_axis(self.base, order, axis=1),
            np.where(known, moved, -1),
        )


class Retrieval:
    """What stands below a language model, frozen: vectors of items and users.

    Args:
        vectors: Gives them.
        mean: Mean user vector, as measured in training.
        scale: Standard deviations of users' vectors, likewise.
    """

    def __init__(self, vectors: Vectors, *, mean: FloatArray, scale: FloatArray) -> None:
        self._vectors = vectors
        self.items = as_array(vectors.item_vectors())
        self.mean, self.scale = mean, scale
        self._centre, self._spread = _measured(self.items)
        self.standard_items = self.standardised_items(self.items)

    @classmethod
    def measured(cls, vectors: Vectors, histories: Histories) -> Retrieval:
        """Measures the users' vectors on training histories."""
        mean, scale = _measured(user_vectors(vectors, histories))  # type: ignore[arg-type]
        return cls(vectors, mean=mean, scale=scale)

    @property
    def widths(self) -> tuple[int, int]:
        """Width of users' and items' vectors."""
        return len(self.mean), self.items.shape[1]

    def state(self) -> State:
        """Returns what :class:`Retrieval` is made with, besides the vectors."""
        return {"mean": self.mean, "scale": self.scale}

    def users(self, histories: Histories) -> FloatArray:
        """Returns the users' vectors, ``(len(histories), d)``."""
        return user_vectors(self._vectors, histories)  # type: ignore[arg-type]

    def standardised(self, users: FloatArray) -> FloatArray:
        """Returns users' vectors as a language model gets them, ``(n, d)``."""
        out: FloatArray = (users - self.mean) / self.scale
        return out

    def standardised_items(self, vectors: FloatArray) -> FloatArray:
        """Returns vectors of the items' space as a language model gets them, ``(n, d)``."""
        out: FloatArray = (vectors - self._centre) / self._spread
        return out

    def given(self, histories: Histories, candidates: IntArray) -> Asked:
        """Returns users and items for each, ``(len(histories), C)``, as they are given."""
        vectors = self.users(histories)
        base = np.einsum("nd,ncd->nc", vectors, self.items[candidates])
        none = np.full(len(histories), -1, np.int64)
        return Asked(histories, self.standardised(vectors), candidates, base, none)

    def asked(
        self,
        histories: Histories,
        size: int,
        *,
        among: IntArray | None = None,
        targets: NDArray[np.int64] | None = None,
    ) -> Asked:
        """Retrieves the best items for each user, best first.

        Args:
            histories: The users; what they have is not retrieved.
            size: Most items for each; fewer if the catalogue or ``among`` has fewer.
            among: Choose among these, ``(n, m)``, known or not; else among the whole catalogue.
            targets: The item that each is asked for, ``(n,)``.
        """
        vectors = self.users(histories)
        candidates, base = [], []
        for start in range(0, len(histories), CHUNK_USERS):
            part = slice(start, start + CHUNK_USERS)
            chosen, scores = self._best(
                vectors[part], histories.take(part), size, None if among is None else among[part]
            )
            candidates.append(chosen)
            base.append(scores)
        width = min(size, len(self.items) if among is None else among.shape[1])
        items = np.concatenate(candidates) if candidates else np.empty((0, width), np.int32)
        scores = np.concatenate(base) if base else np.empty((0, width), np.float32)
        places = np.full(len(histories), -1, np.int64)
        if targets is not None:
            hit = items == targets[:, None]
            places = np.where(hit.any(axis=1), hit.argmax(axis=1), -1)
        return Asked(histories, self.standardised(vectors), items, scores, places)

    def _best(
        self, vectors: FloatArray, histories: Histories, size: int, among: IntArray | None
    ) -> tuple[IntArray, FloatArray]:
        scores = vectors @ self.items.T
        if among is None:
            items = best_unknown(scores, histories, size)
            return items, np.take_along_axis(scores, items, axis=1)
        scores = np.take_along_axis(scores, among, axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :size]
        items = np.take_along_axis(among, order, axis=1).astype(np.int32)
        return items, np.take_along_axis(scores, order, axis=1)

    def all_scores(self, histories: Histories) -> Iterator[tuple[slice, FloatArray]]:
        """Yields retrieval's scores of the whole catalogue, chunk by chunk."""
        vectors = self.users(histories)
        for start in range(0, len(vectors), CHUNK_USERS):
            part = slice(start, start + CHUNK_USERS)
            yield part, vectors[part] @ self.items.T


def best_unknown(scores: NDArray[Any], histories: Histories, size: int) -> IntArray:
    """Returns the best items that users have not, best first, ``(n, size)``; ties by id.

    Args:
        scores: Of the whole catalogue, ``(n, n_items)``.
        histories: What the users have; it fills up where they have almost everything.
        size: Most items; all if the catalogue has fewer.
    """
    hidden = scores.copy()
    hidden[histories.rows, histories.items] = -np.inf
    return np.argsort(-hidden, axis=1, kind="stable")[:, :size].astype(np.int32)


def ranked_above(
    base: NDArray[Any], top: IntArray, found: NDArray[Any], *, floor: float
) -> FloatArray:
    """Returns scores of the catalogue in which re-ranked items stand above all others.

    Args:
        base: Retrieval's scores, ``(n, n_items)``; the others keep their order.
        top: What was re-ranked, ``(n, C)``.
        found: Its scores, ``(n, C)``.
        floor: The best of the others, less than any of ``found``; the worst is 1 below.
    """
    base = base.astype(np.float64)
    low, high = base.min(axis=1, keepdims=True), base.max(axis=1, keepdims=True)
    scores = (base - high) / np.maximum(high - low, 1e-12) + floor
    np.put_along_axis(scores, top.astype(np.int64), found.astype(np.float64), axis=1)
    out: FloatArray = scores.astype(np.float32)
    return out


def ndcg_among(scores: NDArray[Any], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the NDCG of each target among its candidates, ``(n,)``; ties get their mean rank.

    Args:
        scores: ``(n, C)``.
        targets: Place of each target, ``(n,)``.
    """
    target = scores[np.arange(len(scores)), targets][:, None]
    above = (scores > target).sum(axis=1)
    tied = (scores == target).sum(axis=1) - 1
    found: NDArray[np.float64] = 1 / np.log2(2 + above + tied / 2)
    return found


def _measured(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns mean and standard deviation of each column, 1 where it is constant."""
    scale = vectors.std(axis=0)
    return vectors.mean(axis=0), np.where(scale > 1e-6, scale, np.float32(1)).astype(np.float32)
