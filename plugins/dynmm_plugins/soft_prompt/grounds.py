"""Evidence as a prompt has it: what finds it, how much of it is read, and its own head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dynmm_framework.config.explain import Wording
from dynmm_framework.data.tables import Histories, TrainingData
from dynmm_framework.explain.cases import Titles, make_cases
from dynmm_framework.explain.rationale import Phrasebook
from dynmm_framework.explain.source import Evidence, EvidenceSource
from dynmm_framework.language.retrieval import Asked, Retrieval
from dynmm_framework.language.titles import titles_of
from dynmm_framework.latents.inputs import draw_prefixes
from dynmm_framework.protocols import Context, FloatArray, IntArray, State
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.state import load_module_state, module_state
from dynmm_plugins.soft_prompt.config import SoftPromptConfig
from dynmm_plugins.soft_prompt.learning import learn_evidence
from dynmm_plugins.soft_prompt.network import EvidenceHead
from dynmm_plugins.soft_prompt.records import Question, Records, best_of_each, gather, places_of


class Grounds:
    """Asks extractors about users and candidates, and scores candidates by what they find.

    Args:
        source: The extractors.
        retrieval: What hands candidates over.
        config: Settings of the prompt.

    Attributes:
        head: The evidence's own head; ``None`` until learned or restored.
    """

    def __init__(
        self, source: EvidenceSource, retrieval: Retrieval, config: SoftPromptConfig
    ) -> None:
        self.source, self.config = source, config
        self.head: EvidenceHead | None = None
        self._retrieval = retrieval

    def find(
        self, histories: Histories, candidates: IntArray, *, own: NDArray[np.bool_] | None = None
    ) -> Evidence:
        """Finds what is read: of each pair, the best records of each extractor.

        Args:
            histories: The users.
            candidates: Items for each, ``(len(histories), C)``.
            own: Of training prefixes, the pairs that training itself has counted, ``(n, C)``; what
                they add to a dictionary's numbers is left out where an extractor can.
        """
        found = self.source.find(histories, candidates, own=own)
        return best_of_each(found, self.config.evidence_per_item)

    def question(
        self,
        asked: Asked,
        evidence: Evidence | None = None,
        *,
        own: NDArray[np.bool_] | None = None,
    ) -> Question:
        """Adds evidence to what is asked: exactly what is given, or else what is found."""
        if evidence is None:
            evidence = self.find(asked.histories, asked.candidates, own=own)
        records = gather(
            self.source,
            evidence,
            asked.histories,
            candidates=asked.candidates.shape[1],
            dim=self._retrieval.items.shape[1],
            standardise=self._retrieval.standardised_items,
        )
        return Question(asked, records)

    def nothing(self, asked: Asked) -> Question:
        """Adds no record at all to what is asked."""
        none = Records.none(*asked.candidates.shape, dim=self._retrieval.items.shape[1])
        return Question(asked, none)

    def sentences(
        self, histories: Histories, items: NDArray[np.int64], table: pa.Table
    ) -> list[str]:
        """Returns what templates say of one item for each user by its evidence, ``(n,)``.

        Args:
            histories: Training prefixes.
            items: The item that follows each.
            table: The item table, for titles.
        """
        ids = [str(value) for value in table["id"].to_pylist()]
        titles = Titles(titles_of(table), ids)
        asked = items[:, None].astype(np.int32)
        known = self.find(histories, asked, own=np.ones(asked.shape, np.bool_))
        cases = make_cases(self.source, histories, asked, titles, known=known)
        book = Phrasebook(Wording(), titles)
        return [book.rationale(case).sentence for case in cases]

    # The evidence's own head.

    def learn(self, data: TrainingData, ctx: Context) -> None:
        """Trains the head on training prefixes whose item is retrieved; none if they are few.

        What the same users went on to choose is in the dictionaries, and is left out where an
        extractor can: the head must not learn to trust evidence that knows the answer.
        """
        limit = self.config.evidence_examples
        per_user = max(1, -(-limit // max(len(data.histories), 1)))
        drawn = draw_prefixes(data.histories, per_user, rng=ctx.rng("evidence"))
        chosen = np.sort(ctx.rng("evidence/examples").permutation(len(drawn.targets))[:limit])
        drawn = drawn.take(chosen)
        asked = self._retrieval.asked(
            drawn.histories, self.config.candidates, targets=drawn.targets
        )
        kept = np.flatnonzero(asked.targets >= 0)
        retrieved, drawn = asked.take(kept), drawn.take(kept)
        with seeded(ctx, "initialise evidence"):
            head = self._new_head().to(ctx.device)
        question = self.question(retrieved, own=drawn.chosen_later(retrieved.candidates))
        items = self._retrieval.standard_items
        if learn_evidence(head, items, question, self.config, ctx, asked=len(asked)):
            self.head = head

    def parts(self, question: Question) -> FloatArray:
        """Returns each record's part of its candidate's score by the head, ``(n, C, K)``."""
        assert self.head is not None
        assert question.records is not None
        latents = self._retrieval.standard_items[question.asked.candidates]
        return self.head.all_parts(question.records, latents)

    def scores(self, question: Question) -> FloatArray:
        """Returns the candidates' scores by the head, ``(n, C)``."""
        scores: FloatArray = self.parts(question).sum(axis=2)
        return scores

    def parts_of(self, asked: Asked, evidence: Evidence) -> FloatArray:
        """Returns what each record adds to its candidate's score, ``(len(evidence),)``."""
        table = evidence.table
        parts = self.parts(self.question(asked, evidence))
        out: FloatArray = parts[table.rows, table.columns, places_of(evidence)]
        return out

    # State.

    def state(self) -> State:
        """Returns what the head has learned; empty without one."""
        return {} if self.head is None else module_state(self.head)

    def load(self, state: State, *, device: str) -> None:
        """Restores what :meth:`state` returned."""
        if state:
            self.head = self._new_head()
            load_module_state(self.head, state)
            self.head.to(device).eval()

    def _new_head(self) -> EvidenceHead:
        return EvidenceHead(
            self._retrieval.items.shape[1], len(self.source.names), self.config.evidence_width
        )


def with_base(question: Question, base: FloatArray) -> Question:
    """Returns the same on other scores to begin with, ``(n, C)``."""
    return replace(question, asked=replace(question.asked, base=base))
