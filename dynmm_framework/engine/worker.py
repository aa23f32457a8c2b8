"""What each Ray worker of a fit stage does; see :mod:`dynmm_framework.engine.parallel`."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from dynmm_framework.artifacts.atomic import write_json
from dynmm_framework.artifacts.store import StageStore, StageWriter
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.engine.context import Surroundings
from dynmm_framework.engine.digest import code_digest, component_digest
from dynmm_framework.engine.fitting import fit
from dynmm_framework.engine.journal import Journal, JournalHandler, WorkerContext
from dynmm_framework.engine.plan import Plan, PlannedStage
from dynmm_framework.engine.stages import Workbench
from dynmm_framework.errors import DynmmError, PluginError
from dynmm_framework.protocols import Workers
from dynmm_framework.training.config import LoopConfig

ALL_FAIL_SECONDS = 5.0
"""How long a worker that failed waits to see whether all others fail too."""

JOURNAL_FILE, RESULT_FILE = "journal.jsonl", "result.json"


def work(order: Mapping[str, Any]) -> None:
    """What each worker does; Ray Train calls it.

    What goes wrong is written down for the driver. Where all workers fail, as they do from a loss
    that is not finite, that is the end. Where one fails, the others wait for it, so Ray Train has
    to stop them, and starts all again; but the reason would be met again, so a worker that finds
    such a note does nothing. The loss of another worker is no such reason.
    """
    import ray.train

    from dynmm_framework.training.parallel import WorkerLostError

    place = ray.train.get_context()
    rank, desk = place.get_world_rank(), Path(order["desk"])
    if not desk.is_dir():
        raise FileNotFoundError(
            f"{socket.gethostname()} has no {desk}: all machines must share the runs folder"
        )
    if any(desk.glob("error-*.json")):
        return
    try:
        meta = _fit(order, rank, place.get_world_size(), desk)
    except WorkerLostError:
        raise
    except Exception as error:
        write_json(desk / f"error-{rank:04d}.json", _described(error, order["stage"], rank))
        if _all_failed(desk, place.get_world_size()):
            return
        raise
    if rank == 0:
        write_json(desk / RESULT_FILE, meta)


def _all_failed(desk: Path, size: int) -> bool:
    deadline = time.monotonic() + ALL_FAIL_SECONDS
    while len(list(desk.glob("error-*.json"))) < size:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _described(error: Exception, stage: str, rank: int) -> dict[str, str]:
    if isinstance(error, DynmmError):
        return {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    message = f"stage {stage}: worker {rank} failed: {type(error).__name__}: {error}"
    return {"kind": "StageError", "message": message, "hint": ""}


def _fit(order: Mapping[str, Any], rank: int, size: int, desk: Path) -> Mapping[str, Any]:
    import ray.train.torch
    import torch

    from dynmm_framework.training.parallel import gather

    os.environ.update(order["environment"])
    device = str(ray.train.torch.get_device()) if order["gpu"] else "cpu"
    if device == "cpu":
        torch.set_num_threads(order["threads"])
    journal = Journal(desk / JOURNAL_FILE) if rank == 0 else None
    if journal is not None:
        logging.getLogger("dynmm").addHandler(JournalHandler(journal))
    loaded = load_pipeline(order["pipeline"])
    plan = Plan(order["name"], planned_stages(order))
    stage = plan.named(order["stage"])
    config = loaded.configs[stage.label]
    assert isinstance(config, LoopConfig)  # only those have workers in a plan
    bench = _WorkerBench(
        replace(loaded, configs={**loaded.configs, stage.label: config.divided(size)}),
        plan,
        StageStore(order["store"]),
        Surroundings(loaded.catalogue, offline=order["offline"]),
        device,
        Workers(rank, size, gather),
        journal,
    )
    if (code := code_of(bench, stage)) != order["code"]:
        raise PluginError(
            f"stage {stage.name}: {socket.gethostname()} has another {code[0]}, or another core, "
            "than the machine that started the run",
            hint="Install the same versions on every machine.",
        )
    return fit(bench, stage, StageWriter(Path(order["folder"]), Path(order["workdir"])))


def planned_stages(order: Mapping[str, Any]) -> tuple[PlannedStage, ...]:
    """Returns the stages of an order's plan."""
    return tuple(PlannedStage(**planned) for planned in order["stages"])


@dataclass(frozen=True)
class _WorkerBench(Workbench):
    journal: Journal | None = None

    def context(self, *args: Any, **options: Any) -> WorkerContext:
        plain = super().context(*args, **options)
        values = {field.name: getattr(plain, field.name) for field in fields(plain)}
        return WorkerContext(**values, journal=self.journal)


def code_of(bench: Workbench, stage: PlannedStage) -> list[str]:
    """Identifies the code that trains."""
    component = bench.loaded.components[stage.label]
    return [
        component.identity,
        component_digest(component),
        code_digest("dynmm_framework.training"),
        code_digest("dynmm_framework.evaluation"),
    ]
