"""Evidence as columns: what bears out that a user is recommended an item.

A record joins a user, an item and something that can be cited: another item, an attribute, a
passage. What can be cited is numbered by the extractor that found it (``references``), is worded as
a :class:`Fact`, and has a vector in the space of the items' latents, by which a language model
reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.config.explain import FactKind
from dynmm_framework.protocols import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that can be cited, in words and numbers: all that a sentence may say of it.

    Attributes:
        kind: What it is.
        name: Its words: the title of a neighbour, the name of an attribute; empty if there are only
            numbers.
        group: What kind of attribute it is, such as ``genre``.
        item: The other item that it is, or -1.
        values: The numbers that it holds, by name, such as ``count`` and ``days``.
        passage: The text that is quoted, without names of people.
        source: Where it comes from: a column of the item table, ``interactions``, ``reviews``.
    """

    kind: FactKind
    name: str = ""
    group: str = ""
    item: int = -1
    values: Mapping[str, float] = field(default_factory=dict)
    passage: str = ""
    source: str = ""


@dataclass(frozen=True, eq=False)
class EvidenceTable:
    """What one extractor found for pairs of users and candidates: parallel columns.

    Records of a pair stand together, best first; pairs stand by row, then column.

    Attributes:
        rows: The user, as row of the histories that were asked about, ``(n,)`` int64.
        columns: The item, as place among the user's candidates, ``(n,)`` int64.
        references: What is cited, by the extractor's own numbers, ``(n,)`` int32.
        scores: How strongly it speaks for the pair, ``(n,)`` float32 in [0, 1].
        support: Number of items of the user's history that it rests on, ``(n,)`` int32; 0 where it
            is known of the item alone.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    references: IntArray
    scores: FloatArray
    support: IntArray

    @classmethod
    def empty(cls) -> EvidenceTable:
        """Returns a table without records."""
        return cls.of([], [], [], [], [])

    @classmethod
    def of(
        cls,
        rows: Sequence[int] | NDArray[Any],
        columns: Sequence[int] | NDArray[Any],
        references: Sequence[int] | NDArray[Any],
        scores: Sequence[float] | NDArray[Any],
        support: Sequence[int] | NDArray[Any] | None = None,
    ) -> EvidenceTable:
        """Puts columns into a table, in the order of pairs and, within them, of scores."""
        row, column = np.asarray(rows, np.int64), np.asarray(columns, np.int64)
        score = np.asarray(scores, np.float32)
        order = np.lexsort((-score, column, row))
        rests = np.zeros(len(row), np.int32) if support is None else np.asarray(support, np.int32)
        return cls(
            rows=row[order],
            columns=column[order],
            references=np.asarray(references, np.int32)[order],
            scores=score[order],
            support=rests[order],
        )

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: NDArray[Any]) -> EvidenceTable:
        """Returns some of the records, by index or mask, in the given order."""
        return EvidenceTable(
            self.rows[chosen],
            self.columns[chosen],
            self.references[chosen],
            self.scores[chosen],
            self.support[chosen],
        )

    def best(self, limit: int) -> EvidenceTable:
        """Returns the best records of each pair, at most ``limit``."""
        return self.take(self.ranks < limit)

    @property
    def ranks(self) -> NDArray[np.int64]:
        """Place of each record among those of its pair, from 0, ``(n,)``."""
        if not len(self):
            return np.empty(0, np.int64)
        new = np.ones(len(self), np.bool_)
        new[1:] = (np.diff(self.rows) != 0) | (np.diff(self.columns) != 0)
        starts = np.flatnonzero(new)
        return np.arange(len(self)) - np.repeat(starts, np.diff([*starts, len(self)]))
