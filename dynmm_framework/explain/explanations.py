"""Explanations: recommendations with their evidence and a sentence that it holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dynmm_framework.artifacts.atomic import storage_errors
from dynmm_framework.config.explain import ExplainBlock
from dynmm_framework.data.tables import Histories
from dynmm_framework.errors import ArtifactError
from dynmm_framework.explain.cases import (
    Case,
    Titles,
    cited_of,
    make_cases,
    record_of,
    shown_places,
)
from dynmm_framework.explain.claims import Checker, Claim, ids_of
from dynmm_framework.explain.faithfulness import weighs_evidence
from dynmm_framework.explain.rationale import Phrasebook, Rationale
from dynmm_framework.explain.source import Evidence, EvidenceSource
from dynmm_framework.explain.vocabulary import Vocabulary
from dynmm_framework.explain.writers import TemplateWriter, Writer, words_allowed
from dynmm_framework.protocols import IntArray

EXPLANATIONS_FILE = "explanations.parquet"

SCHEMA = pa.schema(
    {
        "user": pa.string(),
        "item": pa.string(),
        "title": pa.string(),
        "rank": pa.int32(),
        "score": pa.float32(),
        "form": pa.string(),
        "sentence": pa.string(),
        "claims": pa.string(),
        "evidence": pa.string(),
        "writer": pa.string(),
        "fallback": pa.string(),
        "draft": pa.string(),
    },
    metadata={"schema_version": "1"},
)
"""Columns of ``explanations.parquet``; ``claims`` and ``evidence`` hold JSON lists."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """One recommendation, its evidence and its sentence.

    Attributes:
        case: The item and the evidence.
        score: The recommender's score.
        rationale: The sentence and its claims.
    """

    case: Case
    score: float
    rationale: Rationale


class Explainer:
    """Explains recommendations by what extractors find.

    Args:
        source: The extractors.
        items: The dataset's item table.
        block: Settings.
        recommender: What recommends. If it tells how much each record that it reads adds to a score
            (``evidence_for`` and ``evidence_parts``), the weightiest are cited.
    """

    def __init__(
        self,
        source: EvidenceSource,
        items: pa.Table,
        block: ExplainBlock,
        recommender: Any = None,
    ) -> None:
        self.source, self.items, self.block = source, items, block
        self._reader = recommender if weighs_evidence(recommender) else None
        self.ids: list[str] = [str(given) for given in items["id"].to_pylist()]

    @cached_property
    def titles(self) -> Titles:
        """Titles of items as sentences write them."""
        given = self.items.column_names
        titles = self.items["title"].to_pylist() if "title" in given else [None] * len(self.ids)
        return Titles(titles, self.ids, self.block.wording)

    @cached_property
    def checker(self) -> Checker:
        """Reads sentences, by whomever they are."""
        vocabulary = Vocabulary.of(self.items, self.titles)
        return Checker(vocabulary, allowed=words_allowed(self.block.wording))

    @cached_property
    def template(self) -> TemplateWriter:
        """Writes by templates."""
        return TemplateWriter(
            Phrasebook(self.block.wording, self.titles),
            self.checker,
            forms=self.block.forms,
            most=self.block.reasons,
        )

    def cases(
        self, histories: Histories, items: IntArray, *, known: Evidence | None = None
    ) -> list[Case]:
        """Returns recommendations with their evidence; see :func:`make_cases`."""
        weights = None
        if self._reader is not None:
            asked = np.maximum(items, 0)
            known = self._reader.evidence_for(histories, asked) if known is None else known
            weights = self._reader.evidence_parts(histories, asked, known)
        return make_cases(
            self.source,
            histories,
            items,
            self.titles,
            per_item=self.block.per_item,
            least_score=self.block.least_score,
            known=known,
            weights=weights,
        )

    def shown(
        self, histories: Histories, items: IntArray, known: Evidence
    ) -> dict[tuple[int, int], list[int]]:
        """Returns which records explanations show of each pair; see :func:`shown_places`."""
        weights = None
        if self._reader is not None:
            weights = self._reader.evidence_parts(histories, items, known)
        block = self.block
        return shown_places(
            known, per_item=block.per_item, least_score=block.least_score, weights=weights
        )

    def explain(
        self,
        histories: Histories,
        items: IntArray,
        scores: Any,
        *,
        writer: Writer | None = None,
        ranks: Sequence[int] | None = None,
    ) -> list[Explanation]:
        """Explains recommendations, user by user, best first.

        Args:
            histories: The users.
            items: What is recommended to each, ``(len(histories), k)``; -1 where there is less.
            scores: The recommender's scores of them, likewise.
            writer: Who writes; templates by default.
            ranks: Ranks of the columns, if they are not 1, 2, 3 …
        """
        cases = self.cases(histories, items)
        of_column = {(case.row, case.item): case.rank - 1 for case in cases}
        if ranks is not None:
            cases = [replace(case, rank=int(ranks[case.rank - 1])) for case in cases]
        written = (writer or self.template).write(cases)
        return [
            Explanation(case, float(scores[case.row, of_column[case.row, case.item]]), rationale)
            for case, rationale in zip(cases, written, strict=True)
        ]

    def record(self, explanation: Explanation, user: str) -> dict[str, Any]:
        """Returns an explanation as plain data, as it is stored and shown."""
        case, rationale = explanation.case, explanation.rationale
        return {
            "user": user,
            "item": self.ids[case.item],
            "title": case.title,
            "rank": case.rank,
            "score": explanation.score,
            "form": rationale.form,
            "sentence": rationale.sentence,
            "claims": [claim_record(claim) for claim in rationale.claims],
            "evidence": [record_of(cited, self.ids) for cited in case.evidence],
            "writer": rationale.writer,
            "fallback": rationale.fallback,
            "draft": rationale.draft,
        }


def claim_record(claim: Claim) -> dict[str, Any]:
    """Returns a claim as plain data."""
    return {
        "kind": claim.kind,
        "text": claim.text,
        "start": claim.start,
        "end": claim.end,
        "evidence": list(claim.evidence),
    }


def to_table(records: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Puts explanations, as plain data, into a table."""
    rows = [
        {
            **record,
            "claims": json.dumps(record["claims"], ensure_ascii=False),
            "evidence": json.dumps(record["evidence"], ensure_ascii=False),
        }
        for record in records
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def read_explanations(path: Path) -> list[dict[str, Any]]:
    """Returns the stored explanations, as plain data.

    Raises:
        ArtifactError: If the file is damaged.
    """
    try:
        with storage_errors(path, action="read"):
            rows = pq.read_table(path).to_pylist()
        return [
            {
                **row,
                "claims": json.loads(row["claims"]),
                "evidence": json.loads(row["evidence"]),
            }
            for row in rows
        ]
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(
            f"cannot read {path}: it is not a whole table of explanations ({error})",
            hint="The file is damaged; run the same pipeline again, which puts it back.",
        ) from error


def stored_case(record: Mapping[str, Any], places: Mapping[str, int], titles: Titles) -> Case:
    """Restores the case of a stored explanation.

    Args:
        record: The explanation, as plain data.
        places: Item numbers by identifier.
        titles: Titles of items.
    """
    item = places[record["item"]]
    cited = tuple(cited_of(entry, places) for entry in record["evidence"])
    return Case(0, item, titles[item], cited, rank=int(record["rank"]))


def cited_things(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns what a stored explanation's sentence cites, named alike wherever it is the same."""
    used = {place for claim in record["claims"] for place in claim["evidence"]}
    return [
        (entry["kind"], entry["group"], entry["item"] or entry["name"] or entry["passage"])
        for entry in record["evidence"]
        if entry["id"] in used
    ]


__all__ = [
    "EXPLANATIONS_FILE",
    "Explainer",
    "Explanation",
    "cited_things",
    "ids_of",
    "read_explanations",
    "stored_case",
    "to_table",
]
