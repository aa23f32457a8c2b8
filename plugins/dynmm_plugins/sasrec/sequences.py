"""Sequences of SASRec, and its training batches: inputs, targets and negatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.protocols import IntArray
from dynmm_framework.training.batches import Layout, lay_out, random_batches
from dynmm_framework.training.sampling import NegativeSampler
from dynmm_plugins.sasrec.config import SASRecConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    """Sequences for the network, with padding behind their ends.

    Attributes:
        items: Item ids, ``(size,)``.
        positions: ``(size,)``; ``max_length - 1`` for the newest item of a sequence.
        blocks: Rows and width of each block.
    """

    items: Tensor
    positions: Tensor
    blocks: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Batch:
    """One training step.

    Attributes:
        inputs: The sequences.
        cells: Index into ``inputs`` of each real position, ``(n,)``.
        targets: The item that follows each real position, ``(n,)``.
        negatives: ``(n, n_negatives)`` for binary cross-entropy, ``(n_negatives,)`` shared ones
            for sampled softmax, ``None`` for full cross-entropy.
    """

    inputs: Inputs
    cells: Tensor
    targets: Tensor
    negatives: Tensor | None


def to_tensor(array: NDArray[Any], device: str) -> Tensor:
    """Returns ids as int64 on a device."""
    import torch

    return torch.from_numpy(array.astype(np.int64, copy=False)).to(device)


def prepare(
    layout: Layout, lengths: NDArray[Any], items: IntArray, *, max_length: int, device: str
) -> Inputs:
    """Fills a layout with items.

    Args:
        layout: Layout of sequences of these lengths.
        lengths: Length of each sequence, at most ``max_length``.
        items: The sequences' items in the order of ``layout.cells``.
        max_length: Positions of the network.
        device: Where the tensors are put.
    """
    placed = np.zeros(layout.size, dtype=np.int64)
    placed[layout.cells] = items
    positions = np.zeros(layout.size, dtype=np.int64)
    ordered = lengths[layout.order]
    positions[layout.cells] = max_length - np.repeat(ordered, ordered) + layout.steps
    return Inputs(to_tensor(placed, device), to_tensor(positions, device), layout.blocks)


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
        """Yields the batches of one epoch, in random order and with fresh negatives."""
        for rows in random_batches(len(self.lengths), self.config.batch_size, rng=rng):
            yield self._batch(rows, rng)

    def _batch(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        lengths = self.lengths[rows]
        layout = lay_out(lengths, single=self.device != "cpu")
        ordered = rows[layout.order]
        source = np.repeat(self.starts[ordered], self.lengths[ordered]) + layout.steps
        users = np.repeat(self.users[ordered], self.lengths[ordered])
        return Batch(
            inputs=prepare(
                layout,
                lengths,
                self.items[source],
                max_length=self.config.max_length,
                device=self.device,
            ),
            cells=to_tensor(layout.cells, self.device),
            targets=to_tensor(self.items[source + 1], self.device),
            negatives=self._negatives(users, rng),
        )

    def _negatives(self, users: NDArray[Any], rng: np.random.Generator) -> Tensor | None:
        if self.config.loss == "ce":
            return None
        if self.config.loss == "sampled_softmax":
            count = self.config.n_negatives or 512
            return to_tensor(rng.integers(self.n_items, size=count), self.device)
        count = self.config.n_negatives or 1
        users = np.broadcast_to(users[:, None], (len(users), count))
        return to_tensor(self.sampler.draw(users, rng=rng), self.device)
