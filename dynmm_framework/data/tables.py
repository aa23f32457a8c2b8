"""Interactions, items, users and histories as columns.

Identifiers are contiguous ``int32``; raw identifiers live in the item and user tables. Nothing
on this path loops over interactions in Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dynmm_framework.data.features import Features
from dynmm_framework.data.order import chronological_order, is_ordered
from dynmm_framework.protocols import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who interacted with what, and when: parallel columns of one length.

    Attributes:
        users: User ids, ``(n,)`` int32.
        items: Item ids, ``(n,)`` int32.
        n_users: Number of users, those without rows included.
        n_items: Number of items, those without rows included.
        timestamps: Unix seconds, ``(n,)`` int64; ``None`` if only the order is known.
        ratings: ``(n,)`` float32; ``None`` for implicit feedback.
        reviews: What each user wrote of the item, ``(n,)`` strings, null where nothing; ``None`` if
            the data has no reviews. They stand with their rows: who is given training rows is
            given what was written with these, and nothing of what is held out.
    """

    users: IntArray
    items: IntArray
    n_users: int
    n_items: int
    timestamps: NDArray[np.int64] | None = None
    ratings: FloatArray | None = None
    reviews: pa.LargeStringArray | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: NDArray[Any]) -> Interactions:
        """Returns the chosen rows, by index or boolean mask, in the given order."""
        return replace(
            self,
            users=self.users[rows],
            items=self.items[rows],
            timestamps=None if self.timestamps is None else self.timestamps[rows],
            ratings=None if self.ratings is None else self.ratings[rows],
            reviews=self._reviews_at(rows),
        )

    def _reviews_at(self, rows: NDArray[Any]) -> pa.LargeStringArray | None:
        if self.reviews is None:
            return None
        return self.reviews.take(pa.array(np.arange(len(self))[rows]))

    def chronological(self) -> Interactions:
        """Returns the rows by user, then time; ties and undated rows keep their order."""
        if is_ordered(self.users, self.timestamps):
            return self
        return self.take(chronological_order(self.users, self.timestamps))

    def histories(self) -> Histories:
        """Returns every user's items in row order, one history for each of ``n_users`` users."""
        ordered = is_ordered(self.users, None)
        rows = self if ordered else self.take(chronological_order(self.users))
        counts = np.bincount(self.users, minlength=self.n_users)
        return Histories(
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            items=rows.items,
            n_items=self.n_items,
            users=np.arange(self.n_users, dtype=np.int32),
            ratings=rows.ratings,
        )

    def item_counts(self) -> NDArray[np.int64]:
        """Returns the number of rows of each item, ``(n_items,)``."""
        return np.bincount(self.items, minlength=self.n_items)


