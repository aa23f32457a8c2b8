"""Trials on Ray Tune: it places them on machines, begins lost ones again, and stops who is behind.

What is tried next, and what came of it, stays with the search: Tune is asked for no state, and what
it stores while it works is removed in the end and never read. So a search goes on from plain JSON.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynmm_framework.config.search import SearchBlock
from dynmm_framework.config.space import Space
from dynmm_framework.errors import ConfigError, Problem
from dynmm_framework.tuning.engine import check_address, unreachable
from dynmm_framework.tuning.executor import Host
from dynmm_framework.tuning.trial import Order, this_place

OBJECT_STORE_BYTES = 100 * 2**20
"""Of a cluster that is started here; nothing large goes through it. Ray wants 75 MiB."""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A notice of Ray about a default that is to change; both mean the same here.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C is the search's to handle.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Not every epoch is validated, and stages before the one that is judged have other metrics.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Tune's own state is of no use here, so it is written seldom.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_THRESHOLD_S": "3600",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "3600",
}
"""How Ray and Ray Tune are told to keep quiet and to leave files and signals alone."""


@dataclass
class RayTuneExecutor:
    """Runs trials by Ray Tune on a Ray cluster.

    Args:
        block: Resources, concurrency, scheduler and retries.
        space: What varies.
        address: The cluster; ``local`` starts one on this machine.
        device: ``compute.device`` of the pipeline.
        folder: Where Tune stores what it needs while it works; all machines must see it.

    Attributes:
        concurrency: Trials at once, as many as fit.
        startup_seconds: Until Ray and the first worker were there.
    """

    block: SearchBlock
    space: Space
    address: str
    device: str
    folder: Path
    concurrency: int = 1
    startup_seconds: float = 0.0
    _owns: bool = False
    _asked_at: float | None = None

    @property
    def name(self) -> str:
        where = "this machine" if self.address == "local" else self.address
        return f"ray: {self.concurrency} at once on {where}"

    def open(self) -> None:
        """Connects to the cluster, or starts one.

        Raises:
            StageError: If nobody answers at the address.
            ConfigError: If no machine of the cluster has what a trial asks for.
        """
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import ray

        started = time.monotonic()
        if not ray.is_initialized():
            check_address(self.address)
            own: dict[str, Any] = {}
            if self.address == "local":
                own = {
                    "num_cpus": os.cpu_count() or 1,
                    "object_store_memory": OBJECT_STORE_BYTES,
                    "include_dashboard": False,
                }
            try:
                ray.init(
                    address=self.address, log_to_driver=False, logging_level=logging.ERROR, **own
                )
            except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
                raise unreachable(self.address, str(error)) from error
            self._owns = True
        try:
            places = self._places()
            self.concurrency = min(self.block.concurrency or places, self.block.trials)
        except BaseException:
            self.close()
            raise
        self.startup_seconds = round(time.monotonic() - started, 3)

    def close(self) -> None:
        """Ends Ray if it was started or connected to here, and removes what Tune has stored."""
        import ray

        if self._owns and ray.is_initialized():
            ray.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self) -> None:
        """Ends all workers."""
        self.close()

    def run(self, host: Host) -> None:
        """Runs all trials that the search asks for.

        Raises:
            StageError: If workers cannot be started.
        """
        if host.over:
            return
        from ray import tune

        from dynmm_framework.tuning.asked import Asked, Told, seats
        from dynmm_framework.tuning.schedulers import make_scheduler
        from dynmm_framework.tuning.worker import TrialWorker

        shutil.rmtree(self.folder, ignore_errors=True)  # of a search that was killed
        scheduler = make_scheduler(
            self.block.scheduler,
            host.objective,
            self.space,
            seed=host.seed,
            known=host.known,
        )
        trainable = tune.with_resources(
            tune.with_parameters(
                TrialWorker, template=self._told(host.template), place=this_place()
            ),
            {"cpu": self.block.resources.cpus, "gpu": self.block.resources.gpus},
        )
        told = Told(host, scheduler, began=self._began)
        # Workers start side by side, not one after another.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(self.concurrency)
        self._asked_at = time.monotonic()
        if self.block.scheduler.name == "pbt":
            # The population is there from the start; Tune shares the machines out among it.
            asked, space, samples = None, {"seat": tune.grid_search(seats(host))}, 1
        else:
            asked, space, samples = Asked(host, concurrency=self.concurrency), {}, -1
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=asked,
                scheduler=scheduler,
                num_samples=samples,
                reuse_actors=True,
                trial_name_creator=lambda trial: str(trial.trial_id),
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=str(self.folder.absolute()),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=4),
                failure_config=tune.FailureConfig(max_failures=self.block.retries),
                callbacks=[told],
                verbose=0,
            ),
        )
        with _quiet(host.seed):
            tuner.fit()

    def _began(self) -> None:
        """Counts the time until the first worker was there as that of starting."""
        if self._asked_at is not None:
            waited = time.monotonic() - self._asked_at
            self.startup_seconds = round(self.startup_seconds + waited, 3)
            self._asked_at = None

    def _told(self, order: Order) -> Order:
        compute = dict(order["pipeline"].get("compute") or {})
        if self.block.resources.gpus == 0:
            compute["device"] = "cpu"
        elif self.device.startswith("cuda"):
            compute["device"] = "cuda"  # Ray shows a worker its own GPUs alone, from number 0
        pipeline = {**order["pipeline"], "compute": compute}
        return {**order, "pipeline": pipeline, "threads": self.block.resources.threads}

    def _places(self) -> int:
        """Returns how many trials fit at once on the machines that are there.

        Raises:
            ConfigError: If none does.
        """
        import ray

        wanted = self.block.resources
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        places = sum(_fitting(node, wanted.cpus, wanted.gpus) for node in nodes)
        if not places:
            problems = []
            for kind, asked in (("CPU", wanted.cpus), ("GPU", wanted.gpus)):
                most = max((node.get(kind, 0.0) for node in nodes), default=0.0)
                if asked > most:
                    path = f"search.resources.{kind.lower()}s"
                    message = f"a trial asks for {asked:g} {kind}s, and no machine of the cluster"
                    problems.append(Problem(f"{message} has more than {most:g}", path=path))
            if not problems:
                problems = [Problem("no machine has all of it at once", path="search.resources")]
            raise ConfigError(problems, hint="Ask for less, or use a cluster that has it.")
        return places


def _fitting(node: dict[str, float], cpus: float, gpus: float) -> int:
    """Returns how many trials one machine has room for; several parts share a GPU, none two."""
    room = int(node.get("CPU", 0.0) / cpus + 1e-6)
    if gpus >= 1:
        room = min(room, int(node.get("GPU", 0.0) / gpus + 1e-6))
    elif gpus:
        room = min(room, int(node.get("GPU", 0.0)) * int(1 / gpus + 1e-6))
    return room


@contextmanager
def _quiet(seed: int) -> Iterator[None]:
    """Keeps Tune's messages away, and gives it random numbers of the search's seed."""
    logger = logging.getLogger("ray")
    level, state = logger.level, random.getstate()
    logger.setLevel(logging.CRITICAL)
    random.seed(seed)  # population-based training draws from the process's generator
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        random.setstate(state)
