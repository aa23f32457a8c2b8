"""Trials in this process, one after another."""

from __future__ import annotations

from dynmm_framework.engine.context import Surroundings
from dynmm_framework.tuning.trial import Order, Outcome, run_trial


class LocalExecutor:
    """Runs trials in this process.

    Args:
        surroundings: What all trials share.
    """

    name = "local"
    concurrency = 1
    startup_seconds = 0.0

    def __init__(self, surroundings: Surroundings) -> None:
        self.surroundings = surroundings
        self._orders: list[Order] = []

    @property
    def free(self) -> bool:
        return not self._orders

    def start(self, order: Order) -> None:
        """Takes one trial; :meth:`wait` runs it."""
        self._orders.append(order)

    def wait(self, seconds: float) -> list[tuple[int, Outcome]]:
        """Runs the trial and returns its number and outcome."""
        done = []
        while self._orders:
            order = self._orders[0]
            done.append((order["number"], run_trial(order, self.surroundings)))
            self._orders.pop(0)
        return done

    def stop(self) -> None:
        """Nothing goes on without this process."""
