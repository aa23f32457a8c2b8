"""What protocols rank instead of the whole catalogue: the same for every recommender.

Sampled protocols draw candidates for each target, once; cold ones rank the items with few training
interactions, for the users who are asked for one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.arrow import counted
from dynmm_framework.data.fingerprint import fingerprint_arrays
from dynmm_framework.data.tables import EvaluationSet
from dynmm_framework.errors import DataError
from dynmm_framework.protocols import IntArray

_CELLS: Final = 1 << 22
"""Negatives drawn at a time, which bounds memory. Another value draws other negatives."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """What each target is ranked among: one line for each target of an evaluation set.

    Attributes:
        users: User id of each line, ``(n_targets,)`` int32.
        items: ``(n_targets, 1 + n)`` int32: the target, then its negatives in ascending order.
        rows: Row of the evaluation set that each line belongs to, ``(n_targets,)`` int64, in
            ascending order.
    """

    users: IntArray
    items: IntArray
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def n_negatives(self) -> int:
        return int(self.items.shape[1]) - 1

    @cached_property
    def hash(self) -> str:
        """SHA-256 over all candidate sets."""
        return fingerprint_arrays(users=self.users, items=self.items, rows=self.rows)


@dataclass(frozen=True, eq=False)
class Pool:
    """The items that a protocol ranks, the same for every user.

    Attributes:
        items: Item ids, ``(n,)`` int32, ascending.
    """

    items: IntArray

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the items."""
        return fingerprint_arrays(items=self.items)


def cold_pool(
    evaluation: EvaluationSet, item_counts: NDArray[Any], below: int, *, split: str
) -> Pool:
    """Returns the items with few training interactions, all those of the catalogue.

    Args:
        evaluation: The users to be tested.
        item_counts: Interactions of each item that recommenders learn from, ``(n_items,)``.
        below: The items have fewer than this.
        split: Name of the split, for errors.

    Raises:
        DataError: If no user is asked for one of them.
    """
    pool = np.flatnonzero(item_counts < below).astype(np.int32)
    targets = evaluation.targets.items
    if not np.isin(targets, pool).any():
        asked = counted(len(targets), "test target")
        raise DataError(
            f"the protocol cold:{below} has nobody to ask: of {asked} of the split {split!r}, none "
            f"has fewer than {counted(below, 'training interaction')}; the least has "
            f"{item_counts[targets].min():,}",
            hint="Hold whole items out with split: {strategy: cold_items}, raise the number after "
            "cold, or leave the protocol out.",
        )
    return Pool(pool)


def draw_candidates(evaluation: EvaluationSet, n_negatives: int, *, seed: int) -> Candidates:
    """Draws negatives for every target, uniformly from the items new to the user.

    A target's negatives are distinct, unknown to the user and not among the targets.
    They are drawn for each target anew.

    Args:
        evaluation: Users, histories and targets.
        n_negatives: Negatives for each target, at least 1.
        seed: Equal seeds draw equal candidates.

    Raises:
        DataError: If a user has fewer than ``n_negatives`` items left to draw from.
    """
    n_items = evaluation.targets.n_items
    offsets, gaps = _excluded(evaluation)
    allowed = n_items - np.diff(offsets)
    short = allowed < n_negatives
    if short.any():
        worst = np.argmin(allowed)
        raise DataError(
            f"{n_negatives:,} negatives cannot be drawn for {short.sum():,} of "
            f"{len(evaluation):,} users: one of them has only "
            f"{allowed[worst]:,} of {n_items:,} items outside history and targets",
            hint=f"Sample at most {allowed[worst]:,}, or use the protocol `full`.",
        )
    rng = np.random.default_rng(seed)
    rows = evaluation.targets.rows
    items = np.empty((len(rows), 1 + n_negatives), dtype=np.int32)
    items[:, 0] = evaluation.targets.items
    step = max(1, _CELLS // max(n_negatives, 1))
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        places = _distinct(allowed[chunk], n_negatives, rng)
        items[start : start + step, 1:] = _items_at(places, chunk, offsets, gaps, n_items)
    return Candidates(users=evaluation.users[rows], items=items, rows=rows)


def _excluded(evaluation: EvaluationSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns, per user, how many allowed items lie below each excluded one.

    The result is ascending over all users: ``user * (n_items + 1) + allowed items below``, so
    that one binary search finds the item at a place among a user's allowed items.
    """
    n_items = evaluation.targets.n_items
    pairs = np.concatenate(
        [part.rows * n_items + part.items for part in (evaluation.known, evaluation.targets)]
    )
    pairs.sort()
    pairs = pairs[np.concatenate([[True], pairs[1:] != pairs[:-1]])] if len(pairs) else pairs
    users, items = np.divmod(pairs, n_items)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=len(evaluation)))])
    below = items - (np.arange(len(pairs)) - offsets[users])
    return offsets, users * (n_items + 1) + below


def _items_at(
    places: NDArray[np.int64],
    rows: NDArray[np.int64],
    offsets: NDArray[np.int64],
    gaps: NDArray[np.int64],
    n_items: int,
) -> NDArray[np.int64]:
    """Returns the items at ``places`` ``(lines, n)`` among the allowed items of each line's user.

    The item at place ``p`` is ``p`` plus the number of excluded items before it: those with at
    most ``p`` allowed items below.
    """
    keys = rows[:, None] * (n_items + 1) + places
    before = np.searchsorted(gaps, keys.ravel(), side="right").reshape(places.shape)
    found: NDArray[np.int64] = places + before - offsets[rows][:, None]
    return found


def _distinct(allowed: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Returns ``n`` distinct numbers below ``allowed`` for each line, ascending, uniformly drawn.

    Where more than half of the numbers are wanted, a random order is cut; elsewhere repeated
    numbers are drawn again until there are none. Either way no number is preferred to another,
    so every set is equally likely.
    """
    out = np.empty((len(allowed), n), dtype=np.int64)
    dense = allowed < 2 * n
    if dense.any():
        most = allowed[dense]
        order = rng.random((len(most), most.max()))
        order[np.arange(order.shape[1]) >= most[:, None]] = 2.0  # after every number in reach
        out[dense] = np.sort(np.argpartition(order, n - 1, axis=1)[:, :n], axis=1)
    pending = np.flatnonzero(~dense)
    drawn = rng.integers(0, allowed[pending, None], (len(pending), n))
    while len(pending):
        drawn.sort(axis=1)
        repeated = np.zeros(drawn.shape, np.bool_)
        repeated[:, 1:] = drawn[:, 1:] == drawn[:, :-1]
        unfinished = repeated.any(axis=1)
        out[pending[~unfinished]] = drawn[~unfinished]
        pending, drawn, repeated = pending[unfinished], drawn[unfinished], repeated[unfinished]
        line = np.nonzero(repeated)[0]
        drawn[repeated] = rng.integers(0, allowed[pending[line]])
    return out
