"""What a recommender reaches on validation users: no test interaction is looked at here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from dynmm_framework.data.parts import TEST, TRAIN, VALID
from dynmm_framework.data.splits import Split
from dynmm_framework.engine.fitting import blamed
from dynmm_framework.engine.plan import Plan, PlannedStage
from dynmm_framework.engine.streaming import OWN, StreamParts, begin, make_session, settings_of
from dynmm_framework.errors import ConfigError, StageError
from dynmm_framework.specs import split_metric

if TYPE_CHECKING:
    from dynmm_framework.engine.context import RunContext
    from dynmm_framework.engine.stages import Workbench
    from dynmm_framework.evaluation.evaluate import MetricRequest

LATENCY_USERS = 100
"""Users who are scored one by one to measure latency."""
_LEARNS = ("data", "split", "encode", "fit", "align", "evidence", "prompt")


@dataclass(frozen=True)
class Validated:
    """What a recommender reaches on validation users.

    Attributes:
        values: Metric name to its mean over users, or over the events of a stream.
        users: Number of users, or of events.
        latency_ms: Median time to score one user, or the mean of an event of a stream; ``None``
            if it was not measured.
    """

    values: Mapping[str, float]
    users: int
    latency_ms: float | None = None


def stages_to_validate(plan: Plan) -> Iterator[PlannedStage]:
    """Yields the stages that the pipeline's own recommender stands on, itself the last.

    The pipeline is expected to name nothing to compare with.
    """
    for stage in plan.stages:
        if stage.kind in _LEARNS:
            yield stage


def validate(bench: Workbench, names: Sequence[str], *, latency: bool = False) -> Validated:
    """Evaluates a pipeline's trained recommender on validation users, as early stopping did.

    Where the pipeline has ``online``, the adapter meets the later half of the validation part as
    a stream, after it has learned on the earlier half.

    Args:
        bench: The stages that it stands on are finished.
        names: Metrics, such as ``ndcg@10``.
        latency: Whether to measure how long one user takes, too.

    Raises:
        ConfigError: If the split holds out nothing.
        StageError: If a metric is undefined or not finite.
    """
    require_validation(bench)
    if bench.loaded.pipeline.online is not None:
        return _validate_stream(bench, names)
    from dynmm_framework.evaluation.evaluate import evaluate, expand
    from dynmm_framework.evaluation.ranking import as_recommender

    pipeline = bench.loaded.pipeline
    label = next(iter(pipeline.recommenders))
    requests: list[MetricRequest] = []
    for name in names:
        family, k = split_metric(name)
        requests += expand([bench.loaded.catalogue.metric(family)], [k] if k else [10])
    found = evaluate(
        as_recommender(bench.fitted(label, pipeline.model_seeds[0])),
        bench.valid,
        requests,
        item_counts=bench.split.train.item_counts(),
        items=bench.dataset.items,
        latency_users=LATENCY_USERS if latency else 0,
        name=label,
    )
    took = found.latency["p50_ms"] if latency else None
    return _checked(Validated(found.values, len(bench.valid), took), names, label)


def require_validation(bench: Workbench) -> None:
    """Makes sure that there are validation users.

    Raises:
        ConfigError: If the split holds out nothing.
    """
    if not len(bench.split.valid) or not len(bench.valid):
        raise ConfigError(
            "the split holds out no validation users, and a search selects on them",
            hint="Use a split with a validation part, such as split.strategy=leave_one_out.",
        )


def _checked(found: Validated, names: Sequence[str], label: str) -> Validated:
    bad = [name for name in names if not np.isfinite(found.values.get(name, np.nan))]
    if bad:
        raise StageError(
            f"{', '.join(bad)} of {label} is not a finite number on {found.users:,} validation"
            " users",
            hint="A metric may be undefined here; search.metric names another.",
        )
    return found


def _validate_stream(bench: Workbench, names: Sequence[str]) -> Validated:
    loaded, split = bench.loaded, _earlier(bench.split)
    (stage,) = bench.plan.of_kind("stream")[:1]
    registered = loaded.components["online"]
    config = settings_of(loaded.configs["online"], registered.identity)
    ctx = _stream_context(bench, stage)
    with blamed(registered, stage):
        parts = StreamParts(
            model=bench.fitted(loaded.retrieval_label, stage.model_seed),
            split=split,
            config=config,
            adapter=lambda own: loaded.catalogue.create(registered, own),
            context=ctx,
        )
        session = make_session(parts, [OWN])
        begin(session, split)
        from dynmm_framework.data.windows import stream_of

        events, took = stream_of(split.test), 0.0
        size = config.rule.events or 1000
        for start in range(0, len(events), size):
            closed = list(session.push(events.take(slice(start, start + size))))
            if start + size >= len(events):
                closed += session.flush()
            for report in closed:
                took += report.predict_ms
                ctx.epoch_finished(report.window, session.means[OWN])
    found = session.means.get(OWN, {})
    latency = took / max(session.events, 1)
    return _checked(Validated(found, session.events, latency), names, "the online adapter")


def _stream_context(bench: Workbench, stage: PlannedStage) -> RunContext:
    from dynmm_framework.engine.context import RunContext

    return RunContext(
        bench.surroundings,
        stage=stage.name,
        seed=stage.seed,
        device=bench.device,
        precision=bench.loaded.pipeline.compute.precision,
    )


def _earlier(split: Split) -> Split:
    """Returns a split whose stream is the later half of the validation part.

    Nothing of the true stream is in it, so what is chosen on it is not chosen on the test.
    """
    held_out = np.flatnonzero(split.parts == VALID)
    times = split.rows.timestamps
    assert times is not None  # a stream has times
    by_time = held_out[np.argsort(times[held_out], kind="stable")]
    parts = np.full_like(split.parts, -1)
    parts[split.parts == TRAIN] = TRAIN
    parts[by_time[: len(by_time) // 2]] = VALID
    parts[by_time[len(by_time) // 2 :]] = TEST
    kept = parts >= 0
    return replace(split, rows=split.rows.take(kept), parts=parts[kept])
