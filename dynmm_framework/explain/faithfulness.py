"""Evidence taken away: what the scores of a prompt make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.evaluation.explanation import Removals, target_probability
from dynmm_framework.explain.source import Evidence, EvidenceSource
from dynmm_framework.protocols import FloatArray, IntArray

Shown = Callable[[Histories, IntArray, Evidence], Mapping[tuple[int, int], Sequence[int]]]
"""Gives, by row and column, the places of the records that an explanation of the pair shows."""


@runtime_checkable
class ReadsEvidence(Protocol):
    """A prompt that can be asked for its scores with evidence of one's choosing."""

    def score_with(
        self, histories: Histories, candidates: IntArray, evidence: Evidence
    ) -> FloatArray:
        """Scores candidates as if this evidence, and no other, had been found.

        Args:
            histories: The users.
            candidates: Items for each, ``(len(histories), C)``.
            evidence: Records by row and column; empty for none.

        Returns:
            ``(len(histories), C)``.
        """
        ...


def reads_evidence(recommender: Any) -> bool:
    """Tells whether a recommender can be scored with chosen evidence."""
    return isinstance(recommender, ReadsEvidence)


def weighs_evidence(recommender: Any) -> bool:
    """Tells whether a recommender says how much each record that it reads adds to a score."""
    return all(
        callable(getattr(recommender, name, None)) for name in ("evidence_for", "evidence_parts")
    )


def evidence_of(
    recommender: Any, source: EvidenceSource, histories: Histories, candidates: IntArray
) -> Evidence:
    """Returns the evidence that a prompt reads: all that is found, or as much as it takes in."""
    asked: Callable[..., Evidence] | None = getattr(recommender, "evidence_for", None)
    if callable(asked):
        return asked(histories, candidates)
    return source.find(histories, candidates)


def measure_removals(
    recommender: ReadsEvidence,
    source: EvidenceSource,
    histories: Histories,
    candidates: IntArray,
    pairs: Sequence[tuple[int, int]],
    *,
    rng: np.random.Generator,
) -> Removals:
    """Scores users with evidence and with some of it taken away.

    What a pair cites are the records of its item that the prompt reads. Pairs without any are left
    out: nothing can be taken from them. Random evidence is drawn from the other records that the
    prompt reads of the same user, as many as are cited; where there are fewer others, cited ones
    fill up.

    Args:
        recommender: The prompt.
        source: The extractors.
        histories: The users.
        candidates: Items for each, ``(len(histories), C)``.
        pairs: Users, by row, and items, by column.
        rng: Draws the random evidence.
    """
    evidence = evidence_of(recommender, source, histories, candidates)
    rows = evidence.table.rows
    drawn = [
        (pair, places, _drawn(np.flatnonzero(rows == pair[0]), places, rng))
        for pair in pairs
        if len(places := _own(evidence, pair))
    ]
    return _removals(recommender, histories, candidates, evidence, drawn)


@dataclass(frozen=True, eq=False)
class AmongOwn:
    """What a pair's explanation shows, against other records of the same pair.

    Attributes:
        removals: A of each pair; random are records of its own item that are not shown.
        shortened: Pairs that had fewer such records than are shown: of what is shown only the first
            so many were taken, and random are all the others.
        left_out: Pairs whose records are all shown, so that there is nothing to compare with.
    """

    removals: Removals
    shortened: int
    left_out: int


def measure_among_own(
    recommender: ReadsEvidence,
    source: EvidenceSource,
    histories: Histories,
    candidates: IntArray,
    pairs: Sequence[tuple[int, int]],
    *,
    shown: Shown,
    rng: np.random.Generator,
) -> AmongOwn:
    """Scores users without what explanations show, and without other records of the same item.

    The stricter control: that evidence of other items does not help an item can follow from how a
    score is made, so here both are of the item itself. Cited is what its explanation shows, random
    are as many of the records that the prompt reads of the item and that are not shown.

    Args:
        recommender: The prompt.
        source: The extractors.
        histories: The users.
        candidates: Items for each, ``(len(histories), C)``.
        pairs: Users, by row, and items, by column.
        shown: Gives what explanations show.
        rng: Draws the random evidence.
    """
    evidence = evidence_of(recommender, source, histories, candidates)
    places = shown(histories, candidates, evidence)
    drawn, shortened, left_out = [], 0, 0
    for pair in pairs:
        own, cited = _own(evidence, pair), np.asarray(places.get(pair, ()), np.int64)
        if not len(cited):
            continue  # its explanation shows nothing
        others = np.setdiff1d(own, cited)
        left_out += not len(others)
        shortened += 0 < len(others) < len(cited)
        if length := min(len(cited), len(others)):
            random = np.sort(rng.permutation(others)[:length])
            drawn.append((pair, np.sort(cited[:length]), random))
    found = _removals(recommender, histories, candidates, evidence, drawn)
    return AmongOwn(found, shortened, left_out)


def _own(evidence: Evidence, pair: tuple[int, int]) -> NDArray[np.int64]:
    """Returns the places of a pair's records."""
    table = evidence.table
    return np.flatnonzero((table.rows == pair[0]) & (table.columns == pair[1]))


def _removals(
    recommender: ReadsEvidence,
    histories: Histories,
    candidates: IntArray,
    evidence: Evidence,
    drawn: Sequence[tuple[tuple[int, int], NDArray[np.int64], NDArray[np.int64]]],
) -> Removals:
    """Scores pairs with their cited and their random evidence removed, and with it alone.

    Args:
        recommender: The prompt.
        histories: The users.
        candidates: Items for each, ``(len(histories), C)``.
        evidence: All records that the prompt reads.
        drawn: Each pair by row and column, the places of what it cites, and of random records.
    """
    rows = np.array([row for (row, _), _, _ in drawn], np.int64)
    columns = np.array([column for (_, column), _, _ in drawn], np.int64)
    mine = [np.flatnonzero(evidence.table.rows == row) for row in rows]
    chosen, random = [cited for _, cited, _ in drawn], [places for _, _, places in drawn]

    def probability(kept: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        scores = recommender.score_with(
            histories.take(rows), candidates[rows], _dealt(evidence, kept)
        )
        return target_probability(np.asarray(scores), columns)

    if not len(rows):
        empty = np.empty(0)
        return Removals(empty, empty, empty, empty, empty, empty, rows)
    return Removals(
        whole=probability(mine),
        none=probability([places[:0] for places in mine]),
        without_cited=probability([np.setdiff1d(a, b) for a, b in zip(mine, chosen, strict=True)]),
        cited_alone=probability(chosen),
        without_random=probability([np.setdiff1d(a, b) for a, b in zip(mine, random, strict=True)]),
        random_alone=probability(random),
        users=rows,
    )


def _drawn(
    places: NDArray[np.int64], cited: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draws as many records as are cited, others first."""
    others = rng.permutation(np.setdiff1d(places, cited))
    return np.sort(np.concatenate([others, rng.permutation(cited)])[: len(cited)])


def _dealt(evidence: Evidence, kept: Sequence[NDArray[np.int64]]) -> Evidence:
    """Returns records for pairs in their order: a user may be asked about more than once."""
    places = np.concatenate([np.empty(0, np.int64), *kept])
    out = evidence.take(places)
    rows = np.repeat(np.arange(len(kept)), [len(part) for part in kept]).astype(np.int64)
    return Evidence(replace(out.table, rows=rows), out.extractors)
