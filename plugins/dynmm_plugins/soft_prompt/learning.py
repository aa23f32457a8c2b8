"""Training of the evidence's own head, by the same loop as everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np

from dynmm_framework.data.tables import Histories
from dynmm_framework.language.retrieval import ndcg_among
from dynmm_framework.protocols import Context, FloatArray, Validator
from dynmm_framework.training.loop import train
from dynmm_plugins.soft_prompt.config import SoftPromptConfig
from dynmm_plugins.soft_prompt.network import EvidenceHead
from dynmm_plugins.soft_prompt.records import Question
from dynmm_plugins.soft_prompt.task import EvidenceTask

LOOP = {
    "epochs": 40,
    "batch_size": 64,
    "learning_rate": 3e-3,
    "weight_decay": 1e-2,
    "patience": 5,
    "checkpoint_seconds": 10.0,
}
"""Settings of the loop that differ from those of the language model's: a pass takes a second."""
HELD_OUT = 5
"""Every so manieth training prefix stops the training early; validation users are not asked."""
LEAST_EXAMPLES = 50
"""Fewest prefixes whose item is retrieved to learn from."""


def learn_evidence(
    head: EvidenceHead,
    items: FloatArray,
    examples: Question,
    config: SoftPromptConfig,
    ctx: Context,
    *,
    asked: int,
) -> bool:
    """Trains the evidence's own head on what retrieval hands over; tells whether it could.

    Args:
        head: What is trained; as it was where there is too little to learn from.
        items: Standardised latents of all items, ``(n_items, d)``.
        examples: Training prefixes and their records; those without their target among the
            candidates tell nothing.
        config: Settings of the prompt.
        ctx: The stage's context.
        asked: Number of prefixes for which items were retrieved, with their target or without.
    """
    retrieved = np.flatnonzero(examples.asked.targets >= 0)
    assert examples.records is not None
    told = f"evidence: of {asked:,} training prefixes {len(retrieved):,} have their item"
    if len(retrieved) < LEAST_EXAMPLES:
        ctx.log(f"{told} retrieved, too few to learn from: evidence has no score of its own")
        return False
    ctx.log(f"{told} retrieved; records for {_share(examples):.0%} of their candidates")
    retrieved = ctx.rng("evidence/held out").permutation(retrieved)
    held_out, kept = np.split(retrieved, [len(retrieved) // HELD_OUT])
    part = examples.take(np.sort(kept))
    assert part.records is not None
    head.records.measure(part.records)
    loop = config.model_copy(update=LOOP)
    judge = _HeldOut(head, items, examples.take(np.sort(held_out)))
    train(
        EvidenceTask(head, items, part, loop),
        loop,
        ctx,
        name="evidence",
        validator=cast(Validator, judge),
        record="training_evidence",
    )
    return True


class _HeldOut:
    """Validates by held-out prefixes, whose records are there already."""

    metric = "ndcg"
    higher_is_better = True

    def __init__(self, head: EvidenceHead, items: FloatArray, examples: Question) -> None:
        self._head, self._examples = head, examples
        self._latents = items[examples.asked.candidates]

    def __call__(self, score: Callable[[Histories], FloatArray]) -> Mapping[str, float]:
        asked, records = self._examples.asked, self._examples.records
        assert records is not None
        mixed = asked.base + self._head.all_parts(records, self._latents).sum(axis=2)
        return {self.metric: float(ndcg_among(mixed, asked.targets).mean())}


def _share(examples: Question) -> float:
    """Returns the share of pairs that have a record."""
    assert examples.records is not None
    return float(examples.records.present.any(axis=2).mean())
