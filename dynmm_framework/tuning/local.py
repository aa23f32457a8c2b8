"""Trials in this process, one after another."""

from __future__ import annotations

from dynmm_framework.config.search import Scheduler
from dynmm_framework.engine.context import Surroundings
from dynmm_framework.errors import StoppedError
from dynmm_framework.tuning.epochs import Epoch
from dynmm_framework.tuning.executor import Host
from dynmm_framework.tuning.pruning import Pruning
from dynmm_framework.tuning.trial import run_trial


class LocalExecutor:
    """Runs trials in this process.

    Args:
        scheduler: Which trials are stopped early.
        surroundings: What all trials share.
    """

    name = "local"
    concurrency = 1
    startup_seconds = 0.0

    def __init__(self, scheduler: Scheduler, surroundings: Surroundings) -> None:
        self.scheduler, self.surroundings = scheduler, surroundings

    def run(self, host: Host) -> None:
        """Runs all trials that the search asks for."""
        pruning = Pruning(self.scheduler, host.objective, known=host.known)
        while (order := host.next()) is not None:
            number = order["number"]

            def report(epoch: Epoch, number: int = number) -> None:
                host.epoch(number, epoch)
                if reason := pruning.behind(number, epoch):
                    raise StoppedError(reason)

            outcome = run_trial(order, self.surroundings, report)
            pruning.ended(number, finished=outcome["state"] == "finished")
            host.ended(number, outcome)

    def stop(self) -> None:
        """Nothing goes on without this process."""
