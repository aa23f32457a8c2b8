"""The best k of many, with ties in a fixed order."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 64
"""Columns of a block; wide enough for vector instructions, narrow enough to leave few columns."""


_PREFIX = 1024
"""Columns that are searched first for the members of a tie."""


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Finds the ``k`` largest of each row; equal ones are ordered by column.

    The order of equal scores is part of the result: the same scores give the same lists on every
    device and with every number of threads.

    Args:
        scores: ``(batch, n)``; ``-inf`` marks what must not be listed.
        k: At most ``n``.

    Returns:
        Values and columns (int64), ``(batch, k)``, best first. Columns are ``-1`` where a row has
        fewer than ``k`` listed elements.
    """
    n = scores.shape[1]
    if k == 0:
        return scores[:, :0], torch.empty((len(scores), 0), dtype=torch.int64, device=scores.device)
    # One more than asked for tells whether the last value ties with one that was left out.
    values, columns = _largest(scores, min(k + 1, n))
    if n > k:
        last, values, columns = values[:, k], values[:, :k], columns[:, :k]
        cut = (values[:, -1] == last) & (last > -torch.inf)
        rows = cut.nonzero()[:, 0]
        if len(rows):
            columns[rows] = _lowest_columns(scores, values, columns, rows)
    tied = ((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)).any(dim=1)
    rows = tied.nonzero()[:, 0]
    if len(rows):
        by_column = columns[rows].sort(dim=1).values
        found = scores[rows[:, None], by_column]
        order = found.sort(dim=1, descending=True, stable=True).indices
        columns[rows] = by_column.gather(1, order)
    columns[values == -torch.inf] = -1
    return values, columns


def _lowest_columns(scores: Tensor, values: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """Returns columns in which the elements that tie with the last are those furthest left."""
    (n, k), last = (scores.shape[1], values.shape[1]), values[:, -1:]
    above = (values > last).sum(dim=1, keepdim=True)
    ties = torch.empty((len(rows), k), dtype=torch.int64, device=scores.device)
    open_rows = torch.arange(len(rows), device=scores.device)
    # Long ties, such as those of zero scores, show enough members in the first few columns.
    for width in (min(n, max(_PREFIX, k)), n):
        found = rows[open_rows]
        positions = torch.arange(width, 0, -1, dtype=torch.int32, device=scores.device)
        tied = scores[:, :width].index_select(0, found) == last[found]
        keys = torch.where(tied, positions, 0)
        keys = _largest(keys, k)[0].long()
        ties[open_rows] = width - keys
        open_rows = open_rows[(keys > 0).sum(dim=1) + above[found, 0] < k]
        if not len(open_rows):
            break
    place = torch.arange(k, device=scores.device) - above[rows]
    return torch.where(place < 0, columns[rows], ties.gather(1, place.clamp(min=0)))


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the k largest of each row, best first, equal ones in any order.

    On a CPU, the k blocks with the largest maxima hold the k largest elements: a vectorised pass
    over all elements and a search among few are several times faster than a search among all.
    """
    n = scores.shape[1]
    blocks = n // _BLOCK
    if scores.device.type != "cpu" or blocks <= 4 * k:
        values, columns = scores.topk(k, dim=1)
        return values, columns
    body = scores[:, : blocks * _BLOCK].reshape(-1, blocks, _BLOCK)
    chosen = body.amax(dim=2).topk(k, dim=1, sorted=False).indices  # (batch, k)
    inside = body[torch.arange(len(scores))[:, None], chosen].flatten(1)  # (batch, k * _BLOCK)
    found = torch.cat([inside, scores[:, blocks * _BLOCK :]], dim=1)
    values, places = found.topk(k, dim=1)
    block = chosen.gather(1, (places // _BLOCK).clamp(max=k - 1))
    columns = torch.where(
        places < k * _BLOCK, block * _BLOCK + places % _BLOCK, places + (blocks - k) * _BLOCK
    )
    return values, columns
