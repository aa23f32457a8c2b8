"""Batches of sequences in which short sequences do not pay for long ones.

A batch is any choice of sequences. It is laid out as one array of positions: sequences sorted by
length and gathered in a few rectangular blocks, each as wide as its longest sequence. What works
position by position runs on the array, attention on each block; so an epoch costs as much as its
real positions, and batches can be drawn at random, which sorting all data by length would forbid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_GROWTH = 1.6
"""Within a block the longest sequence is at most about this many times the shortest."""


def random_batches(
    n_rows: int, batch_size: int, *, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Shuffles rows and cuts them into batches; the last may be smaller."""
    order = rng.permutation(n_rows)
    return [order[start : start + batch_size] for start in range(0, n_rows, batch_size)]


@dataclass(frozen=True)
class Layout:
    """Where the elements of a batch of sequences lie in one array of positions.

    Sequences start at the start of their row of a block, padding follows them.

    Attributes:
        order: The batch's rows as they lie in the blocks, shortest first, ``(batch,)``.
        blocks: Rows and width of each block; block after block, row after row, the array has
            ``size`` positions.
        size: Length of the array, padding included.
        cells: Place of each real element, ``(n,)``, sequences in ``order``, oldest first.
        steps: Number of the element within its sequence, from 0, ``(n,)``.
        ends: Place of the newest element of each sequence of ``order``, ``(batch,)``.
    """

    order: NDArray[np.int64]
    blocks: tuple[tuple[int, int], ...]
    size: int
    cells: NDArray[np.int64]
    steps: NDArray[np.int64]
    ends: NDArray[np.int64]


def lay_out(lengths: NDArray[Any], *, single: bool = False) -> Layout:
    """Lays sequences out in blocks.

    Args:
        lengths: Length of each sequence, at least 1, ``(batch,)``; not empty.
        single: Make one block, for devices on which many small kernels cost more than padding.
    """
    order = np.argsort(lengths, kind="stable")
    sorted_lengths = np.asarray(lengths, dtype=np.int64)[order]
    # Lengths that share a step of a geometric ladder share a block.
    ladder = np.floor(np.log(sorted_lengths) / np.log(BLOCK_GROWTH))
    edges = np.flatnonzero(np.diff(ladder)) + 1 if not single else np.empty(0, np.int64)
    bounds = np.concatenate([[0], edges, [len(order)]])
    counts, block_widths = np.diff(bounds), sorted_lengths[bounds[1:] - 1]
    widths = np.repeat(block_widths, counts)
    starts = np.cumsum(widths) - widths
    firsts = np.cumsum(sorted_lengths) - sorted_lengths
    steps = np.arange(sorted_lengths.sum()) - np.repeat(firsts, sorted_lengths)
    return Layout(
        order=order,
        blocks=tuple(zip(counts.tolist(), block_widths.tolist(), strict=True)),
        size=int(widths.sum()),
        cells=np.repeat(starts, sorted_lengths) + steps,
        steps=steps,
        ends=starts + sorted_lengths - 1,
    )
