"""Runs a search: asks the sampler, has trials run, notes what they gave, and goes on from there."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from dynmm_framework.artifacts.environment import collect_environment
from dynmm_framework.artifacts.manifest import now
from dynmm_framework.config.load import LoadedPipeline, load_pipeline
from dynmm_framework.config.search import LATENCY, SearchBlock
from dynmm_framework.config.space import direction_of
from dynmm_framework.engine.context import Surroundings
from dynmm_framework.engine.device import resolve_device
from dynmm_framework.engine.digest import content_key
from dynmm_framework.engine.plan import Plan, make_plan, store_in
from dynmm_framework.engine.progress import Display
from dynmm_framework.engine.stages import Workbench
from dynmm_framework.engine.validation import require_validation, stages_to_validate
from dynmm_framework.errors import ArtifactError, ConfigError, Problem
from dynmm_framework.specs import split_metric
from dynmm_framework.tuning.epochs import Epoch
from dynmm_framework.tuning.executor import Executor
from dynmm_framework.tuning.population import population_epochs, population_problems
from dynmm_framework.tuning.records import (
    Objective,
    SearchFolder,
    SearchManifest,
    TrialRecord,
)
from dynmm_framework.tuning.results import write_results
from dynmm_framework.tuning.sampler import Sampler, best_of, grid_size
from dynmm_framework.tuning.space import present
from dynmm_framework.tuning.trial import Order, Outcome, code, trial_settings

INVALID_PER_TRIAL = 20
"""Settings that contradict each other, for each trial, after which the search gives up."""


class Viewer(Protocol):
    """Shows a search to a person."""

    def changed(self, progress: Progress) -> None:
        """Called whenever a trial begins or ends, and a few times a second between."""
        ...


@dataclass
class Progress:
    """What there is to show of a search.

    Attributes:
        folder: Its folder.
        objectives: What is compared.
        total: Trials asked for.
        engine: Where trials run.
        concurrency: Trials at once.
        trials: Those that ended, by number.
        running: Settings of those that run, by number.
        begun: When they were begun, seconds of the monotonic clock.
        started: The same, UTC.
        epochs: What those that run have reported, by number.
    """

    folder: SearchFolder
    objectives: list[Objective]
    total: int
    engine: str = ""
    concurrency: int = 1
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    running: dict[int, dict[str, Any]] = field(default_factory=dict)
    begun: dict[int, float] = field(default_factory=dict)
    started: dict[int, datetime] = field(default_factory=dict)
    epochs: dict[int, list[Epoch]] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Trials that count."""
        return sum(record.state != "invalid" for record in self.trials.values())

    @property
    def best(self) -> TrialRecord | None:
        return best_of(list(self.trials.values()), self.objectives[0])

    @property
    def eta_seconds(self) -> float | None:
        """Estimated time to the end, from the mean time of a trial."""
        took = [r.seconds for r in self.trials.values() if r.state in ("finished", "pruned")]
        if not took:
            return None
        waves = math.ceil(max(0, self.total - self.done) / max(1, self.concurrency))
        return waves * sum(took) / len(took)


@dataclass(frozen=True)
class Prepared:
    """A search that is checked and whose data are there.

    Attributes:
        loaded: The pipeline with its search.
        block: The search's settings, those of the call included.
        objectives: What is compared.
        settings: The pipeline that trials vary.
        base: The same, checked, with the values that it has already.
        folder: Where results go.
        runs_dir: Folder of runs.
        offline: Whether fetching is forbidden.
        surroundings: What trials in this process share.
    """

    loaded: LoadedPipeline
    block: SearchBlock
    objectives: list[Objective]
    settings: dict[str, Any]
    base: LoadedPipeline
    folder: SearchFolder
    runs_dir: Path
    offline: bool
    surroundings: Surroundings

    @property
    def total(self) -> int:
        """Trials that are tried; of a grid no more than it has."""
        if self.block.sampler != "grid":
            return self.block.trials
        size = grid_size(self.loaded.space)
        return min(self.block.trials, size) if isinstance(size, int) else self.block.trials

    def order(self, number: int, params: Mapping[str, Any], *, deadline: float) -> Order:
        """Returns what a trial is told."""
        return {
            "number": number,
            "pipeline": self.settings,
            "params": dict(params),
            "name": self.loaded.name,
            "search": self.folder.path.name,
            "runs_dir": str(self.runs_dir.absolute()),
            "folder": str(self.folder.path.absolute()),
            "objectives": [objective.name for objective in self.objectives],
            "deadline": deadline,
            "population": population_epochs(self.loaded, self.block),
            "offline": self.offline,
            "threads": None,
            "code": code(),
        }


