"""Fusion of an item's modalities, any of which may be missing.

All modules take the same three tensors and give one vector an item, so that an adapter chooses
among them by name:

* ``inputs``: one ``(items, width)`` tensor a modality, projected to a common width;
* ``present``: ``(items, modalities)`` bool;
* the result: ``(items, width)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SharedProjector(nn.Module):
    """One linear map a modality to a common width, then one MLP for all of them.

    Modalities differ in width, so a projector shared from the start cannot exist; what is shared
    is the two-layer part behind the maps.

    Args:
        widths: Width of each modality's vectors.
        hidden: Common and inner width.
        dim: Width of the result.
    """

    def __init__(self, widths: Sequence[int], *, hidden: int, dim: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, hidden) for width in widths)
        self.shared = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, dim))

    def forward(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """Projects ``(items, width)`` of each modality to ``(items, dim)``."""
        return [
            self.shared(torch.relu(linear(rows)))
            for linear, rows in zip(self.maps, vectors, strict=True)
        ]


class GatedFusion(nn.Module):
    """Softmax gate over the modalities that an item has (paper, section 4.2).

    A missing modality has no part in the gate; an item with none gets a learned vector.
    """

    def __init__(self, n_modalities: int, dim: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(dim, 1) for _ in range(n_modalities))
        self.missing = nn.Parameter(torch.zeros(dim))

    def forward(self, inputs: Sequence[Tensor], present: Tensor) -> Tensor:
        """Fuses modalities; see the module."""
        logits = torch.cat(
            [gate(rows) for gate, rows in zip(self.gates, inputs, strict=True)], dim=1
        )
        # A finite floor keeps the softmax of an item without any modality defined.
        weights = logits.masked_fill(~present, torch.finfo(logits.dtype).min).softmax(dim=1)
        weights = weights * present  # (items, modalities)
        stacked = torch.stack(list(inputs), dim=1)  # (items, modalities, dim)
        fused = (weights[:, :, None] * stacked).sum(dim=1)
        return torch.where(present.any(dim=1, keepdim=True), fused, self.missing)


class ConcatFusion(nn.Module):
    """Concatenation with learned vectors in the gaps, then one linear map."""

    def __init__(self, n_modalities: int, dim: int) -> None:
        super().__init__()
        self.missing = nn.Parameter(torch.zeros(n_modalities, dim))
        self.out = nn.Linear(n_modalities * dim, dim)

    def forward(self, inputs: Sequence[Tensor], present: Tensor) -> Tensor:
        """Fuses modalities; see the module."""
        stacked = torch.stack(list(inputs), dim=1)  # (items, modalities, dim)
        filled = torch.where(present[:, :, None], stacked, self.missing)
        out: Tensor = self.out(filled.flatten(1))
        return out


class CrossAttentionFusion(nn.Module):
    """The first modality attends to all that are present (LLM4Rec's fusion of modalities).

    Args:
        n_modalities: Number of modalities; the first one asks.
        dim: Width.
        heads: Most attention heads; as many as divide the width.
    """

    def __init__(self, n_modalities: int, dim: int, *, heads: int = 4) -> None:
        super().__init__()
        self.kind = nn.Parameter(torch.randn(n_modalities, dim) * 0.02)
        self.missing = nn.Parameter(torch.zeros(dim))
        self.attention = nn.MultiheadAttention(dim, math.gcd(dim, heads), batch_first=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, inputs: Sequence[Tensor], present: Tensor) -> Tensor:
        """Fuses modalities; see the module."""
        # The learned last token is always there, so that no row of the attention is empty.
        tokens = torch.stack(list(inputs), dim=1) + self.kind
        always = self.missing.expand(len(tokens), 1, -1)
        tokens = torch.cat([tokens, always], dim=1)  # (items, modalities + 1, dim)
        hidden = torch.cat([~present, present.new_zeros(len(present), 1)], dim=1)
        asking = torch.where(present[:, :1, None], tokens[:, :1], always)
        mixed, _ = self.attention(asking, tokens, tokens, key_padding_mask=hidden)
        out: Tensor = self.norm((asking + mixed)[:, 0])
        return out


def drop_modalities(present: Tensor, rate: float) -> Tensor:
    """Drops present modalities at random, never all of an item's.

    Args:
        present: ``(items, modalities)`` bool.
        rate: Probability of dropping each.

    Returns:
        A mask like ``present``.
    """
    chance = torch.rand(present.shape, device=present.device)
    kept = present & (chance >= rate)
    # Where all would go, the one that came closest to staying stays.
    best = chance.masked_fill(~present, -1.0).argmax(dim=1)
    rescued = torch.nn.functional.one_hot(best, present.shape[1]).bool() & present
    return torch.where(kept.any(dim=1, keepdim=True), kept, rescued)
