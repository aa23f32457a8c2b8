"""Losses of next-item prediction over real positions."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ROWS = 128
"""Positions whose logits over the catalogue are held at once on the CPU."""

CHUNK_ROWS_GPU = 4096
"""The same on a GPU."""


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
    """Mean cross-entropy of each target over all items.

    Positions are worked through in chunks that fit the processor's cache, gradients along with
    the loss: memory O(chunk × n_items), whatever the number of positions.

    Args:
        states: Hidden states of the positions, ``(n, d)``.
        items: All item vectors, ``(n_items, d)``.
        targets: ``(n,)``.
    """
    loss = _CatalogueCrossEntropy.apply(states, items, targets)  # type: ignore[no-untyped-call]
    return cast(Tensor, loss)


class _CatalogueCrossEntropy(torch.autograd.Function):
    """Cross-entropy over the catalogue that never holds more than a chunk of its logits."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, targets: Tensor) -> Tensor:
        device = states.device.type
        rows = CHUNK_ROWS if device == "cpu" else CHUNK_ROWS_GPU
        # Sums over the catalogue are never made in half precision, only the products are.
        wide = torch.promote_types(states.dtype, torch.float32)
        autocast = torch.is_autocast_enabled(device)
        narrow = torch.get_autocast_dtype(device) if autocast else states.dtype
        with torch.autocast(device, enabled=False):
            table = items.to(narrow)
            total = states.new_zeros((), dtype=wide)
            by_state = torch.empty_like(states)
            by_item = torch.zeros_like(items, dtype=wide)
            for start in range(0, len(states), rows):
                part = slice(start, start + rows)
                # Items come first and operands lie row by row: the products' fastest shape.
                chunk = states[part].to(narrow).T.contiguous()  # (d, chunk)
                logits = (table @ chunk).to(wide)  # (n_items, chunk)
                wanted = logits.gather(0, targets[None, part])
                largest = logits.amax(dim=0, keepdim=True)
                weights = logits.sub_(largest).exp_()
                mass = weights.sum(dim=0, keepdim=True)
                total += (mass.log() + largest - wanted).sum()
                weights = weights.to(narrow)
                # Dividing the narrow side by the mass spares a pass over the wide one.
                by_state[part] = (weights.T @ table).to(wide) / mass.T - items[targets[part]]
                scaled = (states[part] / mass.T).to(narrow)
                if narrow == wide:
                    by_item.addmm_(weights, scaled)
                else:
                    by_item += weights @ scaled
            by_item.index_add_(0, targets, states.to(wide), alpha=-1)
        ctx.save_for_backward(by_state, by_item)
        return total / len(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        by_state, by_item = ctx.saved_tensors
        scale = grad / len(by_state)
        return (by_state * scale).to(by_state.dtype), by_item * scale, None


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
