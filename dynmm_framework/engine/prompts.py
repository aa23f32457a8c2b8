"""What the prompts of a run hold, cost and bring, from the records of its prompt stages.

What makes a component take part is its record, not its name: a stage whose record ``prompt`` has
all that :class:`~dynmm_framework.engine.metrics.PromptResults` tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dynmm_framework.engine.metrics import PromptResults

if TYPE_CHECKING:
    from dynmm_framework.engine.stages import Workbench

RECORD = "prompt"
FIGURES = frozenset(PromptResults.model_fields)


def prompt_results(bench: Workbench) -> dict[str, PromptResults]:
    """Returns what each prompt of a run told, by label; none of those that told nothing."""
    told: dict[str, list[Mapping[str, Any]]] = {}
    for stage in bench.plan.of_kind("prompt"):
        record = bench.manifest(stage).meta.get(RECORD)
        if isinstance(record, Mapping) and record.keys() >= FIGURES:
            told.setdefault(stage.label, []).append(record)
    return {label: over_seeds(records) for label, records in told.items()}


def over_seeds(records: Sequence[Mapping[str, Any]]) -> PromptResults:
    """Returns the means of one recommender's records, one for each model seed."""
    first = records[0]
    segments = dict.fromkeys(name for one in records for name in one["tokens_of_a_prompt"])

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(records)

    figures = ("seconds_a_batch", "gamma", "ndcg_before", "ndcg_held_out", "ndcg_alone")
    return PromptResults(
        soft_tokens=first["soft_tokens"],
        tokens_of_a_prompt={
            name: mean([one["tokens_of_a_prompt"].get(name, 0.0) for one in records])
            for name in segments
        },
        batch=first["batch"],
        validation_targets=sum(one["validation_targets"] for one in records),
        **{
            name: mean([one[name] for one in records])
            for name in (*figures, "standard_error_of_the_gain")
        },
    )
