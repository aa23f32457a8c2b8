"""Evidence taken away: what the scores of a prompt make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.evaluation.explanation import Removals, target_probability
from dynmm_framework.explain.source import Evidence, EvidenceSource
from dynmm_framework.protocols import FloatArray, IntArray


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
    table = evidence.table
    cited = [
        np.flatnonzero((table.rows == row) & (table.columns == column)) for row, column in pairs
    ]
    asked = [(pair, places) for pair, places in zip(pairs, cited, strict=True) if len(places)]
    rows = np.array([row for (row, _), _ in asked], np.int64)
    columns = np.array([column for (_, column), _ in asked], np.int64)
    mine = [np.flatnonzero(table.rows == row) for row in rows]
    drawn = [_drawn(all_of, places, rng) for all_of, (_, places) in zip(mine, asked, strict=True)]
    chosen = [places for _, places in asked]

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
        without_random=probability([np.setdiff1d(a, b) for a, b in zip(mine, drawn, strict=True)]),
        random_alone=probability(drawn),
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
