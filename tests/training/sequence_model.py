"""A small sequence model for tests of what such models share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dynmm_framework.data.tables import Histories
from dynmm_framework.training.batches import lay_out
from dynmm_framework.training.sequences import Inputs, prepare
from dynmm_framework.training.transformer import SequenceTransformer

N_ITEMS, MAX_LENGTH = 30, 8


@dataclass(frozen=True)
class Settings:
    hidden_size: int = 16
    layers: int = 2
    heads: int = 2
    feed_forward_size: int = 32
    max_length: int = MAX_LENGTH
    dropout: float = 0.1
    attention_dropout: float = 0.1
    init_std: float = 0.3


def network(n_items: int = N_ITEMS, *, sizes: Settings | None = None, **options: Any) -> Any:
    """Makes a network with weights that are always the same, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SequenceTransformer(sizes or Settings(), n_items, **options).eval()


def inputs_of(rows: list[list[int]], *, single: bool = False) -> tuple[Inputs, np.ndarray]:
    """Lays sequences out; returns them and the row of each."""
    lengths = np.array([len(row) for row in rows])
    layout = lay_out(lengths, single=single)
    items = np.concatenate([rows[index] for index in layout.order])
    inputs = prepare(layout, lengths, items, max_length=MAX_LENGTH, device="cpu")
    return inputs, layout.order


def encode(
    made: SequenceTransformer, rows: list[list[int]], *, single: bool = False, **options: Any
) -> list[torch.Tensor]:
    """Returns the hidden states of each sequence, or those of its end."""
    inputs, order = inputs_of(rows, single=single)
    states = made(inputs, **options)
    if options.get("ends_only"):
        return [states[place] for place in np.argsort(order)]
    pieces = []
    for end, length in zip(inputs.ends.tolist(), inputs.lengths.tolist(), strict=True):
        pieces.append(states[end + 1 - length : end + 1])
    return [pieces[place] for place in np.argsort(order)]


def cycles(n_users: int = 200, n_items: int = 20) -> Histories:
    """Users who walk around a circle of items: the next item is always the next number."""
    rng = np.random.default_rng(0)
    starts, lengths = rng.integers(0, n_items, n_users), rng.integers(2, 12, n_users)
    walks = zip(starts, lengths, strict=True)
    return Histories.of(
        [[int(start + step) % n_items for step in range(length)] for start, length in walks],
        n_items,
    )
