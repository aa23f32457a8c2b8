"""The stage that meets the stream: frozen base, adapter, controls and baselines, side by side."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dynmm_framework.artifacts.atomic import read_json, write_json
from dynmm_framework.artifacts.store import StageWriter
from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Interactions, TrainingData
from dynmm_framework.data.windows import Events, stream_of
from dynmm_framework.engine.fitting import blamed
from dynmm_framework.engine.plan import PlannedStage
from dynmm_framework.errors import PluginError, StageError
from dynmm_framework.online.config import OnlineConfig
from dynmm_framework.protocols import Context, OnlineAdapter

if TYPE_CHECKING:
    from dynmm_framework.engine.stages import Workbench
    from dynmm_framework.online.memory import VectorModel
    from dynmm_framework.online.reports import WindowReport
    from dynmm_framework.online.session import Session
    from dynmm_framework.online.strategies import Strategy

STREAM_FILE = "stream.json"
OWN: Final = "adapter"
"""Name of the strategy that is served: base, adapter and decayed priors."""
CONTROLS: Final = (
    "static",
    "static_prior",
    "popularity_prior",
    "popularity_transitions",
    "adapter_static_prior",
    "without_summaries",
    "frozen_early",
)
BASELINES: Final = (
    "recent_popularity",
    "decayed_transitions",
    "incremental_item_knn",
    "session_knn",
)
RETRAIN: Final = "retrain"
EARLY: Final = 12
"""Windows after which the control ``frozen_early`` stops learning."""
REFERENCE: Final[Mapping[str, str]] = {"adapter_static_prior": "static_prior"}
"""What a strategy is compared with, where that is not the adapter."""

Retrain = Callable[[Interactions], "VectorModel"]


@dataclass(frozen=True)
class StreamParts:
    """What a session is made of.

    Attributes:
        model: The trained model; stays as it is.
        split: A split with a stream.
        config: Settings.
        adapter: Makes a new adapter of some settings.
        context: Seed and device.
        retrain: Trains the backbone again on interactions; ``None`` if that is not asked for.
        retrain_every: After how many windows.
    """

    model: VectorModel
    split: Split
    config: OnlineConfig
    adapter: Callable[[OnlineConfig], OnlineAdapter]
    context: Context
    retrain: Retrain | None = None
    retrain_every: int = 20


def make_session(parts: StreamParts, names: Iterable[str], *, kept: int | None = None) -> Session:
    """Makes a session that has not begun.

    Args:
        parts: What it is made of.
        names: Strategies; the first is served.
        kept: Windows whose reports are kept; ``None`` for all.

    Raises:
        StageError: If there is no such strategy.
    """
    from dynmm_framework.online.baselines import IncrementalItemKNN, SessionKNN
    from dynmm_framework.online.learner import Learner
    from dynmm_framework.online.memory import FrozenBase
    from dynmm_framework.online.session import Session
    from dynmm_framework.online.strategies import Fusion
    from dynmm_framework.online.weights import Weights

    config, n = parts.config, parts.split.n_items
    base = FrozenBase(parts.model, parts.split.train.item_counts())

    def priors(own: OnlineConfig) -> Weights:
        long_term = None if own.lasting_half_life is None else own.popularity
        return Weights(
            popularity=own.popularity,
            transitions=own.transitions,
            long_term_popularity=long_term,
        )

    whole = priors(config)
    prior = Weights(static=config.prior)
    learners: dict[str, Learner] = {}

    def adapter(name: str, weights: Weights, own: OnlineConfig = config, **changed: Any) -> Fusion:
        if name not in learners:
            learners[name] = Learner(parts.adapter(own), base, own, parts.context, **changed)
        return Fusion(
            weights,
            learners[name],
            guarded=own.guard,
            half_life=own.guard_half_life,
            popularity_half_lives=half_lives(own),
        )

    def half_lives(own: OnlineConfig) -> tuple[float, float] | None:
        recent = own.popularity_guard_half_life
        return (recent, own.lasting_half_life or recent) if own.popularity_guard else None

    def variant(name: str) -> Fusion:
        own = config.varied(config.variants()[name])
        return adapter(name, priors(own), own)

    makers: Mapping[str, Callable[[], Strategy]] = {
        OWN: lambda: adapter("own", whole),
        "static": lambda: Fusion(Weights()),
        "static_prior": lambda: Fusion(prior),
        "popularity_prior": lambda: Fusion(
            replace(whole, transitions=0.0), popularity_half_lives=half_lives(config)
        ),
        "popularity_transitions": lambda: Fusion(whole, popularity_half_lives=half_lives(config)),
        "adapter_static_prior": lambda: adapter("own", prior),
        "without_summaries": lambda: adapter("silent", whole, silent=True),
        "frozen_early": lambda: adapter("early", whole, frozen_after=EARLY),
        "recent_popularity": lambda: Fusion(Weights(base=0, popularity=1)),
        "decayed_transitions": lambda: Fusion(Weights(base=0, transitions=1)),
        "incremental_item_knn": lambda: IncrementalItemKNN(n),
        "session_knn": lambda: SessionKNN(n),
        RETRAIN: lambda: _retrained(parts),
        **{name: partial(variant, name) for name in config.variants()},
    }
    names = list(dict.fromkeys(names))
    if unknown := [name for name in names if name not in makers]:
        raise StageError(
            f"there is no strategy {', '.join(unknown)}", hint=f"There are: {', '.join(makers)}."
        )
    strategies = {name: makers[name]() for name in names}
    seed = parts.context.seed
    return Session(base, config, strategies, list(learners.values()), kept=kept, seed=seed)


def begin(session: Session, split: Split, *, everything: bool = False) -> None:
    """Gives a session what was before the stream.

    Args:
        session: The session.
        split: The split.
        everything: Take what would be the stream as known too, for events that come after it.
    """
    held_out = stream_of(split.valid)
    if everything:
        held_out = Events.joined([held_out, stream_of(split.test)]).by_time()
    session.begin(stream_of(split.train), held_out)


def stream(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Mapping[str, Any]:
    """Meets the stream with the adapter and what it is compared with."""
    block = bench.loaded.pipeline.online
    assert block is not None  # the stage is planned only with it
    registered = bench.loaded.components["online"]
    config = settings_of(bench.loaded.configs["online"], registered.identity)
    names = [OWN, *(CONTROLS if block.controls else ("static",))]
    names += BASELINES if block.baselines else ()
    names += config.variants() if block.ablations else ()
    names += [RETRAIN] if block.retrain_every else []
    ctx = bench.context(stage, writer)
    label = bench.loaded.retrieval_label
    with ExitStack() as stack:
        stack.enter_context(blamed(registered, stage))
        parts = StreamParts(
            model=bench.fitted(label, stage.model_seed),
            split=bench.split,
            config=config,
            adapter=lambda own: bench.loaded.catalogue.create(registered, own),
            context=ctx,
            retrain=_retrainer(bench, stage, ctx) if block.retrain_every else None,
            retrain_every=block.retrain_every,
        )
        document = met(make_session(parts, names), bench.split, ctx, notify=_notifier(bench, stage))
    write_json(writer.folder / STREAM_FILE, document)
    return {"windows": len(document["windows"]), "stream_seconds": document["seconds"]}


def met(
    session: Session,
    split: Split,
    ctx: Context,
    *,
    notify: Callable[[WindowReport], None] | None = None,
) -> dict[str, Any]:
    """Plays a split's stream and returns what there is to tell of it, as plain data.

    Args:
        session: A session that has not begun.
        split: A split with a stream.
        ctx: For progress and log.
        notify: Told of every window.
    """
    begin(session, split)
    frozen = session.base.digest()
    events = stream_of(split.test)
    started = time.perf_counter()
    size = session.config.rule.events or 1000
    with ctx.progress(ctx.stage, len(events)) as advance:
        for start in range(0, len(events), size):
            piece = events.take(slice(start, start + size))
            closed = list(session.push(piece))
            if start + size >= len(events):
                closed += session.flush()
            for report in closed:
                if report.drift:
                    ctx.log(f"window {report.window}: drift (ADWIN)")
                if notify is not None:
                    notify(report)
            own = next(iter(session.strategies))
            advance(len(piece), f"ndcg@10 {session.means.get(own, {}).get('ndcg@10', 0):.4f}")
    seconds = time.perf_counter() - started
    away, present = _forgotten(session)
    if session.base.digest() != frozen:
        raise StageError("the stream changed the frozen base", hint="Report this as a bug.")
    return {
        "schema_version": 2,
        "strategies": list(session.strategies),
        "windows": [asdict(report) for report in session.reports],
        "events": session.events,
        "skipped": session.skipped,
        "means": session.means,
        "probe": away,
        "probe_as_present": present,
        "cost": session.cost,
        "digest": session.digest(),
        "seconds": seconds,
    }


def _forgotten(session: Session) -> list[dict[str, Any]]:
    """Returns NDCG@10 on the sample from before the stream, and the error of the difference.

    Twice: with its users met as not having come since, and as if they had just been there.
    """
    n = len(session.probe)
    pairs = zip((session.before, session.before_as_present), session.probed(), strict=True)
    return [
        {
            "events": n,
            "before": {name: float(values.mean()) for name, values in before.items()},
            "after": {name: float(values.mean()) for name, values in after.items()},
            "error": {
                name: float((values - before[name]).std() / np.sqrt(n))
                for name, values in after.items()
            },
        }
        for before, after in pairs
    ]


def settings_of(config: Any, identity: str) -> OnlineConfig:
    """Returns an adapter's settings as those of a stream.

    Raises:
        PluginError: If they are not derived from them.
    """
    if isinstance(config, OnlineConfig):
        return config
    raise PluginError(
        f"{identity}: the settings {type(config).__name__} are not those of a stream",
        hint="Derive them from dynmm_framework.online.config.OnlineConfig.",
    )


def read_stream(folder: Path) -> dict[str, Any]:
    """Returns what a finished stream stage stored."""
    document: dict[str, Any] = read_json(folder / STREAM_FILE)
    return document


def _notifier(bench: Workbench, stage: PlannedStage) -> Callable[[WindowReport], None]:
    def notify(report: WindowReport) -> None:
        bench.loaded.catalogue.notify(
            "dynmm_window_finished",
            run=bench.surroundings.run,
            stage=stage.name,
            window=report.window,
            metrics=report.metrics[OWN],
        )

    return notify


def _retrained(parts: StreamParts) -> Strategy:
    from dynmm_framework.online.retraining import Retrained

    if parts.retrain is None:
        raise StageError("nothing is known of how to train the backbone again")
    train = parts.split.train
    return Retrained(
        parts.model, train, parts.retrain, every=parts.retrain_every, prior=parts.config.prior
    )


def _retrainer(bench: Workbench, stage: PlannedStage, ctx: Context) -> Retrain:
    label = bench.loaded.backbone_label
    fit = bench.plan.named(f"fit/{label}/seed-{stage.model_seed}")
    best = bench.manifest(fit).meta.get("training", {}).get("best_epoch")
    config = bench.loaded.configs[label]
    if best is not None and "epochs" in type(config).model_fields:
        config = config.model_copy(update={"epochs": best})
    component, catalogue = bench.loaded.components[label], bench.loaded.catalogue
    return retrainer(lambda: catalogue.create(component, config), bench.dataset.items, ctx)


def retrainer(make: Callable[[], Any], items: Any, ctx: Context) -> Retrain:
    """Returns a function that trains a new backbone on interactions, without validation."""

    def retrain(rows: Interactions) -> VectorModel:
        model = make()
        with tempfile.TemporaryDirectory() as folder:
            quiet: Any = replace(ctx, workdir=Path(folder), validator=None, records={})  # type: ignore[type-var]
            model.fit(TrainingData(train=rows.chronological(), items=items), quiet)
        trained: VectorModel = model
        return trained

    return retrain
