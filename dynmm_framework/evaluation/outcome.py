"""What an evaluation found: ranks of targets and lists of items, from which metrics are made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.protocols import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Categories:
    """Categories of every item, such as genres, in one array.

    Attributes:
        offsets: ``(n_items + 1,)`` int64; item ``i`` has ``ids[offsets[i]:offsets[i + 1]]``.
        ids: Category ids, from 0, distinct within an item.
    """

    offsets: NDArray[np.int64]
    ids: IntArray

    @classmethod
    def from_items(cls, items: pa.Table | None) -> Categories | None:
        """Reads the column ``categories`` of an item table; ``None`` if no item has any."""
        if items is None or "categories" not in items.column_names:
            return None
        lists = items["categories"].combine_chunks()
        if isinstance(lists, pa.ChunkedArray):  # a table without rows keeps its chunks
            return None
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        words = pc.list_flatten(lists)
        if not len(words):
            return None
        ids = pc.fill_null(words.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False)
        rows = np.repeat(np.arange(len(counts)), counts)
        # A category named twice for one item counts once; one that is null, not at all.
        width = int(ids.max()) + 1
        keys = np.unique((rows * width + ids)[ids >= 0])
        if not len(keys):
            return None
        per_item = np.bincount(keys // width, minlength=len(counts))
        offsets = np.concatenate([[0], np.cumsum(per_item)]).astype(np.int64)
        return cls(offsets, (keys % width).astype(np.int32))

    @property
    def n_categories(self) -> int:
        return int(self.ids.max()) + 1 if len(self.ids) else 0


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """Ranks and lists of one recommender under one protocol.

    Under ``full`` and ``cold`` a row is a user with all targets. Under ``sampled`` a row is one
    target ranked among its own candidates, so that a user with several targets has several rows;
    metrics need not know, because :meth:`by_user` averages them.

    Attributes:
        users: User id of each row, ``(n,)`` int32.
        histories: History of each row: what was known before the targets.
        targets: Distinct target items of each row, at least one.
        ranks: Rank of each element of ``targets.items``, from 1, float64; the mean rank of its
            tie where scores are equal.
        n_ranked: Number of items that were ranked, ``(n,)`` int64: the masked ones left out.
        top_items: Best items, best first, ``(n, depth)`` int32; ``-1`` where there are fewer.
        item_counts: Training interactions of each item, ``(n_items,)``.
        top_scores: Scores of ``top_items``, float32; ``None`` if not kept.
        categories: Categories of items; ``None`` if there are none.
        sampled: Whether the rows were ranked among sampled candidates.
        rows: Row of the evaluation set that each row belongs to, ``(n,)``; ``None`` if they are
            the same.
        pool: Items that were ranked, ascending; ``None`` for the whole catalogue.
    """

    users: IntArray
    histories: Histories
    targets: Histories
    ranks: NDArray[np.float64]
    n_ranked: NDArray[np.int64]
    top_items: IntArray
    item_counts: NDArray[Any]
    top_scores: FloatArray | None = None
    categories: Categories | None = None
    sampled: bool = False
    rows: NDArray[np.int64] | None = None
    pool: IntArray | None = None

    def __len__(self) -> int:
        return len(self.users)

    @property
    def n_items(self) -> int:
        return len(self.item_counts)

    @property
    def depth(self) -> int:
        return int(self.top_items.shape[1])

    @cached_property
    def n_targets(self) -> NDArray[np.int64]:
        """Number of targets of each row, ``(n,)``."""
        return self.targets.lengths

    @cached_property
    def ordinals(self) -> NDArray[np.int64]:
        """Position of each target among its row's targets, best rank first, from 1."""
        order = np.lexsort((self.ranks, self.targets.rows))
        ordinals = np.empty(len(order), dtype=np.int64)
        ordinals[order] = np.arange(len(order)) - self.targets.offsets[self.targets.rows] + 1
        return ordinals

    @cached_property
    def best_ranks(self) -> NDArray[np.float64]:
        """Rank of each row's best target, ``(n,)``; infinite for a row without target."""
        best = np.full(len(self), np.inf)
        first = self.ordinals == 1
        best[self.targets.rows[first]] = self.ranks[first]
        return best

    def sum(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sums one value for each target over the targets of each row, ``(n,)``."""
        weights = np.asarray(values, dtype=np.float64)
        return np.bincount(self.targets.rows, weights, len(self)).astype(np.float64, copy=False)

    def lists(self, k: int | None) -> IntArray:
        """Returns the best ``k`` items of each row, ``(n, k)``, ``-1`` where there are fewer.

        Raises:
            ValueError: If fewer were kept.
        """
        if k is None:
            return self.top_items
        if k > self.depth:
            raise ValueError(f"lists of {k} items are asked for, but {self.depth} were kept")
        return self.top_items[:, :k]

    def by_user(self, values: NDArray[np.float64], n_users: int) -> NDArray[np.float64]:
        """Averages one value for each row over the rows of each user of the evaluation set.

        Args:
            values: ``(n,)``; NaN where undefined, which is left out.
            n_users: Users of the evaluation set.

        Returns:
            ``(n_users,)``, NaN for users without a defined value.
        """
        if self.rows is None:
            return values
        known = ~np.isnan(values)
        counts = np.bincount(self.rows[known], minlength=n_users)
        sums = np.bincount(self.rows[known], weights=values[known], minlength=n_users)
        means: NDArray[np.float64] = np.full(n_users, np.nan)
        np.divide(sums, counts, out=means, where=counts > 0)
        return means

    def per_target(self) -> Outcome:
        """Returns the same ranks with every target as a row of its own, without lists."""
        rows = self.targets.rows
        n = len(self.ranks)
        targets = Histories(
            offsets=np.arange(n + 1), items=self.targets.items, n_items=self.targets.n_items
        )
        return Outcome(
            users=self.users[rows],
            histories=self.histories.take(rows),
            targets=targets,
            ranks=self.ranks,
            n_ranked=self.n_ranked[rows],
            top_items=np.empty((n, 0), dtype=np.int32),
            item_counts=self.item_counts,
            categories=self.categories,
            sampled=self.sampled,
            rows=rows if self.rows is None else self.rows[rows],
            pool=self.pool,
        )
