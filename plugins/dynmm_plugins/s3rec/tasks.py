"""The two phases as tasks for the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dynmm_framework.data.tables import Histories
from dynmm_framework.protocols import Context
from dynmm_framework.training.losses import binary_cross_entropy, cross_entropy
from dynmm_plugins.s3rec.network import Network, Pretraining
from dynmm_plugins.s3rec.sequences import Batch, Prefixes, PretrainingBatch, TrainingSequences

if TYPE_CHECKING:
    from torch import Tensor


class Unvalidated:
    """A stage's context for a training whose result validation cannot judge."""

    validator = None

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def record(self, name: str, value: Any) -> None:
        # The stage's own "training" is fine-tuning.
        self._ctx.record(f"pre-{name}", value)


@dataclass
class PretrainingTask:
    """The four losses on masked prefixes.

    Attributes:
        module: The network with what pre-training puts on it.
        prefixes: Serves the batches.
        score: Scores all items for histories.
    """

    module: Pretraining
    prefixes: Prefixes
    score: Callable[[Histories], Tensor]

    def __post_init__(self) -> None:
        self.n_batches = self.prefixes.n_batches
        self.n_targets = self.prefixes.n_targets

    def batches(self, rng: np.random.Generator) -> Iterator[PretrainingBatch]:
        return self.prefixes.batches(rng)

    def loss(self, batch: PretrainingBatch) -> Tensor:
        loss: Tensor = self.module(batch)
        return loss


@dataclass
class FineTuningTask:
    """Next-item prediction.

    Attributes:
        module: The network.
        sequences: Serves the batches.
        score: Scores all items for histories.
    """

    module: Network
    sequences: TrainingSequences
    score: Callable[[Histories], Tensor]

    def __post_init__(self) -> None:
        self.n_batches = self.sequences.n_batches
        self.n_targets = self.sequences.n_targets

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        return self.sequences.batches(rng)

    def loss(self, batch: Batch) -> Tensor:
        states = self.module(batch.inputs, causal=True)[batch.cells]  # (real positions, dim)
        if batch.negatives is None:
            return cross_entropy(states, self.module.vectors, batch.targets)
        items = self.module.items.weight
        return binary_cross_entropy(states, items, batch.targets, batch.negatives)
