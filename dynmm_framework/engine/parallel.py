"""Runs a fit stage on several workers through Ray Train.

The driver hands each worker an order of plain data: the pipeline, the plan, and where the store
and the stage's folders are, on a file system that all machines share. A worker reads the split
from the store, makes the component and fits it, by the code that fits it on one machine. The
first worker writes the state, as safetensors, into the stage's folder; weights never travel
through Ray.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dynmm_framework import errors
from dynmm_framework.artifacts.atomic import read_json
from dynmm_framework.artifacts.store import StageWriter
from dynmm_framework.cluster import ray_cluster
from dynmm_framework.config.pipeline import ComputeBlock
from dynmm_framework.engine.context import RunContext
from dynmm_framework.engine.fitting import STATE_FILE
from dynmm_framework.engine.journal import followed
from dynmm_framework.engine.plan import Plan, PlannedStage
from dynmm_framework.engine.stages import Workbench
from dynmm_framework.engine.worker import (
    JOURNAL_FILE,
    RESULT_FILE,
    code_of,
    planned_stages,
    work,
)
from dynmm_framework.errors import StageError
from dynmm_framework.training.config import LoopConfig

MOST_RESTARTS = 3
"""How often training goes on from its last checkpoint after a worker was lost."""
STOP_SECONDS = 30.0
"""How long to wait for workers to stop after Ctrl-C."""


def fit_on_workers(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> Mapping[str, Any]:
    """Trains a stage's component on Ray workers; its state is in the stage's folder afterwards.

    Returns:
        What the stage notes about itself, as :func:`dynmm_framework.engine.fitting.fit`, and the
        number of ``workers``. Time and memory are those of the first worker.

    Raises:
        DynmmError: As a worker raised it.
        StageError: If workers are lost again and again, or Ray cannot be reached.
    """
    compute = bench.loaded.pipeline.compute
    gpu = compute.gpus_per_worker == 1 or (
        compute.gpus_per_worker == "auto" and bench.device != "cpu"
    )
    _tell(bench, stage, writer)
    desk = Path(tempfile.mkdtemp(prefix="workers-", dir=writer.workdir.absolute()))
    contexts = _Contexts(bench, stage, writer)
    try:
        with _cluster(compute, stage, gpu=gpu), followed(desk / JOURNAL_FILE, contexts):
            _train(_order(bench, stage, writer, desk, gpu=gpu), compute, desk, gpu=gpu)
        return {**_result(writer, desk, stage), "workers": stage.workers}
    finally:
        shutil.rmtree(desk, ignore_errors=True)


def _tell(bench: Workbench, stage: PlannedStage, writer: StageWriter) -> None:
    config = bench.loaded.configs[stage.label]
    assert isinstance(config, LoopConfig)  # only those have workers in a plan
    rows = config.divided(stage.workers).batch_size
    line = f"on {stage.workers} Ray workers" if stage.workers > 1 else "on a Ray worker"
    if stage.workers > 1:
        line += f", {rows:,} rows of a batch each"
    if (total := rows * stage.workers) != config.batch_size:
        line += f"; batches have {total:,} rows rather than {config.batch_size:,}"
    bench.context(stage, writer).log(line)


@dataclass(frozen=True)
class _Contexts:
    """The driver's contexts of a stage and of its parts."""

    bench: Workbench
    stage: PlannedStage
    writer: StageWriter

    def __call__(self, name: str) -> RunContext:
        part = name.removeprefix(self.stage.name).removeprefix("/")
        return self.bench.context(self.stage, self.writer, part=part)


def _order(
    bench: Workbench, stage: PlannedStage, writer: StageWriter, desk: Path, *, gpu: bool
) -> dict[str, Any]:
    """Returns what a worker needs to know, as plain data."""
    return {
        "pipeline": bench.loaded.resolved(),
        "name": bench.loaded.name,
        "stages": [asdict(planned) for planned in bench.plan.stages],
        "stage": stage.name,
        "code": code_of(bench, stage),
        "store": str(bench.store.root.absolute()),
        "folder": str(writer.folder.absolute()),
        "workdir": str(writer.workdir.absolute()),
        "desk": str(desk.absolute()),
        "offline": bench.surroundings.offline,
        "gpu": gpu,
        "threads": bench.loaded.pipeline.compute.threads or 1,
        "environment": {k: v for k, v in os.environ.items() if k.startswith("DYNMM_")},
    }


def _train(order: Mapping[str, Any], compute: ComputeBlock, desk: Path, *, gpu: bool) -> None:
    import ray
    from ray.exceptions import RayError
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    stage = Plan(order["name"], planned_stages(order)).named(order["stage"])
    resources = {"CPU": float(order["threads"]), **({"GPU": 1.0} if gpu else {})}
    controllers: list[Any] = []

    class Trainer(TorchTrainer):
        def _register_sigint_handler(self, controller: Any) -> None:
            """Leaves Ctrl-C to this process: Ray's handler would end it before it has tidied up."""
            controllers.append(controller)

    trainer = Trainer(
        work,
        train_loop_config=dict(order),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=stage.workers, use_gpu=gpu, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name="train",
            storage_path=str(desk / "ray"),
            failure_config=FailureConfig(max_failures=MOST_RESTARTS),
        ),
    )
    try:
        trainer.fit()
    except KeyboardInterrupt:
        for controller in controllers:
            with suppress(RayError):  # it ends itself
                ray.get(controller.abort.remote(), timeout=STOP_SECONDS)
        raise
    except TrainingFailedError as error:
        raise StageError(
            f"stage {stage.name}: Ray Train gave up after {MOST_RESTARTS} restarts: "
            f"{str(error).strip().splitlines()[-1]}",
            hint="Are there enough memory and machines? The same command goes on from the last "
            "checkpoint.",
        ) from error
    except RayError as error:
        raise StageError(
            f"stage {stage.name}: Ray failed: {type(error).__name__}: "
            f"{str(error).strip().splitlines()[-1]}",
            hint="See Ray's logs, in /tmp/ray/session_latest/logs on the machine it runs on. The "
            "same command goes on from the last checkpoint.",
        ) from error


@contextmanager
def _cluster(compute: ComputeBlock, stage: PlannedStage, *, gpu: bool) -> Iterator[None]:
    """Connects to the cluster asked for, or starts one here for as long as the block runs."""
    elsewhere = compute.address or os.environ.get("RAY_ADDRESS")
    cpus = stage.workers * (compute.threads or 1)
    with ray_cluster(compute.address, what=f"stage {stage.name}", cpus=cpus) as gpus:
        if gpu and not elsewhere and gpus < stage.workers:
            raise StageError(
                f"stage {stage.name}: {stage.workers} workers need a GPU each, this machine has "
                f"{gpus}",
                hint="Lower compute.workers, or set compute.gpus_per_worker: 0.",
            )
        yield


def _result(writer: StageWriter, desk: Path, stage: PlannedStage) -> Mapping[str, Any]:
    for path in sorted(desk.glob("error-*.json"))[:1]:
        found = read_json(path)
        kind = getattr(errors, found["kind"], StageError)
        raise kind(found["message"], hint=found["hint"])
    if not (desk / RESULT_FILE).exists() or not (writer.folder / STATE_FILE).exists():
        raise StageError(
            f"stage {stage.name}: the workers finished, but their result is not in {writer.folder}",
            hint="The runs folder must be on a file system that all machines share.",
        )
    result: Mapping[str, Any] = read_json(desk / RESULT_FILE)
    return result
