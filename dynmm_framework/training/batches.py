"""Batches of rows of similar length, so that short rows do not pay for long ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def length_batches(
    lengths: NDArray[Any], batch_size: int, *, rng: np.random.Generator, window: int = 0
) -> list[NDArray[np.int64]]:
    """Cuts rows into batches of similar length, in random order.

    Rows are shuffled, sorted by length within windows of several batches and cut. Rows of equal
    length, the windows, and the order of the batches change from call to call.

    Args:
        lengths: Length of each row, ``(n,)``.
        batch_size: Rows in a batch; the last of a window may have fewer.
        rng: Source of randomness.
        window: Number of batches sorted together; 0 sorts all rows, which pads least, 1 sorts
            none.

    Returns:
        Row indices of each batch; every row is in exactly one.
    """
    order = rng.permutation(len(lengths))
    span = window * batch_size if window else max(len(order), 1)
    group = np.arange(len(order)) // span
    order = order[np.lexsort((np.asarray(lengths)[order], group))]
    # span is a multiple of batch_size or covers everything, so no batch spans two windows.
    starts = np.arange(0, len(order), batch_size)
    batches = [order[start : start + batch_size] for start in starts]
    return [batches[index] for index in rng.permutation(len(batches))]
