"""One trial: a pipeline with some settings, run as far as its recommender, judged on validation.

A trial is ordered and answered in plain data, so that it runs in this process or on another
machine alike. Its stages go through the store that all runs share: what an earlier trial has
computed is not computed again, and what two trials want at once is computed by one of them while
the other waits.
"""

from __future__ import annotations

import gc
import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

from dynmm_framework.catalogue import Catalogue, describe
from dynmm_framework.config.load import LoadedPipeline, load_pipeline
from dynmm_framework.config.merge import Settings, assign
from dynmm_framework.config.search import LATENCY
from dynmm_framework.engine.digest import NUMERICAL_ROOMS, code_digest, content_key
from dynmm_framework.errors import ConfigError, DynmmError, StageError, StoppedError
from dynmm_framework.tuning.epochs import EpochReporter, Report

if TYPE_CHECKING:
    from dynmm_framework.engine.context import Surroundings
    from dynmm_framework.engine.stages import Workbench


LEARNS: Final = ("data", "split", "encode", "fit", "align", "evidence", "prompt", "stream")


class Order(TypedDict):
    """What a trial is told."""

    number: int
    pipeline: dict[str, Any]
    """Settings of every trial; see :func:`trial_settings`."""
    params: dict[str, Any]
    name: str
    search: str
    runs_dir: str
    folder: str
    """The search's own folder."""
    objectives: list[str]
    deadline: float
    population: int
    """Epochs of a training that hands on what it has learned on the way, as in population-based
    training; 0 for one that does not."""
    offline: bool
    threads: int | None
    code: str
    """Digest of the code that computes; see :func:`code`."""


class Outcome(TypedDict, total=False):
    """What a trial answers; see :class:`dynmm_framework.tuning.records.TrialRecord`."""

    state: str
    metrics: dict[str, float]
    users: int
    reason: str
    stages: list[dict[str, Any]]
    seconds: float
    worker: str
    attempts: int
    params: dict[str, Any]
    """The settings, where they have become others than the trial was told."""


@dataclass
class Course:
    """How far a trial is, for those who run it.

    Attributes:
        member: Names it among a population; empty if there is none.
        stages: Its finished stages.
        stage: Name of the stage that the search judges, once that has begun.
        folder: Where that stage keeps its checkpoints.
        source: Checkpoints of another training that it goes on from.
    """

    member: str = ""
    stages: list[dict[str, Any]] = field(default_factory=list)
    stage: str = ""
    folder: Path | None = None
    source: Path | None = None

    def take(self, source: Path, *, into: Path) -> None:
        """Makes the judged stage go on from checkpoints, which are copied."""
        shutil.rmtree(into, ignore_errors=True)
        shutil.copytree(source, into)
        self.source = into

    def begin(self, stage: str, workdir: Path) -> None:
        """Notes that the judged stage begins, and lays out what it goes on from."""
        self.stage, self.folder = stage, workdir / "checkpoints"
        if self.source is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.copytree(self.source, self.folder)

    def discard(self) -> None:
        """Removes what the judged stage has left of a training that nobody will end."""
        if self.folder is not None:
            shutil.rmtree(self.folder.parent, ignore_errors=True)


def trial_settings(loaded: LoadedPipeline, metric: str) -> dict[str, Any]:
    """Returns the pipeline that trials vary: as written, without what a trial does not need.

    What is compared, explained or shown is left out, and so is the test: nothing of it decides
    what a trained stage computes. A split that would train on its validation users in the end does
    not, so that they can decide.

    Args:
        loaded: The pipeline with its search.
        metric: What the search and early stopping follow.
    """
    pipeline = loaded.pipeline
    aside = {"search", "tracking", "ablation", "controls", "robustness", "explain"}
    if pipeline.online is not None:
        aside.add("prompt")
    if pipeline.prompt is None or "prompt" in aside:
        aside.add("evidence")
    settings = {key: deepcopy(v) for key, v in loaded.written.items() if key not in aside}
    evaluate: dict[str, Any] = {"monitor": followed(loaded, metric)}
    if pipeline.evaluate.monitor_users is not None:
        evaluate["monitor_users"] = pipeline.evaluate.monitor_users
    settings["evaluate"] = evaluate
    if pipeline.seeds:
        settings["seeds"] = [pipeline.seeds[0]]
    if getattr(pipeline.split, "refits", False):
        settings["split"]["refit"] = False
    compute = dict(settings.get("compute") or {})
    for key in ("engine", "workers", "gpus_per_worker", "address"):
        compute.pop(key, None)
    settings["compute"] = compute
    return settings


