"""What is tried next: Optuna's samplers, asked and told, or all combinations of a grid."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dynmm_framework.config.space import Space
from dynmm_framework.errors import PluginError
from dynmm_framework.tuning.records import Objective, TrialRecord
from dynmm_framework.tuning.space import combinations, distribution, encode, suggest

if TYPE_CHECKING:
    import optuna

MOST_COMBINATIONS = 100_000
FEWEST_FOR_IMPORTANCE = 4
"""Finished trials below which nothing can be said of importance."""


class Sampler:
    """Proposes settings and learns from what they gave.

    All that it has learned is in the records of trials, so a search that goes on makes a new one
    of them; nothing of Optuna is stored.

    Args:
        space: The space, conditions first.
        kind: ``tpe``, ``random`` or ``grid``.
        objectives: What is compared.
        seed: Of the sampler.
        known: Trials that ended.
        waiting: Settings to propose before any other.
    """

    def __init__(
        self,
        space: Space,
        kind: str,
        objectives: Sequence[Objective],
        *,
        seed: int,
        known: Sequence[TrialRecord] = (),
        waiting: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.space, self.objectives = space, objectives
        self._optuna = import_optuna()
        # Going on with the same seed would draw again what was drawn first.
        rng = np.random.default_rng([seed, len(known)])
        draws = int(rng.integers(2**31))
        samplers = self._optuna.samplers
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `multivariate` is called experimental
            tpe = samplers.TPESampler(seed=draws, multivariate=True, group=True, constant_liar=True)
        sampler = tpe if kind == "tpe" else samplers.RandomSampler(seed=draws)
        self.study = self._optuna.create_study(
            sampler=sampler, directions=[direction_of(o) for o in objectives]
        )
        for record in known:
            if record.state in ("finished", "pruned"):
                self.study.add_trial(self._frozen(record))
        self._open: dict[int, optuna.Trial] = {}
        self._waiting = [dict(values) for values in waiting]
        self._grid: list[dict[str, Any]] | None = None
        if kind == "grid":
            done = [record.params for record in known] + self._waiting
            all_of_it = list(combinations(space))
            order = np.random.default_rng(seed).permutation(len(all_of_it))
            self._grid = [all_of_it[i] for i in order if all_of_it[i] not in done]

    def ask(self, number: int) -> dict[str, Any] | None:
        """Returns the settings of a trial; ``None`` when every combination has been tried.

        Args:
            number: The trial's number, by which it is told.
        """
        given: dict[str, Any] | None = None
        if self._waiting:
            given = self._waiting.pop(0)
        elif self._grid is not None:
            if not self._grid:
                return None
            given = self._grid.pop(0)
        if given is not None:
            fixed = {path: encode(self.space[path], value) for path, value in given.items()}
            self.study.enqueue_trial(fixed)
        trial = self.study.ask()
        self._open[number] = trial
        return suggest(trial, self.space)

    def tell(self, record: TrialRecord) -> None:
        """Learns from a trial that ended."""
        trial = self._open.pop(record.number)
        state = self._optuna.trial.TrialState
        if record.state == "finished":
            self.study.tell(trial, [record.metrics[o.name] for o in self.objectives])
        elif record.state == "pruned" and len(self.objectives) == 1:
            for step, value in _curve(record).items():
                trial.report(value, step)
            self.study.tell(trial, state=state.PRUNED)
        else:
            self.study.tell(trial, state=state.FAIL)

    def importance(self) -> dict[str, float]:
        """Returns the share of the first objective's variation that each setting explains.

        Settings that only some trials had, and those that never changed, are left out.
        """
        complete = [t for t in self.study.trials if t.state.name == "COMPLETE"]
        if len(complete) < FEWEST_FOR_IMPORTANCE:
            return {}
        common = set.intersection(*(set(trial.params) for trial in complete))
        varied = [p for p in self.space if p in common and len({t.params[p] for t in complete}) > 1]
        if not varied:
            return {}
        several = len(self.objectives) > 1
        target = (lambda trial: trial.values[0]) if several else None
        importance = self._optuna.importance
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = importance.PedAnovaImportanceEvaluator()
            try:
                found = importance.get_param_importances(
                    self.study, evaluator=evaluator, params=varied, target=target
                )
            except (ValueError, RuntimeError):
                return {}  # such as when all trials reached the same
        return {path: float(share) for path, share in found.items() if np.isfinite(share)}

    def _frozen(self, record: TrialRecord) -> optuna.trial.FrozenTrial:
        state = self._optuna.trial.TrialState
        finished = record.state == "finished"
        if not finished and len(self.objectives) > 1:
            chosen = state.FAIL
        else:
            chosen = state.COMPLETE if finished else state.PRUNED
        kept = [path for path in record.params if path in self.space]
        made: optuna.trial.FrozenTrial = self._optuna.trial.create_trial(
            state=chosen,
            params={path: encode(self.space[path], record.params[path]) for path in kept},
            distributions={path: distribution(self.space[path]) for path in kept},
            values=[record.metrics[o.name] for o in self.objectives] if finished else None,
            intermediate_values={} if finished else _curve(record),
        )
        return made


def import_optuna() -> Any:
    """Returns Optuna, its log off.

    Raises:
        PluginError: If it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise PluginError(
            f"a search needs Optuna, which does not load: {error}",
            hint="Install it: pip install 'dynmm-framework[tune]'",
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def grid_size(space: Space) -> int | str:
    """Returns the number of combinations, or why they cannot be counted."""
    endless = [path for path, dimension in space.items() if dimension.values is None]
    if endless:
        return f"a grid needs values to count, and {', '.join(endless)} has none; write a choice"
    most = 1
    for dimension in space.values():
        most *= len(dimension.values or ())
        if most > MOST_COMBINATIONS:
            return f"a grid of more than {MOST_COMBINATIONS:,} combinations; write fewer values"
    return sum(1 for _ in combinations(space))


def front_of(trials: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[int]:
    """Returns the finished trials that no other beats in every objective."""
    done = [trial for trial in trials if trial.state == "finished"]
    values = np.array([[o.sign * t.metrics[o.name] for o in objectives] for t in done])
    return [
        trial.number
        for trial, row in zip(done, values, strict=True)
        if not ((values >= row).all(axis=1) & (values > row).any(axis=1)).any()
    ]


def best_of(trials: Sequence[TrialRecord], objective: Objective) -> TrialRecord | None:
    """Returns the finished trial with the best value; of equals the first."""
    done = [trial for trial in trials if trial.state == "finished"]
    key = objective.name
    return max(done, key=lambda t: (objective.sign * t.metrics[key], -t.number), default=None)


def _curve(record: TrialRecord) -> dict[int, float]:
    """Returns the followed metric by epoch, of the last stage that reported it."""
    known = [entry for entry in record.epochs if entry["value"] is not None]
    last = known[-1]["stage"] if known else ""
    return {entry["epoch"]: entry["value"] for entry in known if entry["stage"] == last}


def direction_of(objective: Objective) -> str:
    """Returns what Optuna calls an objective's direction."""
    return "maximize" if objective.direction == "max" else "minimize"
