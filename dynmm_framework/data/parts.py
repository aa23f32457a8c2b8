"""Which part of a split each interaction belongs to: one function for each strategy.

Every function takes interactions by user, then time, and returns one code for each row. Shares of
``n`` rows are rounded down, but each of validation and test gets at least one row of a user with
three or more; users with fewer are used for training only. What is left is for training and is
never nothing. The two splits at points in time (``global_time``, ``streaming``) cut all users
alike and cannot keep that promise; ``cold_items`` tests users of held-out items only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.config.pipeline import (
    ColdItems,
    ColdStart,
    GlobalTime,
    LeaveOneOut,
    RandomRatio,
    Streaming,
)
from dynmm_framework.data.arrow import counted
from dynmm_framework.data.order import chronological_order
from dynmm_framework.data.tables import Interactions
from dynmm_framework.errors import DataError

TRAIN: Final = 0
VALID: Final = 1  # the number of cuts before a row: see newest()
TEST: Final = 2
KNOWN: Final = 3
"""Between training and test in time, but no validation target: part of test histories only."""
UNUSED: Final = 4
MASKED: Final = 5
"""Before the test target in time, and so never recommended again, but part of no history."""
HISTORY: Final = 6
"""Of a user who is not learned from: part of validation and test histories, never trained on."""

MINIMUM: Final = 3
"""Rows that a user needs to have one of each part."""

Parts = NDArray[np.int8]
Assigned = tuple[Parts, list[str]]
"""The part of each row, and notes on what the strategy left out."""


def share(ratio: float, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns ``ratio`` of each count, rounded down; shares that are whole stay whole."""
    shares: NDArray[np.int64] = np.floor(ratio * counts + 1e-9).astype(np.int64)
    return shares


