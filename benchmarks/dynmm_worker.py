"""Measures one of our models in a process of its own; started by recbole_peer.py. Reads one JSON
request from the command line, prints one JSON line.

    python dynmm_worker.py '{"model": "lightgcn", "data": "ml-100k", "settings": {"epochs": 3},
                             "threads": 1}'
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import median, read

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.pipeline import LeaveOneOut
from dynmm_framework.data.splits import make_split
from dynmm_framework.engine.context import RunContext, Surroundings
from dynmm_framework.evaluation.evaluate import evaluate, expand
from dynmm_framework.evaluation.ranking import as_recommender

if TYPE_CHECKING:
    from dynmm_framework.data.splits import Split


@dataclass(frozen=True)
class Clocked(RunContext):
    """A context that keeps the seconds of every epoch."""

    seconds: list[float] = field(default_factory=list)

    def epoch_finished(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.seconds.append(metrics["seconds"])


def targets_in_epoch(model: str, split: Split) -> int:
    """Positive targets learned from in one epoch, as RecBole counts its own."""
    train = split.train
    if model == "lightgcn":
        return len(train)
    lengths = train.histories().lengths
    return int((lengths - 1).clip(min=0).sum())


def measure(request: dict[str, Any]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(request["threads"])
    dataset = read(request["data"])
    split = make_split(dataset, LeaveOneOut(strategy="leave_one_out"), seed=0)
    catalogue = load_catalogue()
    component = catalogue.find("backbone", request["model"])
    model = catalogue.create(component, {**request["settings"], "patience": 0})
    with tempfile.TemporaryDirectory() as folder:
        ctx = Clocked(
            Surroundings(catalogue), stage="benchmark", seed=1, device="cpu", workdir=Path(folder)
        )
        model.fit(split.training_data(dataset.items), ctx)
    targets = targets_in_epoch(request["model"], split)
    # The first epoch warms caches and is left out if there are others.
    epoch_seconds = median(ctx.seconds[1:] or ctx.seconds)
    requests = expand([catalogue.metric(name) for name in ("hit", "ndcg")], [10])
    evaluation = split.evaluation("test")
    for _ in range(2):  # the first ranking imports and warms up, the second counts
        started = time.perf_counter()
        result = evaluate(as_recommender(model), evaluation, requests, latency_users=0)
        ranking_seconds = time.perf_counter() - started
    return {
        "targets_per_second": targets / epoch_seconds,
        "targets_in_epoch": targets,
        "evaluation_seconds": ranking_seconds,
        "evaluated_users": len(evaluation),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "metrics": dict(result.values),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
