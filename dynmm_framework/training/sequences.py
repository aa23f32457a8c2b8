"""Sequences of items as inputs of a network, on the device where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.training.batches import Layout

Blocks = tuple[tuple[int, int], ...]
"""Rows and width of each rectangle of sequences; see :mod:`dynmm_framework.training.batches`."""


@dataclass(frozen=True)
class Inputs:
    """Sequences for a network, with padding behind their ends.

    Attributes:
        items: Item ids, ``(size,)``; anything where there is padding.
        positions: ``(size,)``; ``max_length - 1`` for the newest item of a sequence, whatever the
            length of the sequence.
        lengths: Length of each sequence, ``(sequences,)``.
        ends: Place of the newest item of each sequence, ``(sequences,)``.
        blocks: Rows and width of each rectangle of sequences.
    """

    items: Tensor
    positions: Tensor
    lengths: Tensor
    ends: Tensor
    blocks: Blocks


def to_tensor(array: NDArray[Any], device: torch.device | str) -> Tensor:
    """Returns ids as int64 on a device."""
    return torch.from_numpy(array.astype(np.int64, copy=False)).to(device)


def prepare(
    layout: Layout,
    lengths: NDArray[Any],
    items: NDArray[Any],
    *,
    max_length: int,
    device: torch.device | str,
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
    return Inputs(
        items=to_tensor(placed, device),
        positions=to_tensor(positions, device),
        lengths=to_tensor(ordered, device),
        ends=to_tensor(layout.ends, device),
        blocks=layout.blocks,
    )
