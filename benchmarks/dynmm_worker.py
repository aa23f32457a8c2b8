"""Measures one of our models in a process of its own; started by the comparisons with peers. Reads
one JSON request from the command line, prints one JSON line.

    python dynmm_worker.py '{"model": "lightgcn", "data": "ml-100k", "settings": {"epochs": 3},
                             "threads": 1}'

``moments`` trains until the last of these seconds and judges the model at each; ``targets`` and
``most_users`` train on users with so many training targets, without ranking.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measure import median
from protocol import ByFunction, Clock, TimeIsUp, full_ranking, leave_one_out, users_with

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.data.tables import TrainingData
from dynmm_framework.engine.context import RunContext, Surroundings

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Interactions


@dataclass(frozen=True)
class Clocked(RunContext):
    """A context that keeps the seconds of every epoch."""

    seconds: list[float] = field(default_factory=list)

    def epoch_finished(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.seconds.append(metrics["seconds"])


class Referee:
    """Stands where a validator does, to be asked after every epoch.

    A moment that the next epoch would run over is taken before it, so that the model never has
    more time than it should.
    """

    metric = "epochs"
    higher_is_better = True

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.epochs = 0
        self._last = 0.0

    def __call__(self, score: Any) -> dict[str, float]:
        self.epochs += 1
        now = self.clock.elapsed()
        ahead, self._last = now - self._last, now
        self.clock.check(ByFunction(score), epochs=self.epochs, ahead=ahead)
        return {self.metric: 0.0}


def targets_in_epoch(model: str, train: Interactions, settings: Mapping[str, Any]) -> int:
    """Positive targets learned from in one epoch; padding is none."""
    if model == "lightgcn":
        return len(train)
    targets = (train.histories().lengths - 1).clip(min=0)
    if settings.get("windows") != "all":
        targets = targets.clip(max=settings["max_length"])
    return int(targets.sum())


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(request: dict[str, Any]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(request["threads"])
    dataset, split = leave_one_out(request["data"])
    data = split.training_data(dataset.items)
    if "targets" in request:
        chosen = users_with(split, request["targets"], request["most_users"])
        data = TrainingData(split.train.take(np.isin(split.train.users, chosen)), dataset.items)
    catalogue = load_catalogue()
    component = catalogue.find("backbone", request["model"])
    model = catalogue.create(component, {**request["settings"], "patience": 0})
    evaluation = split.evaluation("test")
    with tempfile.TemporaryDirectory() as folder:
        ctx = Clocked(
            Surroundings(catalogue),
            stage="benchmark",
            seed=request.get("seed", 1),
            device="cpu",
            workdir=Path(folder),
        )
        if "moments" in request:
            clock = Clock(request["moments"], evaluation)
            try:
                model.fit(data, replace(ctx, validator=Referee(clock)))
            except TimeIsUp:
                return {"moments": clock.found}
            raise SystemExit("training ended before its time: set more epochs")
        model.fit(data, ctx)
    targets = targets_in_epoch(request["model"], data.train, request["settings"])
    # The first quarter of the epochs warms up, if there are others.
    epoch_seconds = median(ctx.seconds[-(-len(ctx.seconds) // 4) :] or ctx.seconds)
    measured = {
        "targets_per_second": targets / epoch_seconds,
        "targets_in_epoch": targets,
        "epoch_seconds": epoch_seconds,
        "training_peak_mb": peak_mb(),
        "torch": torch.__version__,
    }
    if "targets" in request:
        return measured
    # The first ranking imports and warms up, the second counts.
    full_ranking(model, evaluation)
    values, seconds = full_ranking(model, evaluation)
    return {
        **measured,
        "evaluation_seconds": seconds,
        "evaluated_users": len(evaluation),
        "peak_mb": peak_mb(),
        "metrics": values,
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