def prepare(
    loaded: LoadedPipeline,
    block: SearchBlock,
    *,
    runs_dir: Path,
    offline: bool,
    console: Console | None,
) -> Prepared:
    """Checks a search and computes data and split, on which all trials stand.

    Raises:
        DynmmError: For anything that the user can mend.
    """
    if loaded.pipeline.compute.workers > 1:
        raise ConfigError(
            [Problem("a trial trains in one process", path="compute.workers")],
            hint="Leave compute.workers out; search.concurrency is the number of trials at once.",
        )
    if block.sampler == "grid" and isinstance(size := grid_size(loaded.space), str):
        raise ConfigError([Problem(size, path="search.sampler")])
    if problems := population_problems(loaded, block):
        raise ConfigError(problems)
    objectives = [
        Objective(name=name, direction=_direction(loaded, name))
        for name in block.names(loaded.pipeline.evaluate.monitor)
    ]
    settings = trial_settings(loaded, objectives[0].name)
    base = replace(load_pipeline(settings, catalogue=loaded.catalogue), name=loaded.name)
    display = Display(console)
    surroundings = Surroundings(loaded.catalogue, display, offline)
    plan = make_plan(base, runs_dir=runs_dir, surroundings=surroundings)
    device = resolve_device(base.pipeline.compute)
    bench = Workbench(base, plan, store_in(runs_dir), surroundings, device)
    for stage in plan.of_kind("data", "split"):
        if not stage.cached:
            bench.run(stage)
    require_validation(bench)
    folder = SearchFolder(runs_dir / _search_id(loaded, block, plan))
    return Prepared(
        loaded, block, objectives, settings, base, folder, runs_dir, offline, surroundings
    )


def _direction(loaded: LoadedPipeline, name: str) -> Any:
    if name == LATENCY:
        return "min"
    return direction_of(loaded.catalogue.metric(split_metric(name)[0]))


def _search_id(loaded: LoadedPipeline, block: SearchBlock, plan: Plan) -> str:
    """Names the folder: what decides a trial's numbers is in it, how many and where is not."""
    aside = {"trials", "time_budget", "resources", "concurrency", "retries", "engine", "address"}
    parts = {
        "stages": [stage.key for stage in stages_to_validate(plan)],
        "search": block.model_dump(mode="json", exclude=aside),
        "space": [[path, found.model_dump(mode="json")] for path, found in loaded.space.items()],
    }
    return f"{loaded.name}-search-{content_key(parts)[:8]}"


def search(
    prepared: Prepared, executor: Executor, *, viewer: Viewer | None = None
) -> SearchManifest:
    """Runs the trials that are missing, and writes the results of all.

    Args:
        prepared: From :func:`prepare`.
        executor: Where trials run.
        viewer: Told of every change.

    Raises:
        KeyboardInterrupt: After what is finished was written.
        ArtifactError: If the folder cannot be written.
    """
    return _Driver(prepared, executor, viewer).run()


