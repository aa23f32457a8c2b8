"""A task whose training on two processes can be computed by hand on one; also run as a script."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from training_task import StubContext

from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.errors import StageError
from dynmm_framework.evaluation.evaluate import expand, make_validator
from dynmm_framework.protocols import Workers
from dynmm_framework.specs import MetricSpec
from dynmm_framework.training.config import LoopConfig
from dynmm_framework.training.loop import train
from dynmm_framework.training.parallel import gather
from dynmm_framework.training.state import module_state

ROWS = np.random.default_rng(5).standard_normal((53, 3)).astype(np.float32)
"""Not a multiple of any batch size: the last batch is short, and one worker has no part of it."""
CONFIG = LoopConfig(
    epochs=4, batch_size=10, learning_rate=0.05, average=0.9, clip_norm=1.0, checkpoint_seconds=0
)
N_USERS = 23


class Line:
    """Fits a line to weighted rows: every batch has another number of terms."""

    def __init__(self, batch_size: int, *, reduction: str = "mean", poison: bool = False) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.module: nn.Module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
            self.module.unused = nn.Parameter(torch.ones(2))
        self.batch_size, self.reduction, self.poison = batch_size, reduction, poison
        self.n_batches = -(-len(ROWS) // batch_size)

    def batches(self, rng: np.random.Generator) -> Iterator[torch.Tensor]:
        order = torch.from_numpy(rng.permutation(len(ROWS)))
        yield from torch.from_numpy(ROWS)[order].split(self.batch_size)

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        weights = self._weights(batch)
        errors = (self.module(batch) - batch.sum(1, keepdim=True)).square().squeeze(1)
        loss = (weights * errors).sum()
        if self.poison and len(batch) < self.batch_size:
            loss = loss * float("nan")
        return loss if self.reduction == "sum" else loss / weights.sum()

    def n_terms(self, batch: torch.Tensor) -> float:
        return float(self._weights(batch).sum())

    def _weights(self, batch: torch.Tensor) -> torch.Tensor:
        return 1.0 + 2 * (batch[:, 0] > 0)

    def score(self, histories: Histories) -> torch.Tensor:
        raise NotImplementedError


class Killed(BaseException):
    """As a kill: nothing catches it."""


@dataclass
class MortalContext(StubContext):
    """Dies when an epoch is reported."""

    dies_after: int = 0
    seen: list[int] = field(default_factory=list)

    def epoch_finished(self, epoch: int, metrics: dict[str, float]) -> None:
        self.seen.append(epoch)
        if epoch == self.dies_after:
            raise Killed


def histories(lists: list[list[int]], n_items: int) -> Histories:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in lists])]).astype(np.int64)
    return Histories(
        offsets, np.concatenate(lists).astype(np.int32), n_items, np.arange(len(lists))
    )


def evaluation() -> EvaluationSet:
    users = np.arange(N_USERS)
    known = histories([[u % 7] for u in users], 12)
    targets = histories([[7 + u % 5] for u in users], 12)
    return EvaluationSet(users=users, histories=known, targets=targets)


def scores(known: Histories) -> torch.Tensor:
    """Scores that depend on the user alone, not on the row in which it stands."""
    assert known.users is not None
    return torch.sin(torch.arange(12) * torch.from_numpy(known.users + 1)[:, None])


def validate(workers: Workers) -> tuple[dict[str, float], list[int]]:
    """Returns the metrics, and the users that this worker has scored."""
    seen: list[int] = []

    def score(known: Histories) -> torch.Tensor:
        assert known.users is not None
        seen.extend(known.users.tolist())
        return scores(known)

    metrics = "dynmm_framework.evaluation.metrics"
    mrr = MetricSpec(
        name="mrr", target=f"{metrics}:mrr", higher_is_better=True, summary="", at_cutoff=False
    )
    validator = make_validator(evaluation(), expand([mrr], [])[0], workers=workers)
    return dict(validator(score)), seen


def fit(workers: Workers, folder: Path, **options: Any) -> tuple[Line, MortalContext]:
    config = CONFIG.divided(workers.size)
    dies_after = options.pop("dies_after", 0)
    task = Line(config.batch_size, **options)
    ctx = MortalContext(folder, workers=workers, dies_after=dies_after)
    with suppress(Killed):
        train(task, config, ctx)
    return task, ctx


def lists(task: Line) -> dict[str, list[Any]]:
    return {name: array.tolist() for name, array in module_state(task.module).items()}


if __name__ == "__main__":
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=size)
    workers = Workers(rank, size, gather)
    found: dict[str, Any] = {}
    for reduction in ("mean", "sum"):
        task, ctx = fit(workers, folder / reduction, reduction=reduction)
        found[reduction] = {"weights": lists(task), "log": ctx.records["training"]}
    fit(workers, folder / "killed", dies_after=2)
    found["checkpoints"] = len(list((folder / "killed").rglob("checkpoint.json")))
    dist.barrier()
    task, ctx = fit(workers, folder / "killed")
    found["resumed"] = {"weights": lists(task), "epochs": ctx.seen, "logged": ctx.logged}
    try:
        fit(workers, folder / "poisoned", poison=True)
    except StageError as error:
        found["error"] = str(error)
    try:
        own = folder / f"alone-{rank}"  # as if each machine had a disk of its own
        fit(workers, own, dies_after=2)
        fit(workers, own)
    except StageError as error:
        found["unshared"] = str(error)
    found["metrics"], found["users"] = validate(workers)
    found["gathered"] = [part.tolist() for part in gather(np.arange(rank * 2, dtype=np.float64))]
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
