"""Judgements: what users rated, each with all that was known of the user before it.

They are learned from and asked for by whatever tells liked items from disliked ones: the protocol
``auc`` asks every recommender for a score of each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.config.protocols import LIKED_ABOVE
from dynmm_framework.data.fingerprint import fingerprint_arrays
from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.errors import DataError
from dynmm_framework.protocols import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Judgements:
    """Rated items, one after another by user, then time.

    Histories are made when they are asked for: those of one user overlap, and all of them
    together may be far larger than the data.

    Attributes:
        sequences: Everything known of each user, in order.
        rows: Row of ``sequences`` that each judgement is of, ``(n,)`` int64.
        places: Place of its item within that row, ``(n,)`` int64.
        ratings: Its rating, ``(n,)`` float32.
        liked: Whether the item was liked, ``(n,)`` bool.
    """

    sequences: Histories
    rows: NDArray[np.int64]
    places: NDArray[np.int64]
    ratings: FloatArray
    liked: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def items(self) -> IntArray:
        """The item that was judged, ``(n,)`` int32."""
        found: IntArray = self.sequences.items[self.sequences.offsets[self.rows] + self.places]
        return found

    def take(self, index: NDArray[Any] | slice) -> Judgements:
        """Returns the chosen judgements, by index, mask or slice, in the given order."""
        return Judgements(
            sequences=self.sequences,
            rows=self.rows[index],
            places=self.places[index],
            ratings=self.ratings[index],
            liked=self.liked[index],
        )

    def histories(self, newest: int | None = None) -> Histories:
        """Returns what was known of the user before each judgement.

        Args:
            newest: Only so many items of each, the last; all of them if ``None``.
        """
        known = self.sequences
        lengths = self.places if newest is None else np.minimum(self.places, newest)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        starts = known.offsets[self.rows] + self.places - lengths
        where = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Histories(
            offsets=offsets,
            items=known.items[where],
            n_items=known.n_items,
            users=None if known.users is None else known.users[self.rows],
            ratings=None if known.ratings is None else known.ratings[where],
        )

    @cached_property
    def hash(self) -> str:
        """SHA-256 over what is asked: who judged what after what, and how."""
        return fingerprint_arrays(
            offsets=self.sequences.offsets,
            items=self.sequences.items,
            rows=self.rows,
            places=self.places,
            liked=self.liked.astype(np.uint8),
        )


def judged(
    sequences: Histories,
    first: int | NDArray[np.int64] = 0,
    *,
    liked_above: float = LIKED_ABOVE,
) -> Judgements:
    """Returns every item of a user's sequence, from some place on, as a judgement.

    Args:
        sequences: Rated items of users, oldest first.
        first: First place that counts, for all or for each row; the items before it are known
            only.
        liked_above: Items rated higher than this are liked.

    Raises:
        DataError: If there are no ratings.
    """
    if sequences.ratings is None:
        raise DataError(
            "this data has no ratings, so nobody knows what was liked and what was not",
            hint="Name the column of ratings in the reader's settings, or take data with ratings.",
        )
    start = np.minimum(np.broadcast_to(first, len(sequences)), sequences.lengths)
    counts = sequences.lengths - start
    rows = np.repeat(np.arange(len(sequences)), counts)
    ends = np.cumsum(counts)
    places = np.arange(len(rows)) - np.repeat(ends - counts - start, counts)
    ratings = sequences.ratings[sequences.offsets[rows] + places]
    return Judgements(sequences, rows, places, ratings, ratings > liked_above)


def asked_judgements(evaluation: EvaluationSet, *, liked_above: float = LIKED_ABOVE) -> Judgements:
    """Returns the targets of an evaluation as judgements.

    Each is asked for after the user's history and the targets before it, which the user has
    rated by then.

    Args:
        evaluation: Users, histories and targets.
        liked_above: Items rated higher than this are liked.

    Raises:
        DataError: If there are no ratings.
    """
    whole = evaluation.histories.append(evaluation.targets)
    return judged(whole, evaluation.histories.lengths, liked_above=liked_above)