def best_settings(loaded: LoadedPipeline, metric: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the ordinary pipeline that a trial's settings make: as written, without search."""
    settings = Settings(
        {key: deepcopy(value) for key, value in loaded.written.items() if key != "search"}
    )
    assign(settings, params)
    monitor = followed(loaded, metric)
    if monitor != loaded.pipeline.evaluate.monitor:
        assign(settings, {"evaluate.monitor": monitor})
    return settings.data


def followed(loaded: LoadedPipeline, metric: str) -> str:
    """Returns what early stopping follows in trials: the search's metric, if stages know it."""
    # The metrics of a stream are of events; what is trained before it follows the pipeline's own.
    return loaded.pipeline.evaluate.monitor if loaded.pipeline.online is not None else metric


def run_trial(
    order: Order, surroundings: Surroundings, report: Report, *, course: Course | None = None
) -> Outcome:
    """Runs one trial; whatever goes wrong in it is its outcome.

    Args:
        order: What is to be done.
        surroundings: What all trials of a process share: components, records, and a language
            model in memory.
        report: Takes every epoch.
        course: Is told how far the trial is.
    """
    started = time.perf_counter()
    outcome: Outcome = {"worker": f"{socket.gethostname()}:{os.getpid()}"}
    course = course or Course()
    try:
        outcome |= _run(order, course, surroundings, report)
    except StoppedError as stopped:
        outcome |= {"state": "pruned", "reason": stopped.message}
    except _InvalidError as error:
        outcome |= {"state": "invalid", "reason": str(error)}
    except MemoryError as error:
        outcome |= {"state": "failed", "reason": f"out of memory: {error}".removesuffix(": ")}
    except DynmmError as error:
        outcome |= {"state": "failed", "reason": " ".join(str(error).split())}
    except (Exception, SystemExit) as error:
        outcome |= {"state": "failed", "reason": describe(error)}
    _tidy()
    outcome["stages"] = course.stages
    outcome["seconds"] = round(time.perf_counter() - started, 3)
    return outcome


def _tidy() -> None:
    """Gives a GPU's memory back: other trials may share it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


class _InvalidError(Exception):
    """Settings that contradict each other."""


def code() -> str:
    """Returns a digest of this machine's version of the code that decides what a trial gives."""
    rooms = dict.fromkeys(room for kind in LEARNS for room in NUMERICAL_ROOMS.get(kind, ()))
    return content_key({room: code_digest(room) for room in rooms})


def _refuse_another_machine(order: Order) -> None:
    host = socket.gethostname()
    if not Path(order["folder"]).is_dir():
        raise StageError(
            f"{host} has no {order['folder']}: all machines must share the runs folder"
        )
    if code() != order["code"]:
        raise StageError(
            f"{host} has another version of dynmm than the machine that searches",
            hint="Install the same versions on every machine.",
        )


def _run(order: Order, course: Course, surroundings: Surroundings, report: Report) -> Outcome:
    _refuse_another_machine(order)
    loaded = _loaded(order, surroundings.catalogue)
    reporter = EpochReporter(order["objectives"][0], report, order["deadline"])
    bench = _bench(order, loaded, replace(surroundings, on_epoch=reporter))
    from dynmm_framework.engine.validation import stages_to_validate, validate

    stages = list(stages_to_validate(bench.plan))
    for stage in stages:
        apart = ""
        if stage is stages[-1]:
            # Two members of a population may have the same settings for a while.
            apart = f"@{course.member}" if course.member else ""
            course.begin(stage.name, bench.store.workdir(stage.name, stage.key, apart=apart))
        if not stage.cached:
            bench.run(stage, apart=apart)
        course.stages.append({"name": stage.name, "key": stage.key, "cached": stage.cached})
    names = [name for name in order["objectives"] if name != LATENCY]
    found = validate(bench, names, latency=LATENCY in order["objectives"])
    metrics = {name: float(found.values[name]) for name in names}
    if found.latency_ms is not None:
        metrics[LATENCY] = found.latency_ms
    return {"state": "finished", "metrics": metrics, "users": found.users}


def _loaded(order: Order, catalogue: Catalogue) -> LoadedPipeline:
    settings = Settings(deepcopy(order["pipeline"]))
    try:
        assign(settings, order["params"])
        loaded = load_pipeline(settings.data, catalogue=catalogue)
    except (ConfigError, ValueError) as error:
        raise _InvalidError("; ".join(str(error).splitlines())) from error
    return loaded


def _bench(order: Order, loaded: LoadedPipeline, shared: Surroundings) -> Workbench:
    from dynmm_framework.engine.device import resolve_device
    from dynmm_framework.engine.plan import make_plan, store_in
    from dynmm_framework.engine.stages import Workbench

    run = f"{order['search']}/{order['number']}"
    surroundings = replace(shared, offline=order["offline"], run=run)
    runs_dir = Path(order["runs_dir"])
    plan = make_plan(loaded, runs_dir=runs_dir, surroundings=surroundings)
    compute = loaded.pipeline.compute
    if order["threads"] is not None:
        compute = compute.model_copy(update={"threads": order["threads"]})
    return Workbench(loaded, plan, store_in(runs_dir), surroundings, resolve_device(compute))


class Place(TypedDict):
    """What a worker's process takes over from the driver's."""

    folder: str
    """Working folder, which paths in pipelines are relative to."""
    environment: dict[str, str]


def this_place() -> Place:
    """Returns what this process hands on to workers."""
    environment = {k: v for k, v in os.environ.items() if k.startswith("DYNMM_")}
    return {"folder": str(Path.cwd()), "environment": environment}


def settle(place: Place) -> None:
    """Makes a worker's process like that of the driver."""
    os.environ.update(place["environment"])
    os.chdir(place["folder"])