def held_out(
    counts: NDArray[np.int64], valid: float, test: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns how many rows of each user go to validation and to test.

    Args:
        counts: Rows of each user.
        valid: Share of validation.
        test: Share of test; the first to get its one row.
    """
    enough = counts >= MINIMUM
    n_test = np.minimum(np.maximum(share(test, counts), 1), counts - 2)
    n_valid = np.minimum(np.maximum(share(valid, counts), 1), counts - 1 - n_test)
    return np.where(enough, n_valid, 0), np.where(enough, n_test, 0)


def newest(rows: Interactions, n_valid: NDArray[np.int64], n_test: NDArray[np.int64]) -> Parts:
    """Assigns each user's newest ``n_test`` rows to test and the ``n_valid`` before to validation.

    Args:
        rows: Interactions by user.
        n_valid: Rows of each user for validation, ``(n_users,)``.
        n_test: Rows of each user for test, ``(n_users,)``.
    """
    ends = np.cumsum(np.bincount(rows.users, minlength=rows.n_users))
    row = np.arange(len(rows))
    first_test = (ends - n_test)[rows.users]
    first_valid = (ends - n_test - n_valid)[rows.users]
    parts: Parts = (row >= first_valid).astype(np.int8) + (row >= first_test)
    return parts


def leave_one_out(rows: Interactions, block: LeaveOneOut) -> Assigned:
    """The last row of each user is for test, the one before for validation."""
    counts = np.bincount(rows.users, minlength=rows.n_users)
    one = (counts >= block.min_interactions).astype(np.int64)
    return newest(rows, one, one), _short_note(counts, block.min_interactions)


def temporal_user(rows: Interactions, ratios: Sequence[float]) -> Assigned:
    """Each user's rows are cut by time, by the shares of training, validation and test."""
    counts = np.bincount(rows.users, minlength=rows.n_users)
    return newest(rows, *held_out(counts, ratios[1], ratios[2])), _short_note(counts, MINIMUM)


def mmrec(rows: Interactions) -> Assigned:
    """The last two rows below ten, else a fifth, its smaller half for validation."""
    counts = np.bincount(rows.users, minlength=rows.n_users)
    fifth = counts // 5
    n_valid = np.where(counts < 10, 1, fifth // 2)
    n_test = np.where(counts < 10, 1, fifth - fifth // 2)
    enough = counts >= MINIMUM
    parts = newest(rows, np.where(enough, n_valid, 0), np.where(enough, n_test, 0))
    return parts, _short_note(counts, MINIMUM)


def random_ratio(rows: Interactions, block: RandomRatio, rng: np.random.Generator) -> Assigned:
    """Rows are drawn over all users, or within each user.

    Drawn over all, a user may lose every training row; the last drawn one is then given back.
    """
    counts = np.bincount(rows.users, minlength=rows.n_users)
    notes = _short_note(counts, MINIMUM)
    _, valid, test = block.ratios
    if block.per_user:
        return drawn_within(rows, *held_out(counts, valid, test), rng), notes
    drawn = rng.permutation(np.flatnonzero(counts[rows.users] >= MINIMUM))
    n_valid, n_test = (int(n) for (n,) in held_out(np.array([len(drawn)]), valid, test))
    parts = np.zeros(len(rows), np.int8)
    parts[drawn[:n_test]] = TEST
    parts[drawn[n_test : n_test + n_valid]] = VALID
    trained = np.zeros(rows.n_users, np.bool_)
    trained[rows.users[parts == TRAIN]] = True
    late = drawn[: n_test + n_valid][::-1]
    late = late[~trained[rows.users[late]]]
    users, last = np.unique(rows.users[late], return_index=True)
    parts[late[last]] = TRAIN
    if len(users):
        notes.append(
            f"all interactions of {counted(len(users), 'user')} were drawn: one each was given back"
        )
    return parts, notes


def drawn_within(
    rows: Interactions,
    n_valid: NDArray[np.int64],
    n_test: NDArray[np.int64],
    rng: np.random.Generator,
) -> Parts:
    """Assigns rows at random, ``n_valid`` and ``n_test`` of each user."""
    shuffled = rng.permutation(len(rows))
    shuffled = shuffled[chronological_order(rows.users[shuffled])]
    parts = np.empty(len(rows), np.int8)
    parts[shuffled] = newest(rows, n_valid, n_test)
    return parts


def global_time(rows: Interactions, block: GlobalTime) -> Assigned:
    """All rows are cut at two points in time; rows of one second stay together."""
    train, valid, _ = block.ratios
    return _cut(rows, train, train + valid, block.strategy), []


def streaming(rows: Interactions, block: Streaming) -> Assigned:
    """The oldest rows are for training, then validation; what follows is the stream (test)."""
    parts = _cut(rows, block.offline * (1 - block.valid), block.offline, block.strategy)
    return parts, []


def _cut(rows: Interactions, first: float, second: float, strategy: str) -> Parts:
    """Cuts at the times of the rows that stand at two shares of all, oldest first."""
    times = rows.timestamps
    if times is None:
        raise DataError(
            f"the split {strategy!r} needs timestamps, and this data has none",
            hint="Name the timestamp column in the reader's settings, or use a split that needs "
            "the order of each user's interactions only, such as temporal_user.",
        )
    places = [
        min(int(share(ratio, np.asarray(len(times)))), len(times) - 1) for ratio in (first, second)
    ]
    cuts = np.partition(times, places)[places]
    parts: Parts = (times >= cuts[0]).astype(np.int8) + (times >= cuts[1])
    return parts


def cold_start(rows: Interactions, block: ColdStart) -> Assigned:
    """As ``temporal_user``, but only items with few training rows are targets.

    Other rows of the validation part stay in test histories; those of the test part are unused.
    """
    parts, notes = temporal_user(rows, block.ratios)
    counts = np.bincount(rows.items[parts == TRAIN], minlength=rows.n_items)
    warm = (counts >= block.threshold)[rows.items]
    for part, becomes, name in ((VALID, KNOWN, "validation"), (TEST, UNUSED, "test")):
        not_asked = (parts == part) & warm
        notes.append(
            f"{counted(int(not_asked.sum()), f'{name} interaction')} left out as targets: items "
            f"with {block.threshold} or more training interactions"
        )
        parts[not_asked] = becomes
    return parts, notes


def cold_items(rows: Interactions, block: ColdItems, rng: np.random.Generator) -> Assigned:
    """Draws items, and asks each user for the last of them that follows some other item.

    What a user did after the test target is unused: models that keep a vector for each user would
    know the future, and no history would tell. Before it, interactions with other items are
    for training, the last of them for validation if there is one more; those with held-out items
    are masked. A user without a target is for training and validation alone.
    """
    counts = rows.item_counts()
    seen = np.flatnonzero(counts)
    n_held_out = min(max(int(share(block.share, np.asarray(len(seen)))), 1), len(seen) - 1)
    is_cold = np.zeros(rows.n_items, np.bool_)
    is_cold[rng.permutation(seen)[: max(n_held_out, 0)]] = True
    cold, row = is_cold[rows.items], np.arange(len(rows))
    first_warm = np.full(rows.n_users, len(rows))
    np.minimum.at(first_warm, rows.users[~cold], row[~cold])
    last_cold = np.full(rows.n_users, -1)
    np.maximum.at(last_cold, rows.users[cold], row[cold])
    asked = last_cold > first_warm
    end = np.where(asked, last_cold, len(rows))  # of what counts of each user
    before = row < end[rows.users]
    parts = np.full(len(rows), UNUSED, np.int8)
    parts[cold & before & asked[rows.users]] = MASKED
    parts[last_cold[asked]] = TEST
    kept = np.flatnonzero(~cold & before)
    one = (np.bincount(rows.users[kept], minlength=rows.n_users) > 1).astype(np.int64)
    parts[kept] = newest(rows.take(kept), one, np.zeros_like(one))
    notes = [
        f"held out: {is_cold.sum():,} of {counted(len(seen), 'item')} with interactions, with "
        f"{counted(int(cold.sum()), 'interaction')}"
    ]
    if later := int((~cold & ~before).sum()):
        notes.append(f"{counted(later, 'interaction')} unused: later than the user's test target")
    if early := int((~asked & (last_cold >= 0)).sum()):
        notes.append(f"{counted(early, 'user')} not asked: nothing before the held-out items")
    return parts, notes


def _short_note(counts: NDArray[np.int64], minimum: int) -> list[str]:
    short = int(((counts > 0) & (counts < minimum)).sum())
    if not short:
        return []
    return [f"{counted(short, 'user')} with fewer than {minimum} interactions: training only"]
