"""Next-item prediction: every position of a history is trained to foresee the next item.

The data of any such model, its batches and its loss. A network trained by it is put together as::

    sequences = NextItemSequences(histories, max_length=50, batch_size=256, loss="bce")
    task = NextItemTask(network, sequences, score)
    train(task, config, ctx)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.errors import StageError
from dynmm_framework.training.batches import lay_out, random_batches
from dynmm_framework.training.losses import binary_cross_entropy, cross_entropy, sampled_softmax
from dynmm_framework.training.sampling import DeviceNegativeSampler, NegativeSampler
from dynmm_framework.training.sequences import Inputs, prepare, to_tensor
from dynmm_framework.training.transformer import SequenceTransformer

NextItemLoss = Literal["bce", "ce", "sampled_softmax"]
"""``bce`` tells the next item from sampled negatives of its own, ``ce`` is the cross-entropy over
the whole catalogue, ``sampled_softmax`` over negatives shared by the batch."""

DEFAULT_NEGATIVES: dict[NextItemLoss, int] = {"bce": 1, "ce": 0, "sampled_softmax": 512}
"""Negatives of each target for ``bce``, of each batch for ``sampled_softmax``."""


@dataclass(frozen=True)
class NextItemBatch:
    """One training step.

    Attributes:
        inputs: The sequences.
        cells: Place in ``inputs`` of each real position, ``(n,)``.
        targets: The item that follows each, ``(n,)``.
        negatives: ``(n, n_negatives)`` for ``bce``, ``(n_negatives,)`` shared ones for
            ``sampled_softmax``, ``None`` for ``ce``.
    """

    inputs: Inputs
    cells: Tensor
    targets: Tensor
    negatives: Tensor | None


class NextItemSequences:
    """Cuts histories into sequences and serves them in batches.

    A sequence is every item of a history but the last, to predict every item but the first. On
    the CPU, batches are made by NumPy, in rectangles of similar length. ``resident`` ones are made
    by torch on the device, where the histories are copied once: the host then only permutes the
    sequences, once an epoch, and neither waits for the device nor copies in a step. Both serve
    the same sequences in the same batches; negatives have the same distribution.

    Args:
        histories: Training history of each user; those shorter than two items are left out.
        max_length: Longest sequence.
        batch_size: Sequences in a batch.
        loss: What it is for, which says whether negatives are drawn.
        n_negatives: How many; as :data:`DEFAULT_NEGATIVES` says if ``None``.
        windows: Serve the newest ``max_length`` targets of a history, or all of it, cut into
            windows.
        device: Where batches are put.
        resident: Whether they are made there; if ``None``, on all devices but the CPU.

    Attributes:
        n_targets: Targets in one epoch.
        n_batches: Batches in one epoch.
    """

    def __init__(
        self,
        histories: Histories,
        *,
        max_length: int,
        batch_size: int,
        loss: NextItemLoss,
        n_negatives: int | None = None,
        windows: Literal["last", "all"] = "last",
        device: str = "cpu",
        resident: bool | None = None,
    ) -> None:
        self.max_length, self.batch_size, self.device = max_length, batch_size, device
        self.loss: NextItemLoss = loss
        self.n_negatives = n_negatives or DEFAULT_NEGATIVES[loss]
        self.n_items, self.items = histories.n_items, histories.items
        self.sampler = NegativeSampler(histories)
        self.users, self.starts, self.lengths = _cut(histories, max_length, windows)
        self.n_targets = int(self.lengths.sum())
        self.n_batches = -(-len(self.users) // batch_size)
        wanted = device != "cpu" if resident is None else resident
        self.resident = _Resident(self, self.sampler) if wanted else None

    def refuse_nothing(self, stage: str) -> None:
        """Makes sure that there is something to learn.

        Raises:
            StageError: If no user has two training interactions.
        """
        if not self.n_targets:
            raise StageError(
                f"stage {stage}: no user has two training interactions, so there is no next "
                "item to learn",
                hint="Check the filters and the split.",
            )

    def batches(self, rng: np.random.Generator) -> Iterator[NextItemBatch]:
        """Yields the batches of one epoch, in random order and with fresh negatives."""
        batches = random_batches(len(self.lengths), self.batch_size, rng=rng)
        if self.resident is not None:
            yield from self.resident.batches(batches, rng)
            return
        for rows in batches:
            yield self._batch(rows, rng)

    def _batch(self, rows: NDArray[np.int64], rng: np.random.Generator) -> NextItemBatch:
        lengths = self.lengths[rows]
        layout = lay_out(lengths, single=self.device != "cpu")
        owner = np.repeat(rows[layout.order], lengths[layout.order])  # sequence of each position
        source = self.starts[owner] + layout.steps
        items = self.items[source]
        return NextItemBatch(
            inputs=prepare(layout, lengths, items, max_length=self.max_length, device=self.device),
            cells=to_tensor(layout.cells, self.device),
            targets=to_tensor(self.items[source + 1], self.device),
            negatives=self._negatives(self.users[owner], rng),
        )

    def _negatives(self, users: NDArray[Any], rng: np.random.Generator) -> Tensor | None:
        if self.loss == "ce":
            return None
        if self.loss == "sampled_softmax":
            return to_tensor(rng.integers(self.n_items, size=self.n_negatives), self.device)
        users = np.broadcast_to(users[:, None], (len(users), self.n_negatives))
        return to_tensor(self.sampler.draw(users, rng=rng), self.device)


def _cut(
    histories: Histories, max_length: int, windows: Literal["last", "all"]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns user, place of the first item, and length of each sequence, ``(n,)``."""
    n_targets = np.maximum(histories.lengths - 1, 0)
    if windows == "last":
        users = np.flatnonzero(n_targets)
        lengths = np.minimum(n_targets[users], max_length)
        ends = histories.offsets[1:][users] - 1
    else:
        n_windows = -(-n_targets // max_length)
        users = np.repeat(np.arange(len(histories)), n_windows)
        within = np.arange(len(users)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
        # Counted from the newest item, so that only the oldest window is short.
        ends = histories.offsets[1:][users] - 1 - within * max_length
        lengths = np.minimum(ends - histories.offsets[:-1][users], max_length)
    return users, ends - lengths, lengths


class _Resident:
    """Makes the batches of :class:`NextItemSequences` on the device, one rectangle each.

    Sizes that the device would have to be asked for, which means waiting for it, are those of
    the host's copy of the lengths.
    """

    def __init__(self, sequences: NextItemSequences, sampler: NegativeSampler) -> None:
        self.sequences = sequences
        self.device = torch.device(sequences.device)
        self.items = torch.from_numpy(np.ascontiguousarray(sequences.items)).to(self.device)
        self.users = to_tensor(sequences.users, self.device)
        self.starts = to_tensor(sequences.starts, self.device)
        self.lengths = to_tensor(sequences.lengths, self.device)
        self.sampler = DeviceNegativeSampler(sampler, self.device) if self._own else None

    @property
    def _own(self) -> bool:
        return self.sequences.loss == "bce"

    def batches(
        self, batches: list[NDArray[np.int64]], rng: np.random.Generator
    ) -> Iterator[NextItemBatch]:
        """Yields batches of the given rows."""
        if not batches:
            return
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**63)))
        order = to_tensor(np.concatenate(batches), self.device)
        pieces = torch.split(order, self.sequences.batch_size)
        for rows, there in zip(batches, pieces, strict=True):
            lengths = self.sequences.lengths[rows]
            yield self._batch(there, int(lengths.max()), int(lengths.sum()), generator)

    def _batch(
        self, rows: Tensor, width: int, count: int, generator: torch.Generator
    ) -> NextItemBatch:
        """Makes the batch of ``rows``, ``count`` items in all and ``width`` at most."""
        lengths, number = self.lengths[rows], torch.arange(len(rows), device=self.device)
        row = torch.repeat_interleave(number, lengths, output_size=count)  # of each position
        first = torch.cumsum(lengths, 0) - lengths
        steps = torch.arange(count, device=self.device) - first[row]
        cells = row * width + steps
        source = self.starts[rows][row] + steps
        size = len(rows) * width
        places = torch.zeros((2, size), dtype=torch.int64, device=self.device)
        places[0, cells] = self.items[source].long()
        places[1, cells] = self.sequences.max_length - lengths[row] + steps
        ends = number * width + lengths - 1
        return NextItemBatch(
            inputs=Inputs(places[0], places[1], lengths, ends, ((len(rows), width),)),
            cells=cells,
            targets=self.items[source + 1].long(),
            negatives=self._negatives(self.users[rows][row], generator),
        )

    def _negatives(self, users: Tensor, generator: torch.Generator) -> Tensor | None:
        count = self.sequences.n_negatives
        if self.sampler is not None:
            return self.sampler.draw(users[:, None].expand(-1, count), generator=generator)
        if self.sequences.loss == "ce":
            return None
        n_items = self.sequences.n_items
        return torch.randint(n_items, (count,), generator=generator, device=self.device)


