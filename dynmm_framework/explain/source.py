"""All extractors of a pipeline as one source of evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.explain.records import EvidenceTable, Fact
from dynmm_framework.protocols import EvidenceExtractor, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Evidence:
    """What several extractors found for the same pairs, pair by pair, best first.

    Attributes:
        table: The records; references are numbered by each extractor for itself.
        extractors: Which extractor found each, as place among the source's names, ``(n,)`` int16.
    """

    table: EvidenceTable
    extractors: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.table)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Evidence:
        """Returns some of the records, by index or mask, in the given order."""
        return Evidence(self.table.take(chosen), self.extractors[chosen])

    def best(self, limit: int) -> Evidence:
        """Returns the best records of each pair, at most ``limit``."""
        return self.take(self.table.ranks < limit)

    def of(self, row: int, column: int | None = None) -> Evidence:
        """Returns the records of one user, or of one pair."""
        chosen = self.table.rows == row
        if column is not None:
            chosen &= self.table.columns == column
        return self.take(chosen)


class EvidenceSource:
    """Asks extractors, each fitted and attached, and brings together what they find.

    Args:
        extractors: The extractors by name, in the order of the pipeline.
        limits: Most records of a pair that one extractor may give, by name; unlimited where a name
            is missing.
    """

    def __init__(
        self,
        extractors: Mapping[str, EvidenceExtractor],
        *,
        limits: Mapping[str, int] | None = None,
    ) -> None:
        self.extractors = dict(extractors)
        self.names = tuple(self.extractors)
        self.limits = dict(limits or {})

    def find(
        self,
        histories: Histories,
        candidates: IntArray,
        *,
        own: NDArray[np.bool_] | None = None,
    ) -> Evidence:
        """Finds evidence for pairs of users and items.

        Args:
            histories: The users.
            candidates: Items for each of them, ``(len(histories), C)``.
            own: Pairs of training examples whose own interaction must not count, ``(n, C)``:
                extractors with a method ``extract_without_own`` leave it out, others cannot.
        """
        tables, owners = [], []
        for number, (name, extractor) in enumerate(self.extractors.items()):
            without = None if own is None else getattr(extractor, "extract_without_own", None)
            if without is None:
                table = extractor.extract(histories, candidates)
            else:
                table = without(histories, candidates, own)
            if name in self.limits:
                table = table.best(self.limits[name])
            tables.append(table)
            owners.append(np.full(len(table), number, np.int16))
        if not tables:
            return Evidence(EvidenceTable.empty(), np.empty(0, np.int16))
        owner = np.concatenate(owners)
        rows, columns, references, scores, support = (
            np.concatenate([getattr(table, column) for table in tables])
            for column in ("rows", "columns", "references", "scores", "support")
        )
        order = np.lexsort((owner, -scores, columns, rows))
        merged = EvidenceTable(rows, columns, references, scores, support)
        return Evidence(merged.take(order), owner[order])

    def facts(self, evidence: Evidence) -> list[Fact]:
        """Returns the facts of records, in their order."""
        found: list[Fact | None] = [None] * len(evidence)
        for number, extractor in enumerate(self.extractors.values()):
            places = np.flatnonzero(evidence.extractors == number)
            if len(places):
                # Users and items have much in common: each thing is worded once.
                some, which = np.unique(evidence.table.references[places], return_inverse=True)
                facts = extractor.facts(some)
                for place, number_of in zip(places.tolist(), which.tolist(), strict=True):
                    found[place] = facts[number_of]
        return [fact for fact in found if fact is not None]

    def vectors(self, evidence: Evidence, dim: int) -> FloatArray:
        """Returns the vectors of records in the space of the items' latents, ``(n, dim)``."""
        out = np.zeros((len(evidence), dim), np.float32)
        for number, extractor in enumerate(self.extractors.values()):
            places = np.flatnonzero(evidence.extractors == number)
            if len(places):
                out[places] = extractor.vectors(evidence.table.references[places])
        return out


class ShuffledEvidence(EvidenceSource):
    """The same with every item's evidence dealt to another item: a control.

    What is left of a gain with it does not come from what the evidence says of an item. Records
    that cite the very item to which they are dealt are left out, as an item never speaks for
    itself.

    Args:
        source: The extractors.
        order: Item whose evidence each gets, ``(n_items,)``.
    """

    def __init__(self, source: EvidenceSource, order: NDArray[np.int64]) -> None:
        super().__init__(source.extractors, limits=source.limits)
        self._order = order.astype(np.int32)

    def find(
        self,
        histories: Histories,
        candidates: IntArray,
        *,
        own: NDArray[np.bool_] | None = None,
    ) -> Evidence:
        # ``own`` is of the candidates, and what is found of others, so nothing of it is left out.
        dealt = np.where(candidates >= 0, self._order[np.maximum(candidates, 0)], candidates)
        found = super().find(histories, dealt.astype(np.int32))
        cited = np.array([fact.item for fact in self.facts(found)], np.int64)
        return found.take(cited != candidates[found.table.rows, found.table.columns])
