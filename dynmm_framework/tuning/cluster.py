"""Trials on Ray workers: one actor a trial at a time, replaced when it is lost.

The driver keeps the sampler, the records and the decision what comes next; Ray places workers on
machines and tells when one is gone. Orders and outcomes are plain data. Ray Tune, which does more,
would store the experiment as pickles and start a process for every trial.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.search import SearchBlock
from dynmm_framework.errors import ConfigError, Problem, StageError
from dynmm_framework.tuning.engine import check_address, unreachable
from dynmm_framework.tuning.trial import Order, Outcome, Place, run_trial, settle, this_place

OBJECT_STORE_BYTES = 100 * 2**20
"""Of a cluster that is started here; nothing large goes through it. Ray wants 75 MiB."""
START_SECONDS = 120.0
"""How long is waited for the first workers before trials are begun on those that are there."""
MOST_FAILURES = 5
"""Workers in a row that end before they have started, after which no other is tried."""


class TrialWorker:
    """What runs in a worker's process; made by Ray."""

    def __init__(self, place: Place) -> None:
        import dynmm_framework.engine.validation
        import dynmm_framework.evaluation.evaluate
        import dynmm_framework.training.loop  # noqa: F401
        from dynmm_framework.engine.context import Surroundings

        settle(place)
        self._surroundings = Surroundings(load_catalogue())

    def ready(self) -> int:
        """Reads what trials need, so that the first is not slower; returns the process."""
        assert self._surroundings.registry is not None
        return os.getpid()

    def run(self, order: Order) -> Outcome:
        """Runs one trial."""
        return run_trial(order, self._surroundings)


@dataclass
class _Seat:
    """A worker and what it does; it can be given a trial once Ray has found a place for it."""

    actor: Any
    waits_for: Any
    order: Order | None = None
    ref: Any = None
    attempts: int = 1

    @property
    def idle(self) -> bool:
        return self.order is None and self.waits_for is None


