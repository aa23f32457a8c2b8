"""The search as Ray Tune sees it: who is asked for trials, and who is told of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, cast

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from dynmm_framework.errors import DynmmError, StageError
from dynmm_framework.tuning.executor import Host
from dynmm_framework.tuning.schedulers import reason_of
from dynmm_framework.tuning.trial import Order, Outcome

MOST_FAILURES = 5
"""Trials in a row that never got a worker, after which the search gives up."""


_TELLING = ("because", "cause", "memory", "killed")


def seat(order: Order) -> dict[str, Any]:
    """Returns what a trial is told beside the template of all."""
    return {"number": order["number"], "params": order["params"]}


def seats(host: Host) -> list[dict[str, Any]]:
    """Returns a whole population."""
    found = []
    while (order := host.next()) is not None:
        found.append(seat(order))
    return found


class _Here:
    """Stays in this process: what Tune stores of it is empty, and never read."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class Asked(_Here, Searcher):
    """Gives out the search's trials one by one.

    Args:
        host: The search.
        concurrency: Most trials at once.
    """

    def __init__(self, host: Host, *, concurrency: int) -> None:
        super().__init__()
        self.host, self.concurrency = host, concurrency
        self._open: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """Returns the next trial's settings, nothing if it has to wait, or that there is none."""
        if self.host.over:
            return str(Searcher.FINISHED)
        if len(self._open) >= self.concurrency:
            return None
        order = self.host.next()
        if order is None:
            return str(Searcher.FINISHED) if self.host.over else None
        self._open.add(trial_id)
        return {"seat": seat(order)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Makes room for another."""
        self._open.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Stores an empty file: the search's own records are all that it goes on from."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Is never called: nothing that Tune stores is read.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("a search goes on from its own records")


class Told(_Here, Callback):
    """Tells the search what its trials do.

    Args:
        host: The search.
        scheduler: Knows why it has stopped a trial.
        began: Called when a worker takes a trial.
    """

    def __init__(self, host: Host, scheduler: TrialScheduler, *, began: Callable[[], None]) -> None:
        self.host, self.scheduler, self.began = host, scheduler, began
        self._numbers: dict[str, int] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._started: set[str] = set()
        self._mute = 0
        self._error: DynmmError | None = None

    def on_step_end(self, iteration: int, trials: Sequence[Trial], **info: Any) -> None:
        """Lets a person see how things stand.

        Raises:
            DynmmError: What a search cannot go on with.
        """
        if self._error is not None:
            raise self._error
        self.host.look()

    def on_trial_start(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any
    ) -> None:
        """Notes who is who, and what a member of a population goes on with."""
        self.began()
        self._started.add(trial.trial_id)
        self._mute = 0
        given = trial.config["seat"]
        if trial.trial_id not in self._numbers:
            self._numbers[trial.trial_id] = given["number"]
        self.host.begun(self._numbers[trial.trial_id], given["params"])

    def on_trial_result(
        self,
        iteration: int,
        trials: Sequence[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Hands on an epoch, or what a trial gave."""
        self._last[trial.trial_id] = result
        number = self._numbers[trial.trial_id]
        if "outcome" in result:
            outcome = cast(Outcome, {**result["outcome"], "attempts": trial.num_failures + 1})
            self._end(trial, outcome)
        elif "reported" in result:
            self.host.epoch(number, result["reported"])

    def on_trial_complete(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any
    ) -> None:
        """Notes a trial that its scheduler has stopped."""
        if trial.trial_id in self._numbers:
            reason = reason_of(self.scheduler, trial)
            self._end(trial, {"state": "pruned", "reason": reason})

    def on_trial_error(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any
    ) -> None:
        """Notes a trial whose workers were lost, or that never got one."""
        trial.run_metadata.pickled_error_filename = None  # its text is all that is ever read
        said = _said(trial)
        started = trial.trial_id in self._started
        times = "" if trial.num_failures <= 1 else f" {trial.num_failures} times"
        lost = "its worker was lost" if started else "its worker could not be started"
        outcome: Outcome = {"state": "failed", "reason": f"{lost}{times}: {said}"}
        outcome["attempts"] = max(1, trial.num_failures)
        self._numbers.setdefault(trial.trial_id, trial.config["seat"]["number"])
        self._end(trial, outcome)
        self._mute = 0 if started else self._mute + 1
        if self._mute >= MOST_FAILURES:
            self._error = self._error or StageError(
                f"workers cannot be started: {said}",
                hint="Every machine needs the same versions of dynmm and its plugins.",
            )

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        number = self._numbers.pop(trial.trial_id)
        last = self._last.pop(trial.trial_id, {})
        told = {"stages": last.get("stages", []), **outcome}
        try:
            self.host.ended(number, cast(Outcome, told))
        except DynmmError as error:  # such as a full disk; Tune would try the trial again
            self._error = error


def _said(trial: Trial) -> str:
    """Returns the line of Ray's message that says what happened."""
    path = Path(str(trial.error_file)) if trial.error_file else None
    text = path.read_text(encoding="utf-8") if path is not None and path.is_file() else ""
    newest = text.rpartition("Failure # ")[2].splitlines()[1:]
    lines = [line.strip() for line in newest if line.strip()]
    telling = [line for line in lines if any(word in line.lower() for word in _TELLING)]
    return (telling or lines or ["no reason is known"])[0][:300]
