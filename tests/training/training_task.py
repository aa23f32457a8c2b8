"""A small regression task for tests of the loop, runnable as a script that can be killed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dynmm_framework.protocols import Leg, Workers
from dynmm_framework.training.config import LoopConfig
from dynmm_framework.training.loop import train
from dynmm_framework.training.state import module_state


@dataclass
class StubContext:
    workdir: Path
    stage: str = "fit/stub/seed-7"
    seed: int = 7
    device: str = "cpu"
    precision: str = "fp32"
    validator: Any = None
    workers: Workers = field(default_factory=Workers)
    leg: Leg | None = None
    logged: list[str] = field(default_factory=list)
    epochs: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    records: dict[str, Any] = field(default_factory=dict)

    def rng(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *name.encode()])

    @contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Any]:
        def advance(n: int = 1, note: str = "") -> None:
            self.notes.append(note)

        yield advance

    def epoch_finished(self, epoch: int, metrics: dict[str, float]) -> None:
        self.epochs.append((epoch, dict(metrics)))

    def record(self, name: str, value: Any) -> None:
        self.records[name] = value

    def log(self, message: str) -> None:
        self.logged.append(message)


@dataclass
class FixedValidator:
    """Gives prepared values, one after another."""

    values: list[float]
    metric: str = "ndcg@10"
    higher_is_better: bool = True
    calls: int = 0

    def __call__(self, score: Any) -> dict[str, float]:
        self.calls += 1
        return {self.metric: self.values[self.calls - 1]}


class Regression:
    """Fits a line with dropout, so that torch's randomness matters; batches come from ``rng``."""

    n_batches = 4
    n_targets = 32

    def __init__(self, *, delay: float = 0.0, poison: int = 0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.module: nn.Module = nn.Sequential(
                nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 1)
            )
        self.delay, self.poison, self.seen = delay, poison, 0

    def batches(self, rng: np.random.Generator) -> Iterator[torch.Tensor]:
        for _ in range(self.n_batches):
            yield torch.from_numpy(rng.standard_normal((8, 3)).astype(np.float32))

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        time.sleep(self.delay)
        self.seen += 1
        loss = (self.module(batch) - batch.sum(1, keepdim=True)).square().mean()
        return loss * float("nan") if self.seen == self.poison else loss

    def score(self, histories: Any) -> torch.Tensor:
        return torch.zeros(len(histories), 1)


def weights(task: Regression) -> dict[str, np.ndarray]:
    return module_state(task.module)


if __name__ == "__main__":
    workdir, delay, epochs = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    task = Regression(delay=delay)
    context = StubContext(workdir, validator=FixedValidator([1.0] * epochs))
    config = LoopConfig(epochs=epochs, patience=0, checkpoint_seconds=0)
    train(task, config, context)
    (workdir / "weights.json").write_text(
        json.dumps({name: array.tolist() for name, array in weights(task).items()})
    )
    (workdir / "log.json").write_text(json.dumps(context.logged))