@dataclass(frozen=True, eq=False)
class Histories:
    """Item sequences of several users, oldest first, in one array.

    Attributes:
        offsets: ``(n + 1,)`` int64; history ``i`` is ``items[offsets[i]:offsets[i + 1]]``.
        items: Item ids of all histories one after another, int32.
        n_items: Number of items of the catalogue.
        users: Training user of each history, ``(n,)`` int32, ``-1`` where it is none; ``None`` if
            no history belongs to a training user. Models with a vector per user may use it; all
            must serve histories without it.
        ratings: Rating of each element of ``items``, float32; ``None`` if they are not known, and
            then what is in a history was chosen, which is all that is known of it.
    """

    offsets: NDArray[np.int64]
    items: IntArray
    n_items: int
    users: IntArray | None = None
    ratings: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.ratings is not None and len(self.ratings) != len(self.items):
            raise ValueError(f"{len(self.ratings)} ratings of {len(self.items)} items")

    @classmethod
    def of(
        cls, lists: Iterable[Sequence[int]], n_items: int, users: IntArray | None = None
    ) -> Histories:
        """Builds histories from plain lists of item ids."""
        rows = [np.asarray(items, dtype=np.int32) for items in lists]
        lengths = [len(row) for row in rows]
        return cls(
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            items=np.concatenate([np.empty(0, np.int32), *rows]),
            n_items=n_items,
            users=users,
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> IntArray:
        return self.items[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of items of each history, ``(n,)``."""
        return np.diff(self.offsets)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Index of the history that each element of ``items`` belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, index: NDArray[Any] | slice) -> Histories:
        """Returns the chosen histories, by index, mask or slice, in the given order."""
        chosen = np.arange(len(self))[index]
        lengths = self.lengths[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        positions = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], lengths)
        return Histories(
            offsets=offsets,
            items=self.items[positions],
            n_items=self.n_items,
            users=None if self.users is None else self.users[chosen],
            ratings=_at(self.ratings, positions),
        )

    def only(self, chosen: NDArray[np.bool_]) -> Histories:
        """Returns the histories with the chosen items alone, by a mask ``(n_items,)``."""
        kept = chosen[self.items]
        lengths = np.bincount(self.rows[kept], minlength=len(self))
        return replace(
            self,
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            items=self.items[kept],
            ratings=_at(self.ratings, kept),
        )

    def last(self, length: int) -> Histories:
        """Returns the newest ``length`` items of each history."""
        lengths = np.minimum(self.lengths, length)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        positions = np.arange(offsets[-1]) + np.repeat(
            self.offsets[1:] - lengths - offsets[:-1], lengths
        )
        return replace(
            self,
            offsets=offsets,
            items=self.items[positions],
            ratings=_at(self.ratings, positions),
        )

    def padded(self, length: int, *, value: int, side: str = "left") -> IntArray:
        """Returns the newest ``length`` items of each history as a matrix.

        Args:
            length: Width of the matrix.
            value: Item id that fills the rest.
            side: ``left`` puts the newest item into the last column; ``right`` the oldest kept
                one into the first.

        Returns:
            ``(n, length)`` int32.
        """
        newest = self.last(length)
        out = np.full((len(self), length), value, dtype=np.int32)
        columns = np.arange(len(newest.items)) - np.repeat(newest.offsets[:-1], newest.lengths)
        if side == "left":
            columns += np.repeat(length - newest.lengths, newest.lengths)
        out[newest.rows, columns] = newest.items
        return out

    def append(self, other: Histories) -> Histories:
        """Returns history ``i`` of this followed by history ``i`` of ``other``."""
        lengths = self.lengths + other.lengths
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        ours = offsets[self.rows] + np.arange(len(self.items)) - self.offsets[self.rows]
        theirs = offsets[other.rows] + self.lengths[other.rows] + np.arange(len(other.items))
        theirs -= other.offsets[other.rows]
        items = np.empty(offsets[-1], dtype=np.int32)
        items[ours], items[theirs] = self.items, other.items
        ratings = None
        if self.ratings is not None and other.ratings is not None:
            ratings = np.empty(len(items), dtype=np.float32)
            ratings[ours], ratings[theirs] = self.ratings, other.ratings
        return replace(self, offsets=offsets, items=items, ratings=ratings)


def _at(values: FloatArray | None, places: NDArray[Any]) -> FloatArray | None:
    return None if values is None else values[places]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset as its reader delivers it and the filters leave it.

    Attributes:
        name: Name of the dataset.
        interactions: By user, then time.
        items: One row for each item id, in order. Column ``id`` (string) always; by convention
            ``title`` and ``text`` (string), ``categories`` (list of string), ``image`` and
            ``audio`` (path as string); null where missing; further columns as the source has.
        users: One row for each user id, in order; column ``id`` (string) always.
        log: What was done to the raw rows, as (step, users, items, interactions left).
    """

    name: str
    interactions: Interactions
    items: pa.Table
    users: pa.Table
    log: tuple[tuple[str, int, int, int], ...] = field(default=())

    @property
    def n_users(self) -> int:
        return self.interactions.n_users

    @property
    def n_items(self) -> int:
        return self.interactions.n_items

    def noted(self, step: str) -> Dataset:
        """Returns the dataset with the present counts logged under ``step``."""
        line = (step, self.n_users, self.n_items, len(self.interactions))
        return replace(self, log=(*self.log, line))

    def save(self, folder: Path | str) -> Path:
        """Saves the dataset, so that a pipeline can name it.

        Example::

            folder = Dataset.from_pandas(frame, columns={"user": "uid"}).save("my-data")
            load_pipeline({..., "data": {"name": "saved_dataset", "config": {"path": str(folder)}}})

        Args:
            folder: A folder of its own; an older saved dataset in it is replaced.

        Raises:
            ArtifactError: If it cannot be written, or holds something else.
        """
        from dynmm_framework.data.storage import save_dataset

        save_dataset(self, Path(folder))
        return Path(folder)

    @classmethod
    def from_arrow(
        cls,
        interactions: Any,
        *,
        name: str = "dataset",
        columns: Mapping[str, str] | None = None,
        items: Any = None,
        users: Any = None,
    ) -> Dataset:
        """Builds a dataset from any table that speaks Arrow (pandas, polars, pyarrow, duckdb).

        Args:
            interactions: One row for each interaction.
            name: Name of the dataset.
            columns: Names of the table's columns by role; roles are ``user``, ``item``,
                ``timestamp`` (unix seconds, date or datetime), ``rating`` and ``review`` (text);
                each defaults to the role's name, the last three are optional.
            items: Item table with an ``id`` column; its items without interactions are kept.
            users: User table with an ``id`` column.

        Raises:
            DataError: If a column is missing, or an id, a timestamp or a rating is null, not
                finite, or a timestamp negative; names rows and columns.
        """
        from dynmm_framework.data.assemble import assemble

        return assemble(interactions, name=name, columns=columns or {}, items=items, users=users)

    from_pandas = from_arrow
    """Builds a dataset from a pandas frame; see :meth:`from_arrow`."""
    from_polars = from_arrow
    """Builds a dataset from a polars frame; see :meth:`from_arrow`."""


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """What is asked of a recommender: given these histories, find these targets.

    Attributes:
        users: User ids, ``(n,)`` int32.
        histories: All that is known of each user before the targets; also what a full ranking
            masks, targets excepted.
        targets: The items to be found, at least one for each user.
        masked: What a ranking masks besides, and no recommender is told; ``None`` if nothing.
    """

    users: IntArray
    histories: Histories
    targets: Histories
    masked: Histories | None = None

    def __len__(self) -> int:
        return len(self.users)

    @property
    def known(self) -> Histories:
        """All that a ranking masks: the histories, and what is masked besides."""
        return self.histories if self.masked is None else self.histories.append(self.masked)

    def asked_for(self, items: NDArray[Any]) -> EvaluationSet:
        """Returns the users with a target among some items, asked for these targets alone.

        Args:
            items: Item ids.
        """
        among = np.zeros(self.targets.n_items, np.bool_)
        among[items] = True
        targets = self.targets.only(among)
        return replace(self, targets=targets).take(np.flatnonzero(targets.lengths))

    def take(self, rows: NDArray[Any] | slice) -> EvaluationSet:
        """Returns the chosen users, by index, mask or slice, in the given order."""
        return EvaluationSet(
            users=self.users[rows],
            histories=self.histories.take(rows),
            targets=self.targets.take(rows),
            masked=None if self.masked is None else self.masked.take(rows),
        )


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a component may learn from.

    Attributes:
        train: Training interactions, by user, then time.
        items: The dataset's item table, one row for each item id.
        features: Vectors of the items by modality, for components that use content.
    """

    train: Interactions
    items: pa.Table
    features: Mapping[str, Features] = field(default_factory=dict)

    @property
    def n_users(self) -> int:
        return self.train.n_users

    @property
    def n_items(self) -> int:
        return self.train.n_items

    @cached_property
    def histories(self) -> Histories:
        """Training history of every user, empty for some."""
        return self.train.histories()
