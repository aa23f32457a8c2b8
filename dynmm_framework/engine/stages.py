"""What each kind of stage computes, and how its result is read back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dynmm_framework.artifacts.arrays import load_arrays, save_arrays
from dynmm_framework.artifacts.atomic import read_json, write_json
from dynmm_framework.artifacts.environment import library_versions
from dynmm_framework.artifacts.manifest import StageManifest
from dynmm_framework.artifacts.store import StageStore, StageWriter, StoredStage
from dynmm_framework.config.load import LoadedPipeline
from dynmm_framework.data.candidates import Candidates, draw_candidates
from dynmm_framework.data.filters import apply_filters
from dynmm_framework.data.fingerprint import fingerprint_dataset
from dynmm_framework.data.splits import Split, make_split
from dynmm_framework.data.storage import (
    read_candidates,
    read_dataset,
    read_split,
    write_candidates,
    write_dataset,
    write_split,
)
from dynmm_framework.data.tables import Dataset, EvaluationSet
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.engine.plan import Plan, PlannedStage, StageKind
from dynmm_framework.engine.seeds import spawn_rng
from dynmm_framework.errors import DynmmError, PluginError, StageError
from dynmm_framework.protocols import Validator
from dynmm_framework.specs import Component, split_metric

if TYPE_CHECKING:
    from dynmm_framework.evaluation.evaluate import MetricRequest

STATE_FILE = "state.safetensors"
PER_USER_FILE = "per_user.parquet"
RANKING_FILE = "ranking.parquet"
RESULT_FILE = "result.json"
TOP_ITEMS = 20
"""Least length of the lists kept in ``ranking.parquet``."""


@dataclass(frozen=True)
class Workbench:
    """Runs stages, and reads finished ones only when another stage needs them."""

    loaded: LoadedPipeline
    plan: Plan
    store: StageStore
    surroundings: Surroundings
    device: str

    def run(self, stage: PlannedStage) -> None:
        """Computes one stage and stores its result, or leaves nothing."""
        work = _WORK[stage.kind]

        def compute(writer: StageWriter) -> None:
            writer.meta.update(work(self, stage, writer))

        meta = {"kind": stage.kind, "libraries": library_versions()}
        self.store.ensure(stage.name, stage.key, compute, meta=meta)

    def folder(self, stage: PlannedStage) -> Path:
        """Returns the folder of a finished stage.

        Raises:
            StageError: If it is not in the store any more.
        """
        return self._stored(stage).folder

    def manifest(self, stage: PlannedStage) -> StageManifest:
        """Returns what a finished stage noted about itself."""
        return self._stored(stage).manifest

    def _stored(self, stage: PlannedStage) -> StoredStage:
        found = self.store.find(stage.name, stage.key, content=False)
        if found is None:
            raise StageError(
                f"the result of stage {stage.name} is gone from {self.store.root}",
                hint="Run the same command again; it computes what is missing.",
            )
        return found

    @cached_property
    def filtered(self) -> Dataset:
        """The dataset as the filters leave it."""
        return read_dataset(self.folder(self.plan.named("data")))

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset with the ids of the split, which a given split brings itself."""
        return self.split.renumbered(self.filtered)

    @cached_property
    def split(self) -> Split:
        return read_split(self.folder(self.plan.named("split")))

    @cached_property
    def test(self) -> EvaluationSet:
        limit = self.loaded.pipeline.evaluate.max_users
        return self._sample(self.split.evaluation("test"), limit, "test")

    @cached_property
    def validator(self) -> Validator | None:
        """Scores on validation users; ``None`` if the split holds none out."""
        from dynmm_framework.evaluation.evaluate import expand, make_validator

        if not len(self.split.valid):
            return None
        evaluate = self.loaded.pipeline.evaluate
        valid = self._sample(self.split.evaluation("valid"), evaluate.monitor_users, "valid")
        family, k = split_metric(evaluate.monitor)
        spec = self.loaded.catalogue.metric(family)
        (request,) = expand([spec], [k] if k else [10])
        return make_validator(
            valid,
            request,
            item_counts=self.split.train.item_counts(),
            items=self.dataset.items,
        )

    def candidates(self, protocol: str) -> Candidates | None:
        """Returns the stored candidates of a sampled protocol; ``None`` for ``full``."""
        if protocol == "full":
            return None
        return read_candidates(self.folder(self.plan.named(f"candidates/{protocol}")))

    def component(self, label: str) -> Any:
        """Returns a new, unfitted component."""
        return self.loaded.catalogue.create(
            self.loaded.components[label], self.loaded.configs[label]
        )

    def fitted(self, label: str, model_seed: int) -> Any:
        """Returns the component as it was trained."""
        stage = self.plan.named(f"fit/{label}/seed-{model_seed}")
        component = self.component(label)
        component.load_state(load_arrays(self.folder(stage) / STATE_FILE))
        return component

    def context(self, stage: PlannedStage, writer: StageWriter, **options: Any) -> RunContext:
        """Returns the context that the stage's component works in."""
        return RunContext(
            self.surroundings,
            stage=stage.name,
            seed=stage.seed,
            device=self.device,
            precision=self.loaded.pipeline.compute.precision,
            workdir=writer.workdir,
            **options,
        )

    def _sample(self, users: EvaluationSet, limit: int | None, name: str) -> EvaluationSet:
        if limit is None or limit >= len(users):
            return users
        rng = spawn_rng(self.loaded.pipeline.seed, f"users/{name}")
        rows = np.sort(rng.choice(len(users), limit, replace=False))
        return users.take(rows)

    def requests(self) -> tuple[MetricRequest, ...]:
        """Returns the metrics asked for, at every cut-off."""
        from dynmm_framework.evaluation.evaluate import expand

        return tuple(expand(self.loaded.metrics, self.loaded.pipeline.evaluate.at))


