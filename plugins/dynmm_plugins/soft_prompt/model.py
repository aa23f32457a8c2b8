"""The soft prompt as an adapter."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.explain.source import EvidenceSource
from dynmm_framework.language.retrieval import Asked, Retrieval, Vectors
from dynmm_framework.language.titles import titles_of
from dynmm_framework.latents.inputs import Prefixes, draw_prefixes
from dynmm_framework.protocols import Context, Validator
from dynmm_framework.training.loop import TrainingLog, train
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.state import load_module_state, module_state
from dynmm_plugins.soft_prompt.config import SoftPromptConfig
from dynmm_plugins.soft_prompt.grounds import with_base
from dynmm_plugins.soft_prompt.mixing import (
    Mixture,
    add_evidence,
    add_language_model,
    retrieved_users,
)
from dynmm_plugins.soft_prompt.serving import ServedPrompt
from dynmm_plugins.soft_prompt.task import PromptTask

DRAWN = 8
"""Training prefixes that are tried for each example: not all have their item retrieved."""


class SoftPrompt(ServedPrompt):
    """A frozen language model re-ranks what latents retrieve (DynMM-Explain-LLMRec, section 4.4).

    The user, the newest items of the history, evidence and the candidates enter as soft tokens,
    made by two-layer projectors; titles stand before items as words. The score of a candidate is
    retrieval's plus η times that of the evidence's own head plus γ times the language model's.
    Each weight is fitted on validation users, and 0 where others than it was fitted on do not
    clearly gain: η first, over retrieval, then γ, over both. Where both are 0, the order is
    retrieval's own, and where γ is, the language model is not read at all.

    Differences from the paper: a ranking is made from scores, never parsed from text. Training
    starts from the ranking that is there, as the head starts from 0, on prefixes whose item is
    retrieved. Candidates stand in the
    prompt in an order that depends on the seed and on nothing else, so that no score can come from
    their place. Projectors and head are trained, by cross-entropy over the candidates (``slots``)
    or of the target's title (``log_prob``); gradients flow through the language model, which stays
    as it is. Users are their histories. Evidence has a head of its own besides, the sum of what
    each record says, so that what it adds is told apart from what the language model adds; it also
    stands in the soft token of its candidate. The sign of equation 5 is the other one (``faith``).

    Complexity: a pass over history + candidates tokens a user; inner products and looking evidence
    up where γ is 0.

    Args:
        config: Settings.
    """

    def __init__(self, config: SoftPromptConfig) -> None:
        super().__init__(config)
        self.training_log: TrainingLog | None = None

    def fit(
        self,
        data: TrainingData,
        base: Vectors,
        ctx: Context,
        *,
        evidence: EvidenceSource | None = None,
    ) -> None:
        """Trains projectors and heads on frozen vectors and a frozen language model, then weights.

        Raises:
            StageError: If no user has two training interactions, or prompts do not fit the
                language model's context.
        """
        config = self.config
        self._ctx, self._state, self._weights = ctx, {}, Mixture()
        newest = draw_prefixes(data.histories, 1, rng=ctx.rng("prefixes"))
        if not len(newest.targets):
            raise StageError(
                f"stage {ctx.stage}: no user has two training interactions, so there is no next "
                "item to learn",
                hint="Check the filters and the split.",
            )
        chosen = ctx.rng("examples").permutation(len(newest.targets))[: config.examples]
        self._titles = titles_of(data.items)
        untitled = sum(not title for title in self._titles)
        if untitled:
            ctx.log(f"{untitled:,} of {data.n_items:,} items have no title: soft tokens alone")
        self._places = ctx.rng("order of candidates").random(data.n_items)
        self._retrieval = Retrieval.measured(base, newest.histories.take(np.sort(chosen)))
        self._ground(evidence)
        found = None
        if ctx.validator is not None:
            found = retrieved_users(ctx.validator, self._retrieval, config, ctx)
        if self._grounds is not None and config.evidence_head:
            self._grounds.learn(data, ctx)
            if found is not None and self._grounds.head is not None:
                asked = found[1]
                scores = self._grounds.scores(self._grounds.question(asked))
                self._weights = add_evidence(asked, scores, rng=ctx.rng("evidence/folds"), ctx=ctx)
        self._learn_prompt(data, found, ctx)

    def _examples(self, data: TrainingData, ctx: Context) -> tuple[Prefixes, Asked]:
        """Draws training prefixes whose item is retrieved, as those are that will be asked.

        Where retrieval has not found an item, putting it among the candidates would teach to look
        for what retrieval likes least, since that is what would tell the item from the others.
        """
        config, retrieval = self.config, self._stands()
        most = config.examples * DRAWN
        per_user = -(-most // len(data.histories))
        drawn = draw_prefixes(data.histories, per_user, rng=ctx.rng("training prefixes"))
        order = ctx.rng("training examples").permutation(len(drawn.targets))[:most]
        drawn = drawn.take(order)
        size = min(config.candidates, len(retrieval.items))
        asked = retrieval.asked(drawn.histories, size, targets=drawn.targets)
        kept = np.flatnonzero(asked.targets >= 0)
        ctx.log(
            f"of {len(asked):,} training prefixes {len(kept):,} have their item retrieved, "
            f"{min(len(kept), config.examples):,} of which are learned"
        )
        kept = kept[: config.examples]
        return drawn.take(kept), asked.take(kept)

    def _learn_prompt(
        self,
        data: TrainingData,
        found: tuple[Validator, Asked, NDArray[np.int64]] | None,
        ctx: Context,
    ) -> None:
        """Trains projectors and head on top of what there is, and fits γ."""
        config, present = self.config, self._weights
        with seeded(ctx, "initialise"):
            scorer = self._read(ctx)
        drawn, wanted = self._examples(data, ctx)
        if not len(wanted):
            ctx.log("nothing to learn: γ is 0 and the language model is not asked")
            return
        examples = self._question(wanted, own=drawn.chosen_later(wanted.candidates))
        head = None if self._grounds is None else self._grounds.head
        if scorer.parts.records is not None and examples.records is not None:
            if head is None:
                scorer.parts.records.measure(examples.records)
            else:  # what it has learned of records is where the prompt begins
                load_module_state(scorer.parts.records, module_state(head.records))
        examples = with_base(examples, self._mixed(examples))
        if config.nlp_weight and self._grounds is not None and scorer.llm is not None:
            texts = self._grounds.sentences(drawn.histories, drawn.targets, data.items)
            examples = replace(examples, texts=tuple(map(scorer.sentence, texts)))
        self._weights = replace(present, language_model=1.0)
        task = PromptTask(scorer, examples, self.score)
        if found is None:
            self.training_log = train(task, config, ctx, validate=False)
            self._weights = present
            return
        validator, asked, sample = found
        self.training_log = train(task, config, ctx, validator=validator)
        question = self._question(asked.take(sample))
        self._weights = present
        started = time.perf_counter()
        scores = self._scores(question)
        seconds = (time.perf_counter() - started) / len(question) * config.batch_size
        self._weights = add_language_model(
            present,
            question.asked,
            before=self._mixed(question),
            scores=scores,
            rng=ctx.rng("folds"),
            ctx=ctx,
            length=scorer.length(question.asked, seconds_a_batch=seconds),
        )
