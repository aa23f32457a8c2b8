"""Training sequences of SASRec: inputs, targets and negatives, in batches by length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.training.batches import length_batches
from dynmm_framework.training.sampling import NegativeSampler
from dynmm_plugins.sasrec.config import SASRecConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One training step's sequences.

    Attributes:
        items: Inputs, ``(batch, length)``, padded behind their ends.
        lengths: Inputs of each sequence, ``(batch,)``.
        cells: Flat index into ``(batch * length)`` of each real position, ``(n,)``.
        targets: The item that follows each real position, ``(n,)``.
        negatives: ``(n, n_negatives)`` for binary cross-entropy, ``(n_negatives,)`` shared ones
            for sampled softmax, ``None`` for full cross-entropy.
    """

    items: Tensor
    lengths: Tensor
    cells: Tensor
    targets: Tensor
    negatives: Tensor | None


class TrainingSequences:
    """Cuts histories into sequences and serves them in batches.

    Args:
        histories: Training history of each user; those shorter than two items are left out.
        config: Maximum length, windows, batch size, loss and negatives.
        device: Where batches are put.
    """

    def __init__(self, histories: Histories, config: SASRecConfig, *, device: str) -> None:
        self.config = config
        self.device = device
        self.n_items = histories.n_items
        self.items = histories.items
        self.sampler = NegativeSampler(histories)
        n_targets = np.maximum(histories.lengths - 1, 0)
        cut = config.max_length
        if config.windows == "last":
            users = np.flatnonzero(n_targets)
            self.lengths = np.minimum(n_targets[users], cut)
            ends = histories.offsets[1:][users] - 1
        else:
            n_windows = -(-n_targets // cut)
            users = np.repeat(np.arange(len(histories)), n_windows)
            within = np.arange(len(users)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
            # Counted from the newest item, so that only the oldest window is short.
            ends = histories.offsets[1:][users] - 1 - within * cut
            self.lengths = np.minimum(ends - histories.offsets[:-1][users], cut)
        self.users = users
        self.starts = ends - self.lengths
        self.n_targets = int(self.lengths.sum())
        self.n_batches = -(-len(users) // config.batch_size)

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yields the batches of one epoch with fresh negatives."""
        size = self.config.batch_size
        for rows in length_batches(self.lengths, size, rng=rng, window=0):
            yield self._batch(rows, rng)

    def _batch(self, rows: NDArray[Any], rng: np.random.Generator) -> Batch:
        lengths = self.lengths[rows]
        width = int(lengths.max())
        ends = np.cumsum(lengths)
        columns = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
        cells = np.repeat(np.arange(len(rows)) * width, lengths) + columns
        source = np.repeat(self.starts[rows], lengths) + columns
        items = np.zeros(len(rows) * width, dtype=np.int64)
        items[cells] = self.items[source]
        return Batch(
            items=self._tensor(items.reshape(len(rows), width)),
            lengths=self._tensor(lengths),
            cells=self._tensor(cells),
            targets=self._tensor(self.items[source + 1]),
            negatives=self._negatives(np.repeat(self.users[rows], lengths), rng),
        )

    def _negatives(self, users: NDArray[Any], rng: np.random.Generator) -> Tensor | None:
        if self.config.loss == "ce":
            return None
        if self.config.loss == "sampled_softmax":
            count = self.config.n_negatives or 512
            return self._tensor(rng.integers(self.n_items, size=count))
        count = self.config.n_negatives or 1
        return self._tensor(
            self.sampler.draw(np.broadcast_to(users[:, None], (len(users), count)), rng=rng)
        )

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        import torch

        return torch.from_numpy(array.astype(np.int64, copy=False)).to(self.device)
