"""Losses of next-item prediction over real positions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def binary_cross_entropy(
    states: Tensor, items: Tensor, targets: Tensor, negatives: Tensor
) -> Tensor:
    """Tells each target from its own negatives.

    Args:
        states: Hidden states of the positions, ``(n, d)``.
        items: All item vectors, ``(n_items, d)``.
        targets: ``(n,)``.
        negatives: ``(n, n_negatives)``; their terms are averaged.

    Returns:
        Mean over positions of -log σ(target) - mean log(1 - σ(negative)).
    """
    chosen = torch.cat([targets[:, None], negatives], dim=1)  # (n, 1 + n_negatives)
    logits = (F.embedding(chosen, items) * states[:, None]).sum(-1)
    positive = F.softplus(-logits[:, 0]).mean()
    return positive + F.softplus(logits[:, 1:]).mean()


def cross_entropy(states: Tensor, items: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of each target over all items; memory O(n × n_items)."""
    return F.cross_entropy((states @ items.T).float(), targets)


def sampled_softmax(states: Tensor, items: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    """Mean cross-entropy of each target against uniform negatives shared by all positions.

    Each negative stands for n_items / n_negatives items, hence the logarithm of that is added to
    its logit; a negative that is the position's own target is left out.
    """
    target = (F.embedding(targets, items) * states).sum(-1, keepdim=True)
    others = states @ F.embedding(negatives, items).T
    others = others + math.log(items.shape[0] / len(negatives))
    others = others.masked_fill(negatives[None] == targets[:, None], -torch.inf)
    logits = torch.cat([target, others], dim=1).float()
    return F.cross_entropy(logits, torch.zeros_like(targets))
