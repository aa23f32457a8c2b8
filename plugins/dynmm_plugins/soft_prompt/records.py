"""Evidence of users and candidates as arrays that a network reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.explain.source import Evidence, EvidenceSource
from dynmm_framework.language.retrieval import Asked
from dynmm_framework.protocols import FloatArray, IntArray

NUMBERS = 4
"""What is known of a record in numbers: its score, the logarithm of its support, whether it cites
an item of the history, and the logarithm of how many items have been chosen since."""


@dataclass(frozen=True, eq=False)
class Records:
    """Records of evidence, by user and candidate; the number of each pair differs.

    Attributes:
        table: Vectors of what is cited, each once, standardised, ``(m, d)``.
        places: Row of each record in the table, ``(n, C, K)``; -1 where a pair has fewer.
        numbers: ``(n, C, K, NUMBERS)``; 0 where there is no record.
        owners: Extractor of each, ``(n, C, K)`` int16.
    """

    table: FloatArray
    places: IntArray
    numbers: FloatArray
    owners: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Where there is a record, ``(n, C, K)``."""
        return self.places >= 0

    @property
    def vectors(self) -> FloatArray:
        """Vectors of what is cited, ``(n, C, K, d)``; zeros where there is no record."""
        if not len(self.table):
            return np.zeros((*self.places.shape, self.table.shape[1]), np.float32)
        found: FloatArray = self.table[np.maximum(self.places, 0)]
        return np.where(self.present[..., None], found, np.float32(0))

    def take(self, rows: NDArray[np.int64] | slice) -> Records:
        """Returns the records of some of the users."""
        return Records(self.table, self.places[rows], self.numbers[rows], self.owners[rows])

    def reordered(self, order: NDArray[np.int64]) -> Records:
        """Returns the records of candidates in the order ``(n, C)`` of their places."""
        rows = np.arange(len(self))[:, None]
        return Records(
            self.table,
            self.places[rows, order],
            self.numbers[rows, order],
            self.owners[rows, order],
        )

    @classmethod
    def none(cls, users: int, candidates: int, *, dim: int) -> Records:
        """Returns pairs without any record."""
        return cls(
            table=np.empty((0, dim), np.float32),
            places=np.full((users, candidates, 1), -1, np.int32),
            numbers=np.zeros((users, candidates, 1, NUMBERS), np.float32),
            owners=np.zeros((users, candidates, 1), np.int16),
        )

    def without(self, columns: NDArray[np.int64]) -> Records:
        """Returns the same pairs, without the records of one candidate of each user, ``(n,)``."""
        places, numbers = self.places.copy(), self.numbers.copy()
        places[np.arange(len(self)), columns] = -1
        numbers[np.arange(len(self)), columns] = 0
        return Records(self.table, places, numbers, self.owners)


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of the language model, and the evidence that it is given.

    Attributes:
        asked: Users and candidates.
        records: Their evidence; ``None`` if the prompt knows of none at all.
        texts: Tokens of a sentence for each target, which training writes; none where it does not.
    """

    asked: Asked
    records: Records | None = None
    texts: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.asked)

    def take(self, rows: NDArray[np.int64]) -> Question:
        """Returns some of the users."""
        records = None if self.records is None else self.records.take(rows)
        texts = tuple(self.texts[row] for row in rows) if self.texts else ()
        return Question(self.asked.take(rows), records, texts)

    def reordered(self, order: NDArray[np.int64]) -> Question:
        """Returns the same with candidates in the order ``(n, C)`` of their places."""
        records = None if self.records is None else self.records.reordered(order)
        return Question(self.asked.reordered(order), records, self.texts)

    def without_targets(self) -> Question:
        """Returns the same without the evidence of the targets."""
        assert self.records is not None
        return replace(self, records=self.records.without(self.asked.targets))

    def targets_alone(self) -> Question:
        """Returns the targets as only candidates, with their evidence."""
        own = self.asked.targets[:, None]
        rows = np.arange(len(self))[:, None]
        asked = replace(
            self.asked,
            candidates=self.asked.candidates[rows, own],
            base=self.asked.base[rows, own],
            targets=np.zeros(len(self), np.int64),
        )
        return Question(
            asked, None if self.records is None else self.records.reordered(own), self.texts
        )


def best_of_each(evidence: Evidence, limit: int) -> Evidence:
    """Returns, of each pair, the best ``limit`` records of each extractor, in the given order."""
    table = evidence.table
    order = np.lexsort((-table.scores, evidence.extractors, table.columns, table.rows))
    keys = np.stack([table.rows, table.columns, evidence.extractors])[:, order]
    kept = np.zeros(len(evidence), np.bool_)
    kept[order] = _places_within(keys) < limit
    return evidence.take(kept)


def places_of(evidence: Evidence) -> NDArray[np.int64]:
    """Returns the place of each record among those of its pair, ``(n,)``, whatever their order."""
    table = evidence.table
    order = np.lexsort((table.columns, table.rows))
    out = np.empty(len(evidence), np.int64)
    out[order] = _places_within(np.stack([table.rows, table.columns])[:, order])
    return out


def gather(
    source: EvidenceSource,
    evidence: Evidence,
    histories: Histories,
    *,
    candidates: int,
    dim: int,
    standardise: Callable[[FloatArray], FloatArray],
) -> Records:
    """Puts evidence into arrays.

    Args:
        source: What found it.
        evidence: All records that are to be read.
        histories: The users whose rows it has.
        candidates: Number of each user's candidates, whose columns it has.
        dim: Width of the items' latents.
        standardise: Standardises vectors of what is cited.

    Raises:
        ValueError: If a record belongs to another user or candidate.
    """
    table = evidence.table
    n = len(histories)
    if len(evidence) and not (
        0 <= table.rows.min() <= table.rows.max() < n
        and 0 <= table.columns.min() <= table.columns.max() < candidates
    ):
        raise ValueError(f"evidence of users or candidates beyond {n} and {candidates}")
    within = places_of(evidence)
    width = int(within.max(initial=0)) + 1
    keys = (evidence.extractors.astype(np.int64) << 32) + table.references
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    cited = evidence.take(first)
    items = np.array([fact.item for fact in source.facts(cited)], np.int64)
    since = _since(histories, table.rows, items[inverse]) if len(evidence) else np.empty(0)
    spots = table.rows, table.columns, within
    places = np.full((n, candidates, width), -1, np.int32)
    numbers = np.zeros((n, candidates, width, NUMBERS), np.float32)
    owners = np.zeros((n, candidates, width), np.int16)
    places[spots], owners[spots] = inverse, evidence.extractors
    own = since >= 0
    numbers[spots] = np.stack(
        [table.scores, np.log1p(table.support), own, np.log1p(np.maximum(since, 0))], axis=1
    )
    return Records(standardise(source.vectors(cited, dim)), places, numbers, owners)


def _places_within(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the place of each column ``(parts, n)`` in its run of equal columns."""
    n = keys.shape[1]
    new = np.ones(n, np.bool_)
    new[1:] = (np.diff(keys, axis=1) != 0).any(axis=0)
    starts = np.flatnonzero(new)
    return np.arange(n) - np.repeat(starts, np.diff([*starts, n]))


def _since(
    histories: Histories, rows: NDArray[np.int64], items: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Returns how many items a user chose after an item, ``(n,)``; -1 if it is not in the history.

    An item that stands there twice counts where it is newest.
    """
    owner = histories.rows
    keys = owner * histories.n_items + histories.items
    since = histories.offsets[owner + 1] - 1 - np.arange(len(keys))
    order = np.lexsort((since, keys))
    keys, since = keys[order], since[order]
    wanted = rows * histories.n_items + items
    place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    if not len(keys):
        return np.full(len(rows), -1, np.int64)
    found: NDArray[np.int64] = np.where((keys[place] == wanted) & (items >= 0), since[place], -1)
    return found
