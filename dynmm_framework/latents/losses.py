"""Losses of the joint space (paper, section 4.2 and equation 4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(
    left: Tensor, right: Tensor, *, temperature: Tensor | float, same: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE between two views of the same items, negatives from the batch.

    Args:
        left: ``(items, d)``; normalised here.
        right: ``(items, d)``; row ``i`` is the same item.
        temperature: Divides the cosines.
        same: Pairs of rows that are the same thing, ``(items, items)`` bool: they are no
            negatives of each other.

    Returns:
        Mean over items of both directions; 0 for fewer than two items, which have no negatives.
    """
    if len(left) < 2:
        return left.new_zeros(())
    logits = F.normalize(left, dim=1) @ F.normalize(right, dim=1).T / temperature
    if same is not None:
        others = same & ~torch.eye(len(left), dtype=torch.bool, device=left.device)
        logits = logits.masked_fill(others, -torch.inf)
    own = torch.arange(len(left), device=left.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def pairwise_alignment(
    views: Sequence[Tensor],
    present: Tensor,
    pairs: Iterable[tuple[int, int]],
    *,
    temperature: Tensor | float,
    duplicates: Tensor | None = None,
) -> Tensor:
    """Mean InfoNCE over pairs of modalities, each over the items that have both.

    Args:
        views: One ``(items, d)`` tensor a modality.
        present: ``(items, modalities)`` bool.
        pairs: Which modalities are brought together.
        temperature: Divides the cosines.
        duplicates: Group of each item, ``(items,)``; items of a group (the same product listed
            twice, say) are no negatives of each other.

    Returns:
        0 if no pair has two items.
    """
    losses = []
    for a, b in pairs:
        both = (present[:, a] & present[:, b]).nonzero()[:, 0]
        if len(both) < 2:
            continue
        groups = None if duplicates is None else duplicates[both]
        same = None if groups is None else groups[:, None] == groups[None]
        losses.append(info_nce(views[a][both], views[b][both], temperature=temperature, same=same))
    return torch.stack(losses).mean() if losses else present.new_zeros((), dtype=torch.float32)


def reconstruction(
    rebuilt: Sequence[Tensor],
    originals: Sequence[Tensor],
    present: Tensor,
    weights: Sequence[float],
) -> Tensor:
    """Weighted mean squared error of each modality rebuilt from the latents.

    Args:
        rebuilt: ``(items, width)`` a modality.
        originals: Standardised vectors, likewise.
        present: ``(items, modalities)`` bool; what is missing is not asked for.
        weights: Weight of each modality.
    """
    total = present.new_zeros((), dtype=torch.float32)
    for number, (guess, truth, weight) in enumerate(zip(rebuilt, originals, weights, strict=True)):
        rows = present[:, number]
        if weight and bool(rows.any()):
            total = total + weight * F.mse_loss(guess[rows], truth[rows])
    return total


def gaussian_shift(latents: Tensor, base: Tensor, *, sigma: float) -> Tensor:
    """KL divergence of two Gaussians of equal variance, mean over rows (paper, equation 2).

    Args:
        latents: Means of the first, ``(n, d)``.
        base: Means of the second.
        sigma: Standard deviation of both.
    """
    return (latents - base).square().sum(dim=1).mean() / (2 * sigma**2)
