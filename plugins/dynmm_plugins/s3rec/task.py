"""Pre-training as a task for the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dynmm_framework.data.tables import Histories
from dynmm_plugins.s3rec.network import Pretraining
from dynmm_plugins.s3rec.prefixes import Prefixes, PretrainingBatch

if TYPE_CHECKING:
    from torch import Tensor


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
