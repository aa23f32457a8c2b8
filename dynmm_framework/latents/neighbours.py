"""Nearest neighbours by cosine, found block by block: a matrix of all pairs never exists."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dynmm_framework.evaluation.topk import largest

CPU_BYTES = 16 << 20
"""Size of one block of similarities: small enough to stay near the cores."""
GPU_BYTES = 256 << 20


@torch.no_grad()
def nearest(vectors: Tensor, k: int, *, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Finds the nearest neighbours of each vector, itself among them.

    Neighbours are those of the largest cosines; equal ones are ordered by their number. Cosines
    that are not positive make no neighbours, so a vector of zeros has none, not even itself.

    Time is O(n² · d), memory O(n · (k + d)) and one block.

    Args:
        vectors: ``(n, d)``.
        k: Neighbours of each.
        present: Which vectors there are, ``(n,)`` bool; all if ``None``. The others neither have
            neighbours nor are any.

    Returns:
        Numbers of the neighbours, nearest first, ``(n, k)`` int64, and their cosines float32;
        ``-1`` and 0 where there are fewer.
    """
    device = vectors.device
    rows = torch.arange(len(vectors), device=device)
    if present is not None:
        rows = rows[present.to(device)]
    neighbours = torch.full((len(vectors), k), -1, device=device)
    cosines = torch.zeros((len(vectors), k), device=device)
    found = min(k, len(rows))
    if not found:
        return neighbours, cosines
    budget = CPU_BYTES if device.type == "cpu" else GPU_BYTES
    size = max(1, budget // (4 * len(rows)))
    with torch.autocast(device.type, enabled=False):
        units = F.normalize(vectors[rows].float(), dim=1)
        for start in range(0, len(rows), size):
            block = slice(start, start + size)
            values, columns = largest(units[block] @ units.T, found)
            near = values > 0
            neighbours[rows[block], :found] = torch.where(near, rows[columns], -1)
            cosines[rows[block], :found] = torch.where(near, values, 0)
    return neighbours, cosines
