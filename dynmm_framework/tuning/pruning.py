"""Early stopping where trials run in this process: Optuna's pruners, fed epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from dynmm_framework.config.search import Scheduler
from dynmm_framework.tuning.epochs import Epoch, kind_of
from dynmm_framework.tuning.records import Objective, TrialRecord
from dynmm_framework.tuning.sampler import direction_of, import_optuna


class Pruning:
    """Says which trials are behind. Stages of one kind are compared, each kind by itself.

    Args:
        scheduler: The rule.
        objective: What is followed.
        known: Trials of earlier sittings, which count too.
    """

    def __init__(
        self, scheduler: Scheduler, objective: Objective, *, known: Iterable[TrialRecord] = ()
    ) -> None:
        self.scheduler, self.objective = scheduler, objective
        self._optuna = import_optuna()
        self._studies: dict[str, Any] = {}
        self._open: dict[tuple[int, str], Any] = {}
        for record in known:
            for epoch in cast(list[Epoch], record.epochs):
                self.behind(record.number, epoch)
            self.ended(record.number, finished=record.state == "finished")

    def behind(self, number: int, epoch: Epoch) -> str:
        """Takes an epoch of a trial; returns why the trial is to be stopped, or nothing."""
        kind = kind_of(epoch)
        if not kind or self.scheduler.name == "none":
            return ""
        trial = self._open.get((number, kind))
        if trial is None:
            trial = self._open[number, kind] = self._study(kind).ask()
        trial.report(epoch["value"], epoch["epoch"])
        is_behind = trial.should_prune()
        return f"{self.scheduler.name}: behind at epoch {epoch['epoch']}" if is_behind else ""

    def ended(self, number: int, *, finished: bool) -> None:
        """Notes that a trial ended; the median is that of finished ones."""
        state = self._optuna.trial.TrialState
        for key in [key for key in self._open if key[0] == number]:
            trial = self._open.pop(key)
            values = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
            if finished:
                trial.study.tell(trial, values[max(values)])
            else:
                trial.study.tell(trial, state=state.PRUNED)

    def _study(self, kind: str) -> Any:
        if kind not in self._studies:
            rule, pruners = self.scheduler, self._optuna.pruners
            if rule.name == "asha":
                pruner = pruners.SuccessiveHalvingPruner(
                    min_resource=rule.grace, reduction_factor=rule.factor
                )
            else:
                pruner = pruners.MedianPruner(
                    n_startup_trials=rule.least, n_warmup_steps=rule.grace
                )
            self._studies[kind] = self._optuna.create_study(
                pruner=pruner,
                sampler=self._optuna.samplers.RandomSampler(seed=0),  # nothing is drawn
                direction=direction_of(self.objective),
            )
        return self._studies[kind]
