"""Runs a pipeline: plan, compute what is missing, summarise, write the run's folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from dynmm_framework.artifacts.atomic import write_json
from dynmm_framework.artifacts.manifest import (
    PluginEntry,
    RunManifest,
    StageEntry,
    collect_environment,
    now,
    write_document,
)
from dynmm_framework.config.load import LoadedPipeline
from dynmm_framework.engine.context import Surroundings
from dynmm_framework.engine.device import require_engine, resolve_device
from dynmm_framework.engine.keeping import METRICS_FILE, collect, digest_run
from dynmm_framework.engine.metrics import MetricsDocument
from dynmm_framework.engine.plan import TRAINING, Plan, make_plan, store_in
from dynmm_framework.engine.progress import Display
from dynmm_framework.engine.results import MANIFEST_FILE, Run
from dynmm_framework.engine.stages import Workbench
from dynmm_framework.engine.summary import summarise
from dynmm_framework.errors import ArtifactError, ConfigError, Problem
from dynmm_framework.protocols import Tracker
from dynmm_framework.specs import fold

DEFAULT_RUNS = Path("runs")


def run(
    loaded: LoadedPipeline,
    *,
    runs_dir: Path | str = DEFAULT_RUNS,
    offline: bool = False,
    console: Console | None = None,
) -> Run:
    """Runs a pipeline and returns its run.

    Stages that are finished already, by this or another pipeline, are not computed again; the
    same call after an interruption goes on where it stopped.

    Args:
        loaded: A checked pipeline, from :func:`dynmm_framework.load_pipeline`.
        runs_dir: Folder that holds runs and the stage cache.
        offline: Whether to refuse fetching data.
        console: Where to show progress; nothing is shown without one.

    Raises:
        DynmmError: For anything that the user can mend.
    """
    runs_dir = Path(runs_dir)
    loaded = loaded.without_search()
    display = Display(console)
    store = store_in(runs_dir)
    surroundings = Surroundings(loaded.catalogue, display, offline)
    plan = make_plan(loaded, runs_dir=runs_dir, surroundings=surroundings)
    folder = runs_dir / plan.run_id
    tracker = _make_tracker(loaded, plan)
    done = Run.find(folder, catalogue=loaded.catalogue)
    if done is not None and all(stage.cached for stage in plan.stages):
        display.line(f"All {len(plan.stages)} stages cached.")
        if tracker is not None:
            tracker.log_params(plan.resolved)
            _track(tracker, MetricsDocument.model_validate(done.metrics))
        return done
    surroundings = Surroundings(loaded.catalogue, display, offline, run=plan.run_id)
    require_engine(loaded.pipeline.compute)
    device = resolve_device(loaded.pipeline.compute)
    bench = Workbench(loaded, plan, store, surroundings, device)
    with _Recorder.open(bench, folder, tracker) as recorder:
        _run_stages(bench, recorder)
        document = summarise(bench)
        collect(bench, folder)
        write_json(folder / METRICS_FILE, document.model_dump(mode="json"))
        recorder.finish(document)
    return Run.load(folder, catalogue=loaded.catalogue)


def _run_stages(bench: Workbench, recorder: _Recorder) -> None:
    stages = bench.plan.stages
    for number, stage in enumerate(stages, start=1):
        recorder.stage = stage.name
        if not stage.cached:
            bench.surroundings.display.line(f"[{number}/{len(stages)}] {stage.name}")
            bench.run(stage)
        stored = bench.manifest(stage)
        recorder.stage_finished(
            StageEntry(
                name=stage.name,
                key=stage.key,
                cached=stage.cached,
                seconds=stored.seconds,
                libraries=stored.meta.get("libraries", {}),
            )
        )
    recorder.stage = ""


@dataclass
class _Recorder:
    """Keeps the run's manifest up to date and tells observers and the tracker what happens."""

    bench: Workbench
    folder: Path
    manifest: RunManifest
    tracker: Tracker | None
    stage: str = ""
    stages: list[StageEntry] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    @contextmanager
    def open(cls, bench: Workbench, folder: Path, tracker: Tracker | None) -> Iterator[_Recorder]:
        plan = bench.plan
        recorder = cls(bench, folder, _first_manifest(bench), tracker)
        recorder.write()
        recorder.notify("dynmm_run_started", pipeline=plan.resolved)
        if recorder.tracker is not None:
            recorder.tracker.log_params(plan.resolved)
        try:
            yield recorder
        except BaseException as error:
            recorder.update(status="failed", error=f"{type(error).__name__}: {error}")
            with suppress(ArtifactError):  # the disk may be what failed
                recorder.write()
            recorder.notify("dynmm_run_failed", stage=recorder.stage, error=error)
            if recorder.tracker is not None:
                recorder.tracker.close(status="failed")
            raise

    def notify(self, hook: str, **arguments: Any) -> None:
        self.bench.loaded.catalogue.notify(hook, run=self.bench.plan.run_id, **arguments)

    def update(self, **values: Any) -> None:
        self.manifest = self.manifest.model_copy(update={"stages": self.stages, **values})

    def write(self) -> None:
        write_document(self.folder / MANIFEST_FILE, self.manifest)

    def stage_finished(self, entry: StageEntry) -> None:
        self.stages.append(entry)
        self.notify(
            "dynmm_stage_finished", stage=entry.name, cached=entry.cached, seconds=entry.seconds
        )

    def finish(self, document: MetricsDocument) -> None:
        plan = self.bench.plan
        fits = [self.bench.manifest(stage).meta for stage in plan.of_kind(*TRAINING)]
        peaks = {
            name: max(meta.get(f"peak_{name}_bytes") or 0 for meta in fits)
            for name in ("rss", "gpu")
        }
        self.update(
            status="finished",
            timings={
                "total": round(time.perf_counter() - self.started, 3),
                "computed": round(sum(e.seconds for e in self.stages if not e.cached), 3),
            },
            peak_memory_bytes={name: peak for name, peak in peaks.items() if peak},
            data_fingerprint=self._meta("data")["fingerprint"],
            split_hash=self._meta("split")["hash"],
            candidate_hashes={
                stage.protocol: self._meta(stage.name)["hash"]
                for stage in plan.of_kind("candidates")
            },
            devices=sorted({meta["device"] for meta in fits}),
            files=digest_run(self.folder),
        )
        self.write()
        metrics = document.model_dump(mode="json")
        self.notify("dynmm_run_finished", folder=self.folder, metrics=metrics)
        if self.tracker is not None:
            _track(self.tracker, document)

    def _meta(self, stage: str) -> dict[str, Any]:
        return self.bench.manifest(self.bench.plan.named(stage)).meta


