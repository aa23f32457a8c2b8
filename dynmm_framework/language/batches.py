"""Batches of sequences of similar length, and what to do when one does not fit into memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from dynmm_framework.errors import StageError
from dynmm_framework.training.guard import is_out_of_memory

R = TypeVar("R")
Rows = NDArray[np.int64]

MAX_WASTE = 0.1
"""Largest share of padding in a batch."""


def by_length(
    lengths: Sequence[int] | NDArray[Any],
    *,
    max_tokens: int,
    max_waste: float = MAX_WASTE,
    before: int = 0,
) -> list[Rows]:
    """Groups sequences by length.

    Args:
        lengths: Number of tokens of each sequence.
        max_tokens: Most tokens of a batch, padding included; a longer sequence stands alone.
        max_waste: Largest share of padding in a batch.
        before: Tokens before every sequence, such as those of a prefix, which take memory too.

    Returns:
        Indices of the sequences of each batch, longest first, each index once.
    """
    counts = np.asarray(lengths, dtype=np.int64)
    groups: list[Rows] = []
    order = np.argsort(-counts, kind="stable")
    start, tokens = 0, 0
    for place, row in enumerate(order):
        longest = max(int(counts[order[start]]), 1)
        padded = longest * (place - start + 1)
        wasted = padded - tokens - int(counts[row])
        taken = padded + before * (place - start + 1)
        if place > start and (taken > max_tokens or wasted > max_waste * padded):
            groups.append(order[start:place])
            start, tokens = place, 0
        tokens += int(counts[row])
    if len(order):
        groups.append(order[start:])
    return groups


def compute_batches(
    groups: Sequence[Rows],
    compute: Callable[[Rows], R],
    *,
    log: Callable[[str], None],
    place: str = "language model",
    hint: str = "Lower the batch size, shorten the prompt, or take a smaller model.",
) -> Iterator[tuple[Rows, R]]:
    """Computes batches; when memory runs out, all that are left are halved, once.

    Args:
        groups: What each batch holds.
        compute: Computes a batch.
        log: Told of the halving.
        place: Named in messages.
        hint: What to do if half a batch does not fit either.

    Yields:
        Each batch, or each half of one, and its result.

    Raises:
        StageError: If memory runs out again, or for a batch of one.
    """
    waiting = deque(groups)
    halved = False
    while waiting:
        group = waiting.popleft()
        try:
            found = compute(group)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            rows = len(group)
            if halved or rows < 2:
                again = f", {rows} sequences at once, half of what was tried first" * halved
                raise StageError(f"{place}: out of memory{again}", hint=hint) from error
        else:
            yield group, found
            continue
        # Out of the handler, whose traceback would keep the failed batch's tensors.
        halved = True
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log(f"out of memory with {rows} sequences at once; going on with half as many")
        whole = [group, *waiting]
        waiting = deque(half for rows_ in whole for half in np.array_split(rows_, 2) if len(half))
