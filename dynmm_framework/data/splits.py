"""Splits: what may be learned from, and what is asked of whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, assert_never

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dynmm_framework.config.pipeline import (
    ColdItems,
    ColdStart,
    GivenFiles,
    GlobalTime,
    LeaveOneOut,
    MMRecSplit,
    RandomRatio,
    SplitBlock,
    Streaming,
    TemporalUser,
    UserDisjoint,
)
from dynmm_framework.data import parts as strategies
from dynmm_framework.data.arrow import counted, listed
from dynmm_framework.data.disjoint import user_disjoint
from dynmm_framework.data.filters import deduplicated
from dynmm_framework.data.fingerprint import fingerprint_arrays
from dynmm_framework.data.given import read_given
from dynmm_framework.data.parts import HISTORY, KNOWN, MASKED, TEST, TRAIN, UNUSED, VALID
from dynmm_framework.data.tables import (
    Dataset,
    EvaluationSet,
    Histories,
    Interactions,
    TrainingData,
)
from dynmm_framework.errors import DataError
from dynmm_framework.protocols import IntArray

Part = Literal["valid", "test"]


@dataclass(frozen=True, eq=False)
class Split:
    """Interactions and the part that each of them belongs to.

    Attributes:
        name: The strategy.
        rows: All interactions that belong to a part: by user, in their order.
        parts: Part of each row, int8; codes in :mod:`dynmm_framework.data.parts`.
        notes: What the split counts and what it leaves out, one sentence each.
        items: Item table of a split with ids of its own (``given``); ``None``: the dataset's.
        users: User table likewise.
    """

    name: str
    rows: Interactions
    parts: NDArray[np.int8]
    notes: tuple[str, ...] = ()
    items: pa.Table | None = None
    users: pa.Table | None = None

    @cached_property
    def train(self) -> Interactions:
        """Training interactions, by user, then time."""
        return self.rows.take(self.parts == TRAIN)

    @cached_property
    def valid(self) -> Interactions:
        """Validation targets, by user, then time; possibly none."""
        return self.rows.take(self.parts == VALID)

    @cached_property
    def test(self) -> Interactions:
        """Test targets, by user, then time. For ``streaming``, the stream."""
        return self.rows.take(self.parts == TEST)

    @property
    def n_users(self) -> int:
        return self.rows.n_users

    @property
    def n_items(self) -> int:
        return self.rows.n_items

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the ids of every part; equal splits of equal data have equal hashes."""
        return fingerprint_arrays(
            users=self.rows.users,
            items=self.rows.items,
            parts=self.parts,
            counts=np.array([self.n_users, self.n_items]),
        )

    def renumbered(self, dataset: Dataset) -> Dataset:
        """Returns the dataset in this split's ids: itself, unless the split has ids of its own."""
        if self.items is None or self.users is None:
            return dataset
        return replace(dataset, interactions=self.rows, items=self.items, users=self.users)

    @cached_property
    def train_and_valid(self) -> Interactions:
        """Training interactions and validation targets, by user, in the order of the data."""
        return self.rows.take(np.isin(self.parts, (TRAIN, VALID)))

    def training_data(self, items: pa.Table, *, validation: bool = False) -> TrainingData:
        """Returns what a component may learn from.

        Args:
            items: The dataset's item table; one that the split brings itself goes before it.
            validation: Give the validation targets too, for a component whose settings have been
                chosen already.

        Raises:
            DataError: If the table does not have one row for each item.
        """
        table = items if self.items is None else self.items
        if table.num_rows != self.n_items:
            raise DataError(
                f"the item table has {table.num_rows:,} rows, the split {self.n_items:,} items",
                hint="Use the dataset that was split, with the same filters.",
            )
        return TrainingData(train=self.train_and_valid if validation else self.train, items=table)

    def known_before(self, part: Part) -> Histories:
        """Returns what is known of every user before a part, by user id; empty where nothing is.

        Args:
            part: ``valid`` or ``test``.
        """
        known = (TRAIN, HISTORY) if part == "valid" else (TRAIN, VALID, KNOWN, HISTORY)
        histories = self.rows.take(np.isin(self.parts, known)).histories()
        if (self.parts == HISTORY).any():
            trained = np.bincount(self.train.users, minlength=self.n_users) > 0
            ids = np.where(trained, np.arange(self.n_users), -1).astype(np.int32)
            histories = replace(histories, users=ids)
        return histories

    def evaluation(self, part: Part, *, users: IntArray | None = None) -> EvaluationSet:
        """Returns the users of a part with their histories and targets, by user id.

        Users without an earlier interaction or without a target are left out; an item that is a
        user's target twice is asked for once. Test histories hold training and validation, in
        the order of the data; what else a user has seen before the test is masked.

        Args:
            part: ``valid`` or ``test``.
            users: Take these users only.

        Raises:
            DataError: If one of ``users`` does not exist.
        """
        chosen = np.ones(self.n_users, np.bool_)
        if users is not None:
            _check_users(users, self.n_users)
            chosen = np.zeros(self.n_users, np.bool_)
            chosen[users] = True
        histories = self.known_before(part)
        masked = self.parts == MASKED
        targets = deduplicated(getattr(self, part), "first").histories()
        has_both = (histories.lengths > 0) & (targets.lengths > 0)
        asked = np.flatnonzero(chosen & has_both).astype(np.int32)
        return EvaluationSet(
            users=asked,
            histories=histories.take(asked),
            targets=targets.take(asked),
            masked=self.rows.take(masked).histories().take(asked)
            if part == "test" and masked.any()
            else None,
        )


