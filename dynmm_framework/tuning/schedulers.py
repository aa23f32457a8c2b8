"""Ray Tune's schedulers, as a search declares them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from dynmm_framework.config.search import Dimension, Scheduler
from dynmm_framework.config.space import Space
from dynmm_framework.tuning.population import bounded, drawn
from dynmm_framework.tuning.records import Objective, TrialRecord

KIND, EPOCH, VALUE = "kind", "epoch", "value"
"""What results call the kind of stage, its epoch, and the followed metric."""
MOST_EPOCHS = 10**6
"""Where ASHA's last rung may be; a trial's own number of epochs ends it long before."""
NEVER: Any = float("inf")
RESAMPLED = 0.25
"""How often a member of a population draws a setting anew rather than moving it a little."""


@dataclass(frozen=True)
class _Earlier:
    """Stands for a trial of an earlier sitting."""

    trial_id: str


class ByKind(FIFOScheduler):
    """Stops trials early, each kind of stage by a scheduler of its own.

    A trial trains a backbone and then an alignment on it: their epochs have nothing to do with each
    other, and a trial that finds the backbone trained already reports none of it.

    Args:
        make: Makes a kind's scheduler.
        known: Trials of earlier sittings, which count too.
    """

    def __init__(
        self, make: Callable[[], TrialScheduler], *, name: str, known: Iterable[TrialRecord]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.make, self.name = make, name
        self.reasons: dict[str, str] = {}
        self._kinds: dict[str, TrialScheduler] = {}
        self._added: set[tuple[str, str]] = set()
        from dynmm_framework.tuning.epochs import Epoch, kind_of

        for record in known:
            trial = _Earlier(f"earlier-{record.number}")
            for epoch in cast(list[Epoch], record.epochs):
                self.on_trial_result(None, trial, {KIND: kind_of(epoch), **epoch})

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Asks the scheduler of the result's kind of stage."""
        kind = result.get(KIND)
        if not kind:
            return str(TrialScheduler.CONTINUE)
        if kind not in self._kinds:
            self._kinds[kind] = self.make()
        scheduler = self._kinds[kind]
        if (trial.trial_id, kind) not in self._added:
            self._added.add((trial.trial_id, kind))
            scheduler.on_trial_add(tune_controller, trial)
        decision = str(scheduler.on_trial_result(tune_controller, trial, result))
        if decision == TrialScheduler.STOP:
            self.reasons[trial.trial_id] = f"{self.name}: behind at epoch {result[EPOCH]}"
        return decision


def make_scheduler(
    block: Scheduler,
    objective: Objective,
    space: Space,
    *,
    seed: int,
    known: Iterable[TrialRecord] = (),
) -> TrialScheduler:
    """Returns the scheduler of Ray Tune that a search asks for.

    Args:
        block: The search's scheduler.
        objective: What is followed.
        space: What varies; population-based training moves in it.
        seed: Of the search.
        known: Trials of earlier sittings, which early stopping compares with too.
    """
    make: Callable[[], TrialScheduler]
    followed: dict[str, Any] = {"time_attr": EPOCH, "metric": VALUE, "mode": objective.direction}
    if block.name == "asha":
        make = partial(
            ASHAScheduler,
            grace_period=block.grace,
            reduction_factor=block.factor,
            max_t=MOST_EPOCHS,
            **followed,
        )
        return ByKind(make, name=block.name, known=known)
    if block.name == "median":
        make = partial(
            MedianStoppingRule,
            grace_period=block.grace,
            min_samples_required=block.least,
            min_time_slice=NEVER,  # nobody is made to wait for others
            **followed,
        )
        return ByKind(make, name=block.name, known=known)
    if block.name == "pbt":
        return _population(block, space, np.random.default_rng(seed), followed)
    return FIFOScheduler()  # type: ignore[no-untyped-call]


def _population(
    block: Scheduler, space: Space, rng: np.random.Generator, followed: dict[str, Any]
) -> TrialScheduler:
    def within(config: dict[str, Any]) -> dict[str, Any]:
        params = config["seat"]["params"]
        kept = {path: bounded(space[path], value) for path, value in params.items()}
        return {**config, "seat": {**config["seat"], "params": kept}}

    return PopulationBasedTraining(
        perturbation_interval=block.interval,
        burn_in_period=block.grace,
        hyperparam_mutations={
            "seat": {"params": {path: _moves(found, rng) for path, found in space.items()}}
        },
        quantile_fraction=block.share,
        resample_probability=RESAMPLED,
        custom_explore_fn=within,
        log_config=False,
        require_attrs=False,  # stages before the one that is judged report other things
        synch=False,  # nobody waits, so nobody waits for one who is gone
        **followed,
    )


def _moves(dimension: Dimension, rng: np.random.Generator) -> Any:
    """Returns what Tune moves a setting in: neighbours in a list, or factors of a number."""
    if dimension.choice is not None or dimension.power_of_two is not None:
        return list(dimension.values or ())
    return partial(drawn, dimension, rng)


def reason_of(scheduler: TrialScheduler, trial: Trial) -> str:
    """Returns why a scheduler has stopped a trial."""
    found = getattr(scheduler, "reasons", {}).get(trial.trial_id)
    return found or "stopped by its scheduler"
