"""Ranks of the targets of a window among the whole catalogue, known items masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.protocols import IntArray

Values = NDArray[np.float64]


def ranks_of(scores: Tensor, known: Histories, targets: IntArray) -> Values:
    """Ranks each row's target; a tie gives the mean rank, and a target is never masked.

    Args:
        scores: ``(n, n_items)``; overwritten.
        known: Items to mask, ``n`` histories.
        targets: ``(n,)``.

    Returns:
        ``(n,)`` from 1.
    """
    wanted = torch.from_numpy(targets.astype(np.int64))[:, None]
    values = scores.gather(1, wanted)
    mask(scores, known)
    scores.scatter_(1, wanted, values)
    signs = torch.sub(scores, values, out=scores).sign_().sum(dim=1, dtype=torch.float64)
    return ((scores.shape[1] + 1 + signs) / 2).numpy()


def mask(scores: Tensor, known: Histories) -> None:
    """Sets the scores of known items to minus infinity, in place."""
    places = torch.from_numpy(known.rows * known.n_items + known.items)
    scores.view(-1)[places] = -torch.inf


def metrics_of(ranks: Values, cutoffs: Sequence[int]) -> Mapping[str, Values]:
    """Returns hit@k and ndcg@k of every event, which has one target each."""
    gains = 1 / np.log2(ranks + 1)
    found: dict[str, Values] = {}
    for k in cutoffs:
        inside = ranks <= k
        found[f"hit@{k}"] = inside.astype(np.float64)
        found[f"ndcg@{k}"] = np.where(inside, gains, 0.0)
    return found
