"""Batches of pre-training: prefixes with masks, and segments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import Histories
from dynmm_framework.training.batches import Layout, lay_out, random_batches
from dynmm_framework.training.sampling import NegativeSampler
from dynmm_framework.training.sequences import Inputs, prepare, to_tensor
from dynmm_plugins.s3rec.attributes import Attributes
from dynmm_plugins.s3rec.config import S3RecConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """Sequences of segment prediction.

    Attributes:
        inputs: Context, its segment and a foreign segment of every row: 3 ``n`` sequences.
        places: Place among ``inputs`` of the three, ``(3, n)``.
    """

    inputs: Inputs
    places: Tensor


@dataclass(frozen=True)
class PretrainingBatch:
    """One step of pre-training.

    Attributes:
        rows: Number of prefixes.
        inputs: The prefixes with some items masked.
        masked: Places in ``inputs`` that are masked, ``(m,)``.
        targets: The items there, ``(m,)``.
        negatives: Items that the user has not, ``(m,)``.
        described: Places of items with attributes, ``(a,)``: unmasked ones, then masked ones.
        n_unmasked: How many of ``described`` are unmasked.
        attributes: Attributes of the items at ``described``, one after another, ``(p,)``.
        offsets: Where those of each begin, ``(a,)``.
        segments: For segment prediction; ``None`` if no prefix has two items.
    """

    rows: int
    inputs: Inputs
    masked: Tensor
    targets: Tensor
    negatives: Tensor
    described: Tensor
    n_unmasked: int
    attributes: Tensor
    offsets: Tensor
    segments: Segments | None


class Prefixes:
    """Prefixes of the training sequences, masked in two ways.

    Args:
        histories: Training history of each user; its newest ``max_length`` items are a sequence.
        attributes: Attributes of the items.
        config: Maximum length and settings of pre-training.
        device: Where batches are put.
    """

    def __init__(
        self, histories: Histories, attributes: Attributes, config: S3RecConfig, *, device: str
    ) -> None:
        self.config, self.device = config, device
        self.settings = config.pretraining
        self.attributes = attributes
        self.mask = histories.n_items
        self.items = histories.items
        self.sampler = NegativeSampler(histories)
        longest = np.minimum(histories.lengths, config.max_length)
        self.users = np.flatnonzero(longest)
        self.longest = longest[self.users]
        self.firsts = histories.offsets[1:][self.users] - self.longest
        n_rows = len(self.users) if self.settings.prefixes == "one" else int(self.longest.sum())
        self.n_batches = -(-n_rows // self.settings.batch_size)
        self.n_targets = n_rows

    def batches(self, rng: np.random.Generator) -> Iterator[PretrainingBatch]:
        """Yields the batches of one epoch, in random order and with fresh masks."""
        if self.settings.prefixes == "one":
            users, lengths = np.arange(len(self.users)), rng.integers(1, self.longest + 1)
        else:
            users = np.repeat(np.arange(len(self.users)), self.longest)
            lengths = 1 + np.arange(len(users))
            lengths -= np.repeat(np.cumsum(self.longest) - self.longest, self.longest)
        for rows in random_batches(len(users), self.settings.batch_size, rng=rng):
            yield self._batch(users[rows], lengths[rows], rng)

    def _batch(
        self, users: NDArray[np.int64], lengths: NDArray[np.int64], rng: np.random.Generator
    ) -> PretrainingBatch:
        layout = lay_out(lengths, single=self.device != "cpu")
        owner = np.repeat(layout.order, lengths[layout.order])  # row of each element
        items = self.items[self.firsts[users[owner]] + layout.steps].astype(np.int64)
        masked = rng.random(len(items)) < self.settings.mask_probability
        masked[layout.steps == lengths[owner] - 1] = True
        # Unmasked first, as they are scored by other weights than masked ones.
        has = np.flatnonzero(self.attributes.counts[items] > 0)
        has = has[np.argsort(masked[has], kind="stable")]
        attributes, offsets = self.attributes.of(items[has])
        return PretrainingBatch(
            rows=len(users),
            inputs=self._inputs(layout, lengths, np.where(masked, self.mask, items)),
            masked=self._tensor(layout.cells[masked]),
            targets=self._tensor(items[masked]),
            negatives=self._tensor(self.sampler.draw(self.users[users[owner[masked]]], rng=rng)),
            described=self._tensor(layout.cells[has]),
            n_unmasked=int((~masked[has]).sum()),
            attributes=self._tensor(attributes),
            offsets=self._tensor(offsets),
            segments=self._segments(users, lengths, rng),
        )

    def _segments(
        self, users: NDArray[np.int64], lengths: NDArray[np.int64], rng: np.random.Generator
    ) -> Segments | None:
        long = lengths > 1
        if not self.settings.sp_weight or not long.any():
            return None
        users, lengths = users[long], lengths[long]
        sizes = rng.integers(1, lengths // 2 + 1)
        starts = rng.integers(0, lengths - sizes + 1)
        foreign = rng.integers(0, len(self.items) - sizes + 1)
        threefold = np.tile(lengths, 3)
        layout = lay_out(threefold, single=self.device != "cpu")
        which, row = np.divmod(np.repeat(layout.order, threefold[layout.order]), len(users))
        step = layout.steps - starts[row]
        inside = (step >= 0) & (step < sizes[row])
        own = self.firsts[users[row]] + layout.steps
        other = foreign[row] + step
        source = np.where(inside & (which == 2), other, own)
        items = np.where(inside == (which == 0), self.mask, self.items[source])
        places = np.argsort(layout.order).reshape(3, -1)
        return Segments(self._inputs(layout, threefold, items), self._tensor(places))

    def _inputs(self, layout: Layout, lengths: NDArray[Any], items: NDArray[Any]) -> Inputs:
        length = self.config.max_length
        return prepare(layout, lengths, items, max_length=length, device=self.device)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return to_tensor(array, self.device)