Meta = Mapping[str, Any]


def _data(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Meta:
    reader = bench.component("data")
    ctx = bench.context(stage, writer)
    dataset = apply_filters(reader.read(ctx), bench.loaded.pipeline.data.filters)
    for step, users, items, interactions in dataset.log:
        ctx.log(f"{step}: {users:,} users, {items:,} items, {interactions:,} interactions")
    write_dataset(dataset, writer.folder)
    return {
        "fingerprint": fingerprint_dataset(dataset),
        "log": [list(line) for line in dataset.log],
    }


def _split(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Meta:
    split = make_split(bench.filtered, bench.loaded.pipeline.split, seed=stage.seed)
    write_split(split, writer.folder)
    ctx = bench.context(stage, writer)
    for note in split.notes:
        ctx.log(note)
    return {"hash": split.hash, "notes": list(split.notes)}


def _candidates(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Meta:
    negatives = int(stage.protocol.removeprefix("sampled:"))
    drawn = draw_candidates(bench.test, negatives, seed=stage.seed)
    write_candidates(drawn, writer.folder)
    return {"hash": drawn.hash}


def _fit(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Meta:
    from dynmm_framework.evaluation.efficiency import PeakMemory

    component = bench.component(stage.label)
    ctx = bench.context(stage, writer, validator=bench.validator)
    data = bench.split.training_data(bench.dataset.items)
    started = time.perf_counter()
    with PeakMemory(bench.device) as peak, _blamed(bench.loaded.components[stage.label], stage):
        component.fit(data, ctx)
    seconds = time.perf_counter() - started
    save_arrays(
        writer.folder / STATE_FILE,
        component.get_state(),
        metadata={"component": bench.loaded.components[stage.label].identity},
    )
    return {
        "fit_seconds": seconds,
        "peak_rss_bytes": peak.rss_bytes,
        "peak_gpu_bytes": peak.gpu_bytes,
        "device": bench.device,
        **ctx.records,
    }


@contextmanager
def _blamed(component: Component, stage: PlannedStage) -> Iterator[None]:
    """Names the component whose code raised something that it did not explain itself."""
    try:
        yield
    except (DynmmError, OSError, MemoryError):
        raise
    except Exception as error:
        raise PluginError(
            f"{component.identity} failed in stage {stage.name}: {type(error).__name__}: {error}",
            hint=f"See where with --debug; it is code of {component.provider.distribution}.",
        ) from error


def _rank(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Meta:
    import pyarrow.parquet as pq

    from dynmm_framework.evaluation.evaluate import evaluate
    from dynmm_framework.evaluation.ranking import as_recommender
    from dynmm_framework.evaluation.tables import per_user_table, ranking_table, slices

    requests = bench.requests()
    cutoffs = [request.k for request in requests if request.k]
    ctx = bench.context(stage, writer)
    result = evaluate(
        as_recommender(bench.fitted(stage.label, stage.model_seed)),
        bench.test,
        requests,
        candidates=bench.candidates(stage.protocol),
        item_counts=bench.split.train.item_counts(),
        items=bench.dataset.items,
        depth=max([TOP_ITEMS, *cutoffs]),
        name=stage.label,
        progress=ctx.progress,
    )
    alike = [other for other in bench.plan.of_kind("rank") if other.protocol == stage.protocol]
    if stage == alike[0]:  # notes are about metrics and users, the same for every recommender
        for note in result.notes:
            ctx.log(note)
    pq.write_table(per_user_table(result, bench.dataset.users), writer.folder / PER_USER_FILE)
    pq.write_table(ranking_table(result, bench.dataset), writer.folder / RANKING_FILE)
    write_json(
        writer.folder / RESULT_FILE,
        {
            "values": result.values,
            "chance": result.chance,
            "latency": result.latency,
            "seconds": result.seconds,
            "users": len(bench.test),
            "slices": slices(result),
            "notes": list(result.notes),
        },
    )
    return {"rank_seconds": result.seconds}


_WORK: Mapping[StageKind, Callable[[Workbench, PlannedStage, StageWriter], Meta]] = {
    "data": _data,
    "split": _split,
    "candidates": _candidates,
    "fit": _fit,
    "rank": _rank,
}


def read_result(folder: Path) -> dict[str, Any]:
    """Returns the numbers that a rank stage stored."""
    result: dict[str, Any] = read_json(folder / RESULT_FILE)
    return result