@dataclass
class NextItemTask:
    """Next-item prediction for :func:`dynmm_framework.training.loop.train`.

    Attributes:
        module: The network, causal.
        sequences: Serves the batches, and says which loss.
        score: Scores all items for histories.
        compile: Whether to compile the network with ``torch.compile``.
    """

    module: SequenceTransformer
    sequences: NextItemSequences
    score: Callable[[Histories], Tensor]
    compile: bool = False
    forward: Callable[[Inputs], Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.n_batches = self.sequences.n_batches
        self.n_targets = self.sequences.n_targets
        self.forward = self.module
        if self.compile:
            self.forward = torch.compile(self.module, dynamic=True)

    def batches(self, rng: np.random.Generator) -> Iterator[NextItemBatch]:
        return self.sequences.batches(rng)

    def n_terms(self, batch: NextItemBatch) -> int:
        """Returns the number of targets, of which the loss is the mean."""
        return len(batch.targets)

    def loss(self, batch: NextItemBatch) -> Tensor:
        states = self.forward(batch.inputs).index_select(0, batch.cells)  # (n, dim)
        if batch.negatives is None:
            return cross_entropy(states, self.module.vectors, batch.targets)
        if self.sequences.loss == "bce":
            table = self.module.items.weight  # whole, as in SequenceTransformer.vectors
            return binary_cross_entropy(states, table, batch.targets, batch.negatives)
        return sampled_softmax(states, self.module.vectors, batch.targets, batch.negatives)