@dataclass
class RayExecutor:
    """Runs trials on a Ray cluster.

    Args:
        block: Resources, concurrency and retries.
        address: The cluster; ``local`` starts one on this machine.
        device: ``compute.device`` of the pipeline.

    Attributes:
        concurrency: Trials at once, as many as fit.
        startup_seconds: Until Ray and the first workers were there.
    """

    block: SearchBlock
    address: str
    device: str = "auto"
    concurrency: int = 1
    startup_seconds: float = 0.0
    _seats: list[_Seat] = field(default_factory=list)
    _lost: list[tuple[Order, int]] = field(default_factory=list)
    _owns: bool = False
    _failures: int = 0

    @property
    def name(self) -> str:
        where = "this machine" if self.address == "local" else self.address
        return f"ray: {self.concurrency} at once on {where}"

    def open(self) -> None:
        """Connects, and starts the workers.

        Raises:
            StageError: If nobody answers at the address.
            ConfigError: If no machine of the cluster has what a trial asks for.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # A notice of Ray about a default that is to change; both mean the same here.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
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
            self._seats = [self._seat() for _ in range(self.concurrency)]
            ready = [seat.waits_for for seat in self._seats]
            ray.wait(ready, num_returns=min(places, len(ready)), timeout=START_SECONDS)
        except BaseException:
            self.close()
            raise
        self.startup_seconds = round(time.monotonic() - started, 3)

    def close(self) -> None:
        """Ends the workers, and Ray if it was started or connected to here."""
        import ray

        self.stop()
        if self._owns and ray.is_initialized():
            ray.shutdown()

    @property
    def free(self) -> bool:
        self._look()
        return any(seat.idle for seat in self._seats) and not self._lost

    def start(self, order: Order) -> None:
        """Gives a trial to a worker that has none."""
        self._give(self._told(order), attempts=1)

    def wait(self, seconds: float) -> list[tuple[int, Outcome]]:
        """Returns trials that ended; those whose worker was lost are begun again elsewhere."""
        import ray
        from ray.exceptions import RayError

        self._look()
        while self._lost and any(seat.idle for seat in self._seats):
            order, attempts = self._lost.pop(0)
            self._give(order, attempts=attempts)
        busy = {seat.ref: seat for seat in self._seats if seat.ref is not None}
        if not busy:  # no machine has a place at present
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(list(busy), num_returns=1, timeout=seconds)
        if ready:  # what else is there already
            ready, _ = ray.wait(list(busy), num_returns=len(busy), timeout=0)
        done: list[tuple[int, Outcome]] = []
        for ref in ready:
            seat = busy[ref]
            assert seat.order is not None  # it has a reference
            try:
                outcome: Outcome = ray.get(ref)
                done.append((seat.order["number"], self._counted(outcome, seat.attempts)))
                seat.order, seat.ref = None, None
            except RayError as error:
                done += self._after_loss(seat, error)
        return done

    def stop(self) -> None:
        """Ends all workers."""
        import ray
        from ray.exceptions import RayError

        for seat in self._seats:
            with suppress(RayError, RuntimeError):
                ray.kill(seat.actor)
        self._seats = []

    def _after_loss(self, seat: _Seat, error: Exception) -> list[tuple[int, Outcome]]:
        assert seat.order is not None  # the caller saw it
        order, attempts = seat.order, seat.attempts
        self._seats[self._seats.index(seat)] = self._seat()
        if attempts <= self.block.retries:
            self._lost.append((order, attempts + 1))
            return []
        times = "" if attempts == 1 else f" {attempts} times"
        outcome: Outcome = {
            "state": "failed",
            "reason": f"its worker was lost{times}: {_said(error)}",
        }
        return [(order["number"], self._counted(outcome, attempts))]

    def _look(self) -> None:
        """Finds out which workers have started; one that could not is replaced.

        Raises:
            StageError: If none can be started.
        """
        import ray
        from ray.exceptions import RayError

        starting = {seat.waits_for: seat for seat in self._seats if seat.waits_for is not None}
        if not starting:
            return
        ready, _ = ray.wait(list(starting), num_returns=len(starting), timeout=0)
        for ref in ready:
            seat = starting[ref]
            try:
                ray.get(ref)
                seat.waits_for, self._failures = None, 0
            except RayError as error:
                self._failures += 1
                if self._failures > MOST_FAILURES:
                    raise StageError(
                        f"workers cannot be started on {self.address}: {_said(error)}",
                        hint="Every machine needs the same versions of dynmm and its plugins.",
                    ) from error
                self._seats[self._seats.index(seat)] = self._seat()

    def _seat(self) -> _Seat:
        actor = self._actor()
        return _Seat(actor, actor.ready.remote())

    def _counted(self, outcome: Outcome, attempts: int) -> Any:
        return {**outcome, "attempts": attempts}

    def _give(self, order: Order, *, attempts: int) -> None:
        seat = next(seat for seat in self._seats if seat.idle)
        seat.order, seat.attempts = order, attempts
        seat.ref = seat.actor.run.remote(order)

    def _told(self, order: Order) -> Order:
        compute = dict(order["pipeline"].get("compute") or {})
        if self.block.resources.gpus == 0:
            compute["device"] = "cpu"
        elif self.device.startswith("cuda"):
            compute["device"] = "cuda"  # Ray shows a worker its own GPUs alone, from number 0
        pipeline = {**order["pipeline"], "compute": compute}
        return {**order, "pipeline": pipeline, "threads": self.block.resources.threads}

    def _actor(self) -> Any:
        import ray

        wanted = self.block.resources
        made = ray.remote(TrialWorker)
        return made.options(
            num_cpus=wanted.cpus,
            num_gpus=wanted.gpus,
            max_restarts=0,
            scheduling_strategy="SPREAD",
        ).remote(this_place())

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


def _said(error: Exception) -> str:
    """Returns the lines of Ray's message that say what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "cause" in line.lower() or "memory" in line.lower()]
    told = (telling or lines[-1:] or ["no reason is known"])[0]
    return f"{type(error).__name__}: {told[:300]}"