def _first_manifest(bench: Workbench) -> RunManifest:
    loaded = bench.loaded
    return RunManifest(
        run=bench.plan.run_id,
        created=now(),
        pipeline=loaded.resolved(),
        overrides=list(loaded.overrides),
        source=Path(loaded.source).name,
        components={
            **{label: found.identity for label, found in loaded.components.items()},
            **{
                f"{label}/{place}": part.component.identity
                for label in loaded.components
                for place, part in loaded.parts(label).items()
            },
        },
        plugins=[
            PluginEntry(
                name=plugin.name,
                provider=str(plugin.provider),
                status=plugin.status,
                reason=plugin.reason,
            )
            for plugin in loaded.catalogue.plugins
        ],
        seeds=list(loaded.pipeline.model_seeds),
        environment=collect_environment(),
        devices=[bench.device],
    )


def _make_tracker(loaded: LoadedPipeline, plan: Plan) -> Tracker | None:
    block = loaded.pipeline.tracking
    if block is None:
        return None
    tracker: Tracker | None = loaded.catalogue.first(
        "dynmm_create_tracker", name=fold(block.name), options=block.options, run=plan.run_id
    )
    if tracker is None:
        raise ConfigError(
            [Problem(f"no plugin provides the tracker {block.name!r}", path="tracking.name")],
            hint="Install a plugin that implements dynmm_create_tracker, or remove the block.",
        )
    return tracker


def _track(tracker: Tracker, document: MetricsDocument) -> None:
    tracker.log_metrics(dict(_flat(document)), step=0)
    tracker.close(status="finished")


def _flat(document: MetricsDocument) -> Iterator[tuple[str, float]]:
    for label, protocols in document.recommenders.items():
        for protocol, metrics in protocols.items():
            for metric, value in metrics.items():
                if value.mean is not None:
                    yield f"{label}/{protocol}/{metric}", value.mean
