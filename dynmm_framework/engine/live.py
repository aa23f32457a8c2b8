"""A finished run goes on: its stream played again, or events from outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynmm_framework.config.pipeline import Pipeline, Streaming
from dynmm_framework.data.splits import Split, make_split
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.engine.progress import Display
from dynmm_framework.engine.seeds import spawn_seed
from dynmm_framework.engine.streaming import (
    OWN,
    RETRAIN,
    StreamParts,
    begin,
    make_session,
    retrainer,
    settings_of,
)
from dynmm_framework.errors import ArtifactError
from dynmm_framework.protocols import OnlineAdapter

if TYPE_CHECKING:
    from dynmm_framework.config.online import OnlineRef
    from dynmm_framework.engine.results import Run
    from dynmm_framework.online.config import OnlineConfig
    from dynmm_framework.online.recommender import OnlineRecommender
    from dynmm_framework.online.session import Session
    from dynmm_framework.specs import Component

KEPT = 1000
"""Windows whose reports a live recommender keeps."""


def run_split(run: Run) -> Split:
    """Makes a run's split again.

    Raises:
        ArtifactError: If it cannot be made as it was.
    """
    pipeline = Pipeline.model_validate(run.manifest.pipeline)
    split = make_split(run.dataset, pipeline.split, seed=spawn_seed(pipeline.seed, "split"))
    if split.hash != run.manifest.split_hash:
        raise ArtifactError(
            f"the split of run {run.id} cannot be made as it was, so where its stream begins is"
            " not known any more",
            hint="Run the same pipeline again.",
        )
    return split


def stream_parts(run: Run, split: Split, *, seed: int | None = None) -> StreamParts:
    """Returns what a session on a run's model is made of.

    Args:
        run: A run whose pipeline has an ``online`` block.
        split: Its split.
        seed: The model seed; the first one by default.

    Raises:
        ArtifactError: If the run has no such block, or no such seed.
        PluginError: If a plugin is not installed any more.
    """
    pipeline = Pipeline.model_validate(run.manifest.pipeline)
    block, component, config = _online(run)
    seed = run.manifest.seeds[0] if seed is None else seed
    catalogue = run.components
    ctx = RunContext(
        Surroundings(catalogue, Display(None)),
        stage=f"stream/online/seed-{seed}",
        seed=spawn_seed(seed, "stream/online"),
    )

    def adapter(own: OnlineConfig) -> OnlineAdapter:
        made: OnlineAdapter = catalogue.create(component, own)
        return made

    return StreamParts(
        model=run.backbone(pipeline.own("align") or pipeline.own("fit"), seed=seed),
        split=split,
        config=config,
        adapter=adapter,
        context=ctx,
        retrain=retrainer(_new_backbone(run, pipeline, seed), run.dataset.items, ctx),
        retrain_every=block.retrain_every or 20,
    )


def stream_settings(run: Run) -> OnlineConfig:
    """Returns the settings of a run's stream.

    Raises:
        ArtifactError: If its pipeline has no ``online`` block.
        PluginError: If the adapter's plugin is not installed any more.
    """
    return _online(run)[2]


def _online(run: Run) -> tuple[OnlineRef, Component, OnlineConfig]:
    """Returns a run's block ``online``, its adapter, and the adapter's settings."""
    block = Pipeline.model_validate(run.manifest.pipeline).online
    if block is None:
        raise ArtifactError(
            f"run {run.id} has no online adapter",
            hint="Name an adapter of slot online (dynmm plugins list) in a block online, with"
            " split: {strategy: streaming}, and run the pipeline again.",
        )
    component = run.components.find("adapter", block.name, slot="online")
    model = run.components.config_model(component)
    return block, component, settings_of(model.model_validate(block.config), component.identity)


def replay_session(
    run: Run, strategies: Sequence[str], *, seed: int | None = None
) -> tuple[Session, Split]:
    """Returns a session that is to meet a run's own stream; it has begun.

    Args:
        run: A run with a stream.
        strategies: ``adapter``, ``static``, ``retrain`` …, the first being served; see
            :mod:`dynmm_framework.engine.streaming`.
        seed: The model seed; the first one by default.

    Raises:
        ArtifactError: If the run has no stream.
        StageError: If there is no such strategy.
    """
    split = run_split(run)
    pipeline = Pipeline.model_validate(run.manifest.pipeline)
    if not isinstance(pipeline.split, Streaming):
        raise ArtifactError(
            f"run {run.id} has no stream: its split is {split.name}",
            hint="Run a pipeline with split: {strategy: streaming}.",
        )
    session = make_session(stream_parts(run, split, seed=seed), strategies)
    begin(session, split)
    return session, split


def live_recommender(
    run: Run, *, seed: int | None = None, checkpoint: Path | str | None = None
) -> OnlineRecommender:
    """Returns a run's recommender, learning from events that come after the run's data.

    Args:
        run: A run whose pipeline has an ``online`` block.
        seed: The model seed; the first one by default.
        checkpoint: Go on from this file, if it is there.

    Raises:
        ArtifactError: If the run has no such block, or the checkpoint is of another stream.
    """
    from dynmm_framework.online.intake import Vocabulary
    from dynmm_framework.online.recommender import OnlineRecommender

    split = run_split(run)
    parts = stream_parts(run, split, seed=seed)
    session = make_session(parts, [OWN], kept=KEPT)
    resumed = checkpoint is not None and Path(checkpoint).is_file()
    if not resumed:
        begin(session, split, everything=True)
    items = run.dataset.items
    titles = items["title"].to_pylist() if "title" in items.column_names else ()
    vocabulary = Vocabulary(items["id"].to_pylist(), run.dataset.users["id"].to_pylist())
    explainer = None
    if Pipeline.model_validate(run.manifest.pipeline).extractors:
        from dynmm_framework.engine.live_evidence import LiveEvidence

        explainer = LiveEvidence(run, parts.model, seed=seed)
    recommender = OnlineRecommender(session, vocabulary, titles=titles, explainer=explainer)
    if resumed and checkpoint is not None:
        recommender.load(checkpoint, identity=run.id)
    return recommender


def _new_backbone(run: Run, pipeline: Pipeline, seed: int) -> Any:
    """Returns a function that makes an untrained backbone which trains as long as was best."""
    label = pipeline.own("fit") or ""
    component = run.components.find("backbone", pipeline.recommenders[label].name)
    model = run.components.config_model(component)
    config = model.model_validate(pipeline.recommenders[label].config)
    curve = run.training.get(label, {}).get(str(seed), [])
    name = pipeline.evaluate.monitor
    family = name.partition("@")[0]
    sign = 1 if run.metrics["higher_is_better"].get(family, True) else -1
    measured = [epoch for epoch in curve if name in epoch]
    if measured and "epochs" in model.model_fields:
        best = max(measured, key=lambda epoch: sign * epoch[name])
        config = config.model_copy(update={"epochs": int(best["epoch"])})
    return lambda: run.components.create(component, config)


__all__ = [
    "OWN",
    "RETRAIN",
    "live_recommender",
    "replay_session",
    "run_split",
    "stream_parts",
    "stream_settings",
]
