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
    n = scores.shape[1]
    exact = torch.float32 if n < 1 << 24 else torch.float64  # whole numbers up to n
    signs = torch.sub(scores, values, out=scores).sign_().sum(dim=1, dtype=exact)
    return ((n + 1 + signs.double()) / 2).numpy()


def ranks_at(
    plain: Tensor, shift: Tensor, strengths: Sequence[float], known: Histories, targets: IntArray
) -> Values:
    """Ranks each row's target by ``plain + strength * shift``, for several strengths at once.

    As :func:`ranks_of`, without a pass to mask and to compare for each.

    Args:
        plain: ``(n, n_items)``; overwritten.
        shift: ``(n, n_items)``; overwritten.
        strengths: The strengths.
        known: Items to mask, ``n`` histories.
        targets: ``(n,)``.

    Returns:
        ``(len(strengths), n)`` from 1.
    """
    wanted = torch.from_numpy(targets.astype(np.int64))[:, None]
    for scores in (plain, shift):
        scores -= scores.gather(1, wanted)
    mask(plain, known)
    plain.scatter_(1, wanted, 0.0)
    n, found, tried = plain.shape[1], [], torch.empty_like(plain)
    exact = torch.float32 if n < 1 << 24 else torch.float64
    for strength in strengths:
        signs = torch.add(plain, shift, alpha=strength, out=tried).sign_().sum(dim=1, dtype=exact)
        found.append((n + 1 + signs.double()) / 2)
    return torch.stack(found).numpy()


def mask(scores: Tensor, known: Histories) -> None:
    """Sets the scores of known items to minus infinity, in place."""
    places = torch.from_numpy(known.rows * known.n_items + known.items)
    scores.view(-1).index_fill_(0, places, -torch.inf)


def metrics_of(ranks: Values, cutoffs: Sequence[int]) -> Mapping[str, Values]:
    """Returns hit@k and ndcg@k of every event, which has one target each."""
    gains = 1 / np.log2(ranks + 1)
    found: dict[str, Values] = {}
    for k in cutoffs:
        inside = ranks <= k
        found[f"hit@{k}"] = inside.astype(np.float64)
        found[f"ndcg@{k}"] = np.where(inside, gains, 0.0)
    return found