def make_split(dataset: Dataset, block: SplitBlock, *, seed: int) -> Split:
    """Splits a dataset.

    Args:
        dataset: The dataset, filtered.
        block: The strategy and its settings.
        seed: Seed of whatever is drawn; strategies by time draw nothing.

    Returns:
        The split; what it leaves out is told in its notes.

    Raises:
        DataError: If nothing is left for training or no user for the test, if the strategy needs
            timestamps that the data lacks, or if a given file is missing or malformed.
    """
    rng = np.random.default_rng(seed)
    if isinstance(block, GivenFiles):
        given = read_given(dataset, block, rng)
        split = Split(
            name=block.strategy,
            rows=given.rows,
            parts=given.parts,
            notes=given.notes,
            items=given.items,
            users=given.users,
        )
    else:
        rows = dataset.interactions.chronological()
        parts, notes = _assign(rows, block, rng)
        split = Split(name=block.strategy, rows=rows, parts=parts, notes=tuple(notes))
    _check(split, dataset.name)
    split = replace(split, notes=(_counts(split), *split.notes, *_evaluated(split)))
    if (split.parts == UNUSED).any():
        used = split.parts != UNUSED
        split = replace(split, rows=split.rows.take(used), parts=split.parts[used])
    return split


def split_files(block: SplitBlock) -> tuple[Path, ...]:
    """Returns the files that a split reads, for whoever keys a cache by their contents."""
    if not isinstance(block, GivenFiles):
        return ()
    return tuple(Path(path) for path in (block.train, block.valid, block.test) if path)


def _assign(
    rows: Interactions,
    block: LeaveOneOut
    | TemporalUser
    | RandomRatio
    | GlobalTime
    | ColdStart
    | ColdItems
    | Streaming
    | MMRecSplit
    | UserDisjoint,
    rng: np.random.Generator,
) -> strategies.Assigned:
    match block:
        case LeaveOneOut():
            return strategies.leave_one_out(rows, block)
        case TemporalUser():
            return strategies.temporal_user(rows, block.ratios)
        case RandomRatio():
            return strategies.random_ratio(rows, block, rng)
        case GlobalTime():
            return strategies.global_time(rows, block)
        case ColdStart():
            return strategies.cold_start(rows, block)
        case ColdItems():
            return strategies.cold_items(rows, block, rng)
        case Streaming():
            return strategies.streaming(rows, block)
        case MMRecSplit():
            return strategies.mmrec(rows)
        case UserDisjoint():
            return user_disjoint(rows, block)
        case _:
            assert_never(block)


_ADVICE = {
    "leave_one_out": "Lower split.min_interactions (at least 3) or keep more interactions with "
    "data.filters.",
    "global_time": "Change split.ratios, or use temporal_user, which cuts each user's time.",
    "streaming": "Lower split.offline, or use temporal_user, which cuts each user's time.",
    "cold_start": "Raise split.threshold, or use temporal_user.",
    "cold_items": "Raise split.share, so that more users have a held-out item, or keep more "
    "interactions with data.filters.",
    "user_disjoint": "Lower split.min_history, so that more interactions are examples, or raise "
    "split.examples.",
    "given": "Check that split.train and split.test are the right files and share their users.",
}


def _check(split: Split, name: str) -> None:
    """Refuses a split from which nothing can be learned or by which nobody can be tested."""
    advice = _ADVICE.get(split.name, "Keep more interactions with data.filters.")
    trained = np.bincount(split.rows.users[split.parts != TEST], minlength=split.n_users) > 0
    asked = np.bincount(split.test.users, minlength=split.n_users) > 0
    if not len(split.train):
        reason = "no training interactions"
    elif not asked.any():
        reason = f"no test user: none of {counted(split.n_users, 'user')} has a test target"
        if split.name in ("leave_one_out", "temporal_user", "random", "mmrec"):
            most = np.bincount(split.rows.users).max(initial=0)
            reason += f" (none has more than {counted(int(most), 'interaction')})"
    elif not (asked & trained).any():
        reason = (
            f"no test user: {counted(int(asked.sum()), 'user')} with test targets, none with an "
            "earlier interaction"
        )
    else:
        return
    raise DataError(f"dataset {name!r}: the split {split.name!r} leaves {reason}", hint=advice)


def _counts(split: Split) -> str:
    words = (
        f"{np.count_nonzero(split.parts == code):,} {name}"
        for name, code in (("training", TRAIN), ("validation", VALID), ("test", TEST))
    )
    return f"interactions: {', '.join(words)}"


def _evaluated(split: Split) -> Sequence[str]:
    """Tells who is asked for what in either part, and who is not and why."""
    notes = []
    trained = np.bincount(split.train.items, minlength=split.n_items) > 0
    parts: tuple[Part, ...] = ("valid", "test")
    for part in parts:
        evaluation = split.evaluation(part)
        targets = evaluation.targets.items
        asked = counted(len(evaluation), "user")
        notes.append(f"{part}: {asked}, {counted(len(targets), 'target')}")
        rows: Interactions = getattr(split, part)
        without = len(np.unique(rows.users)) - len(evaluation)
        if without:
            users = counted(without, "user")
            notes.append(f"{part}: {users} left out for want of an earlier interaction")
        cold = np.count_nonzero(~trained[targets])
        if cold:
            items = counted(int(cold), "target")
            notes.append(f"{part}: {items} without any training interaction of the item")
    return notes


def _check_users(users: IntArray, n_users: int) -> None:
    wrong = np.unique(users[(users < 0) | (users >= n_users)])
    if len(wrong):
        raise DataError(
            f"no such user: {listed(wrong)}",
            hint=f"User ids of this split are 0 to {n_users - 1:,}.",
        )