class _Driver:
    """The search, as places where trials run see it; see :class:`.executor.Host`."""

    def __init__(self, prepared: Prepared, executor: Executor, viewer: Viewer | None) -> None:
        self.prepared, self.executor, self.viewer = prepared, executor, viewer
        self.folder, self.block = prepared.folder, prepared.block
        self.before = self.folder.manifest() if self.folder.exists else None
        self.known: Sequence[TrialRecord] = self.folder.trials()
        self.progress = Progress(
            self.folder,
            prepared.objectives,
            prepared.total,
            executor.name,
            executor.concurrency,
            {record.number: record for record in self.known},
        )
        loaded = prepared.loaded
        self.again = {
            number: params
            for number, params in self.folder.running().items()
            if number not in self.progress.trials and params.keys() <= loaded.space.keys()
        }
        waiting = list(self.again.values())
        if not self.known and not waiting and self.block.sampler != "grid":
            first = present(loaded.space, prepared.base.resolved())
            waiting = [first] if first is not None else []
        self.seed = loaded.pipeline.seed if self.block.seed is None else self.block.seed
        self.sampler = Sampler(
            loaded.space,
            self.block.sampler,
            prepared.objectives,
            seed=self.seed,
            known=self.known,
            waiting=waiting,
        )
        self.given: dict[int, dict[str, Any]] = {}
        self.exhausted = False
        self.started = time.monotonic() - executor.startup_seconds  # which is not counted
        self.deadline = time.time() + self.block.time_budget if self.block.time_budget else 0.0

    @property
    def objective(self) -> Objective:
        return self.prepared.objectives[0]

    @property
    def template(self) -> Order:
        return self.prepared.order(0, {}, deadline=self.deadline)

    def run(self) -> SearchManifest:
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.folder.write(self._manifest("running"))
        try:
            self.executor.run(self)
        except KeyboardInterrupt:
            self.executor.stop()
            self._finish("interrupted")
            raise
        except BaseException as error:
            self.executor.stop()
            with suppress(ArtifactError):  # the disk may be what failed
                text = f"{type(error).__name__}: {error}"
                self.folder.write(self._manifest("failed", error=text))
            raise
        return self._finish("finished")

    @property
    def over(self) -> bool:
        progress = self.progress
        if self.exhausted or (self.deadline and time.time() > self.deadline):
            return True
        if len(progress.trials) - progress.done > INVALID_PER_TRIAL * progress.total:
            return True
        return progress.done >= progress.total

    def next(self) -> Order | None:
        progress = self.progress
        if self.over or progress.done + len(progress.running) >= progress.total:
            return None
        number = max([0, *progress.trials, *progress.running, *self.again]) + 1
        if self.again:
            number = next(iter(self.again))
            del self.again[number]
        params = self.sampler.ask(number)
        if params is None:
            self.exhausted = True
            return None
        progress.running[number], progress.epochs[number] = params, []
        self.given[number] = params
        progress.begun[number], progress.started[number] = time.monotonic(), now()
        self._write_running()
        self.look()
        return self.prepared.order(number, params, deadline=self.deadline)

    def epoch(self, number: int, epoch: Epoch) -> None:
        # Of an epoch that was trained again, after a worker was lost, the newer counts.
        place = (epoch["stage"], epoch["epoch"])
        kept = [e for e in self.progress.epochs[number] if (e["stage"], e["epoch"]) != place]
        self.progress.epochs[number] = [*kept, epoch]

    def begun(self, number: int, params: Mapping[str, Any]) -> None:
        if self.progress.running[number] == params and not self.progress.epochs[number]:
            self.progress.begun[number] = time.monotonic()  # until now it has waited for a worker
        self.progress.running[number] = dict(params)

    def ended(self, number: int, outcome: Outcome) -> None:
        progress = self.progress
        params = progress.running[number]
        took = time.monotonic() - progress.begun[number]
        record = TrialRecord.model_validate(
            {
                "seconds": round(took, 3),
                "params": params,
                **outcome,
                "number": number,
                "epochs": progress.epochs[number],
                "started": progress.started[number],
            }
        )
        self.folder.add(record)
        for told in (progress.running, progress.begun, progress.epochs, self.given):
            del told[number]
        progress.trials[number] = record  # whatever running.json still says of it
        self.sampler.tell(record)
        self.look()

    def look(self) -> None:
        if self.viewer is not None:
            self.viewer.changed(self.progress)

    def _write_running(self) -> None:
        """Notes what runs, and what an earlier sitting had begun and has not had its turn yet."""
        self.folder.write_running({**self.given, **self.again})

    def _seconds(self) -> float:
        """Returns the time since the search began, without that of starting workers."""
        return max(0.0, time.monotonic() - self.started - self.executor.startup_seconds)

    def _finish(self, status: str) -> SearchManifest:
        self._write_running()
        manifest = write_results(
            self.prepared.loaded,
            self.folder,
            self._manifest(status),
            list(self.progress.trials.values()),
            # Of a schedule no single setting can be said to have done it.
            importance={} if self.block.scheduler.name == "pbt" else self.sampler.importance(),
        )
        self.look()
        return manifest

    def _manifest(self, status: str, *, error: str = "") -> SearchManifest:
        loaded, before = self.prepared.loaded, self.before
        states = [record.state for record in self.progress.trials.values()]
        earlier = before.seconds if before is not None else 0.0
        return SearchManifest.model_validate(
            {
                "search": self.folder.path.name,
                "created": before.created if before is not None else now(),
                "name": loaded.name,
                "source": Path(loaded.source).name,
                "status": status,
                "error": error,
                "pipeline": {k: v for k, v in loaded.written.items() if k != "search"},
                "settings": self.block.model_dump(mode="json"),
                "space": {p: d.model_dump(mode="json") for p, d in loaded.space.items()},
                "objectives": [o.model_dump() for o in self.prepared.objectives],
                "engine": self.executor.name,
                "trials": {state: states.count(state) for state in dict.fromkeys(states)},
                "seconds": round(earlier + self._seconds(), 3),
                "test": before.test if before is not None else {},
                "startup_seconds": self.executor.startup_seconds,
                "environment": collect_environment(),
            }
        )


def open_folder(folder: SearchFolder, *, resume: bool) -> None:
    """Makes sure that a search is either new or meant to go on.

    Raises:
        ArtifactError: If there is one and it is not to go on, or the other way round.
    """
    if folder.exists and not resume:
        manifest = folder.manifest()
        done = sum(count for state, count in manifest.trials.items() if state != "invalid")
        done = max(done, len(folder.trials()))
        raise ArtifactError(
            f"{folder.path} holds this search already, with {done} trials ({manifest.status})",
            hint="Go on with it: --resume (and --trials for more). For another: search.seed=1.",
        )
    if resume and not folder.exists:
        others = sorted(p.parent.name for p in folder.path.parent.glob("*-search-*/search.json"))
        listed = f" There are: {', '.join(others)}." if others else ""
        raise ArtifactError(
            f"there is no search to resume in {folder.path}",
            hint="Pipeline, data, code, space, metric and seed make its name; leave --resume out "
            f"to begin.{listed}",
        )
