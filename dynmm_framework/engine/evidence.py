"""The stage of evidence, and its extractors as one source: for prompts, and to explain with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dynmm_framework.artifacts.arrays import load_arrays
from dynmm_framework.config.content import Control
from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.engine.context import RunContext, Surroundings, connected
from dynmm_framework.engine.device import guess_device
from dynmm_framework.engine.fitting import STATE_FILE
from dynmm_framework.engine.seeds import spawn_rng
from dynmm_framework.errors import ArtifactError, PluginError
from dynmm_framework.explain.refresh import FreshEvidence
from dynmm_framework.explain.source import EvidenceSource, ShuffledEvidence
from dynmm_framework.protocols import Retriever

if TYPE_CHECKING:
    from dynmm_framework.engine.results import Run

EVIDENCE = "evidence"
"""Folder of a run's extractors, by name and model seed; also begins their labels."""


def offered(
    method: Callable[..., Any], source: EvidenceSource | None
) -> Mapping[str, EvidenceSource]:
    """Returns the keyword ``evidence`` for a prompt's ``fit`` or ``attach``.

    Args:
        method: The method.
        source: The pipeline's evidence; ``None`` without any.

    Returns:
        Nothing without evidence, and for a method that does not take it: a prompt that knows
        nothing of evidence ranks without it.
    """
    if source is None:
        return {}
    parameters = inspect.signature(method).parameters.values()
    takes = any(p.name == "evidence" or p.kind == p.VAR_KEYWORD for p in parameters)
    return {"evidence": source} if takes else {}


def seen_evidence(
    source: EvidenceSource, control: Control | None, *, n_items: int, seed: int
) -> EvidenceSource:
    """Returns the evidence as a control sees it; as it is without one.

    Args:
        source: The evidence.
        control: The control, if the recommender is one.
        n_items: Number of items of the catalogue.
        seed: The pipeline's seed.
    """
    if control != "shuffled_evidence":
        return source
    rng = spawn_rng(seed, "controls/shuffled_evidence")
    return ShuffledEvidence(source, rng.permutation(n_items))


def run_evidence(
    run: Run, seed: int, base: Retriever, *, control: Control | None = None
) -> EvidenceSource | None:
    """Restores the extractors of a finished run.

    Args:
        run: The run.
        seed: The model seed.
        base: What they stand on, restored.
        control: The control that is to see it, if it is for one.

    Returns:
        ``None`` if its pipeline has none.

    Raises:
        PluginError: If the plugin of one is not installed any more.
    """
    pipeline = Pipeline.model_validate(run.manifest.pipeline)
    found = {}
    for name, ref in pipeline.extractors.items():
        label = f"{EVIDENCE}/{name}"
        try:
            component = run.components.find("evidence", ref.name)
        except PluginError as error:
            raise PluginError(
                f"run {run.id}: {error.message}",
                hint=f"{name} was made by {run.manifest.components[label]}; install it again.",
            ) from error
        extractor = run.components.create(component, ref.config)
        device = guess_device(pipeline.compute.device)
        connected(extractor, RunContext(Surroundings(run.components), label, device=device))
        extractor.load_state(
            load_arrays(run.folder / EVIDENCE / name / f"seed-{seed}" / STATE_FILE)
        )
        extractor.attach(base)
        found[name] = extractor
    if not found:
        return None
    source = EvidenceSource(found)
    return seen_evidence(source, control, n_items=run.dataset.n_items, seed=pipeline.seed)


def fresh_evidence(
    run: Run, *, seed: int | None = None, base: Retriever | None = None
) -> FreshEvidence:
    """Returns a run's evidence, kept up to date with the run's own stream and what comes after it.

    Args:
        run: A run with a stream.
        seed: The model seed; the first one by default.
        base: What the extractors stand on, if it is restored already.

    Raises:
        ArtifactError: If the run has no evidence or no stream, or no such seed.
        PluginError: If an extractor cannot be brought up to date.
    """
    from dynmm_framework.data.windows import Events, stream_of
    from dynmm_framework.engine.live import run_split, stream_settings

    pipeline = Pipeline.model_validate(run.manifest.pipeline)
    config = stream_settings(run)
    if base is None:
        source = run.evidence(seed=seed)
    else:
        source = run_evidence(run, run.manifest.seeds[0] if seed is None else seed, base)
    if source is None:
        raise ArtifactError(
            f"run {run.id} has no evidence", hint="Name extractors in a block evidence."
        )
    split = run_split(run)
    trained = stream_of(split.train)
    fresh = FreshEvidence(
        source,
        {name: ref.refresh for name, ref in pipeline.extractors.items() if ref.refresh},
        window=config.rule,
        n_users=split.n_users,
        n_items=split.n_items,
        newest=int(trained.times.max(initial=0)),
    )
    fresh.push(Events.joined([stream_of(split.valid), stream_of(split.test)]).by_time())
    return fresh
