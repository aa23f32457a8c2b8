"""The order of interactions: by user, then time, stable."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def chronological_order(
    users: NDArray[Any], times: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """Returns the row order by user, then time, in which equal rows keep their order.

    Args:
        users: ``(n,)`` non-negative integers.
        times: ``(n,)`` integers or floats; ``None`` orders by user alone.

    Returns:
        ``(n,)`` row numbers.
    """
    n = len(users)
    if is_ordered(users, times):
        return np.arange(n)
    if times is None and users.max() < 1 << 16:
        return np.argsort(users.astype(np.uint16), kind="stable")  # a radix sort
    # One integer holds user, time and row if they fit: sorting plain integers is several times
    # faster than an indirect sort, and the row as the last digits makes it stable.
    if times is None or times.dtype.kind in "iu":
        low = 0 if times is None else int(times.min())
        span = 1 if times is None else int(times.max()) - low + 1
        row_bits = max(n - 1, 1).bit_length()
        if (int(users.max()) + 1) * span < 1 << (63 - row_bits):
            packed = users.astype(np.int64) * span
            if times is not None:
                packed += times.astype(np.int64) - low
            packed <<= row_bits
            packed |= np.arange(n)
            packed.sort()
            packed &= (1 << row_bits) - 1
            return packed
    return np.lexsort((users,) if times is None else (times, users))


def is_ordered(users: NDArray[Any], times: NDArray[Any] | None = None) -> bool:
    """Tells whether rows come by user, then time, already."""
    ordered = users[1:] >= users[:-1]
    if times is not None:
        ordered &= (users[1:] != users[:-1]) | (times[1:] >= times[:-1])
    return bool(ordered.all())
