"""The networks of S3-Rec: a transformer over item vectors, and what pre-training puts on it."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dynmm_framework.training.transformer import SequenceTransformer, initialise
from dynmm_plugins.s3rec.config import S3RecConfig
from dynmm_plugins.s3rec.prefixes import PretrainingBatch, Segments

CHUNK_LOGITS = 1 << 20
"""Logits over the attributes that are held at once."""


class Network(SequenceTransformer):
    """The shared transformer; the last row of ``items`` is the mask."""

    def __init__(self, config: S3RecConfig, n_items: int) -> None:
        super().__init__(config, n_items, n_special=1, eps=1e-12)


class Pretraining(nn.Module):
    """The network with attribute vectors and one projection for each of the four losses.

    A projection ``W`` stands between the two sides of a score σ(xᵀ W y). Losses are sums over a
    batch, as in the authors' code.
    """

    def __init__(self, config: S3RecConfig, network: Network, n_attributes: int) -> None:
        super().__init__()
        self.settings = config.pretraining
        self.network = network
        self.attributes = nn.Embedding(n_attributes, config.hidden_size)
        self.aap = nn.Linear(config.hidden_size, config.hidden_size)
        self.mip = nn.Linear(config.hidden_size, config.hidden_size)
        self.map = nn.Linear(config.hidden_size, config.hidden_size)
        self.sp = nn.Linear(config.hidden_size, config.hidden_size)
        for part in (self.attributes, self.aap, self.mip, self.map, self.sp):
            initialise(part, std=config.init_std)

    def forward(self, batch: PretrainingBatch) -> Tensor:
        """Returns the weighted sum of the losses, divided by the number of prefixes."""
        states = self.network(batch.inputs, causal=False)
        total = self.attribute_losses(states, batch)
        if self.settings.mip_weight:
            total = total + self.settings.mip_weight * self.item_loss(states, batch)
        if batch.segments is not None:
            total = total + self.settings.sp_weight * self.segment_loss(batch.segments)
        return total / batch.rows

    def attribute_losses(self, states: Tensor, batch: PretrainingBatch) -> Tensor:
        """Returns AAP at unmasked places plus MAP at masked ones, each with its weight.

        Both are the binary cross-entropy of every attribute given the state of the place.
        """
        if not len(batch.described):
            return states.new_zeros(())
        n, settings = batch.n_unmasked, self.settings
        states = states[batch.described]
        rows = torch.cat([self.aap(states[:n]), self.map(states[n:])])
        weights = rows.new_full((len(rows),), settings.map_weight, dtype=torch.float32)
        weights[:n] = settings.aap_weight
        # -log σ(x) of what is there and -log(1 - σ(x)) of what is not: softplus(x) of all, less x
        # of what is there.
        vectors = self.attributes.weight
        own = F.embedding_bag(batch.attributes, vectors, batch.offsets, mode="sum")
        return weighted_softplus(rows, vectors, weights) - ((own * rows).sum(-1) * weights).sum()

    def item_loss(self, states: Tensor, batch: PretrainingBatch) -> Tensor:
        """Returns MIP: the masked item scores above one that the user has not."""
        own, foreign = self.network.items(torch.stack([batch.targets, batch.negatives]))
        return pairwise(self.mip(states[batch.masked]), own, foreign)

    def segment_loss(self, segments: Segments) -> Tensor:
        """Returns SP: what is left of a sequence scores its own segment above a foreign one."""
        ends = self.network(segments.inputs, causal=False, ends_only=True)
        context, own, foreign = ends[segments.places]
        return pairwise(self.sp(context), own, foreign)


def pairwise(rows: Tensor, own: Tensor, foreign: Tensor) -> Tensor:
    """Returns Σ -log σ(σ(row · own) - σ(row · foreign)); all are ``(n, dim)``.

    The inner σ belongs to the paper's score.
    """
    difference = (rows * own).sum(-1).sigmoid() - (rows * foreign).sum(-1).sigmoid()
    return F.softplus(-difference).sum()


def weighted_softplus(rows: Tensor, vectors: Tensor, weights: Tensor) -> Tensor:
    """Returns Σ_i weights_i Σ_j softplus(rows_i · vectors_j), never holding all logits.

    Args:
        rows: ``(n, dim)``.
        vectors: ``(m, dim)``.
        weights: Constants, ``(n,)``.
    """
    total = _WeightedSoftplus.apply(rows, vectors, weights)  # type: ignore[no-untyped-call]
    return cast(Tensor, total)


class _WeightedSoftplus(torch.autograd.Function):
    """Makes the gradients along with the sums, chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, vectors: Tensor, weights: Tensor) -> Tensor:
        step = max(1, CHUNK_LOGITS // max(len(vectors), 1))
        total = weights.new_zeros(())
        by_row = torch.empty_like(rows)
        by_vector = torch.zeros_like(vectors, dtype=weights.dtype)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            logits = (rows[part] @ vectors.T).to(weights.dtype)  # (chunk, m)
            scale = weights[part, None]
            # softplus(x) = max(x, 0) - log σ(|x|), in kernels ten times as fast as softplus.
            losses = logits.clamp(min=0).sub_(logits.abs().sigmoid_().log_())
            total += losses.sum(dim=1) @ weights[part]
            slopes = logits.sigmoid_().mul_(scale)
            by_row[part] = (slopes @ vectors.to(weights.dtype)).to(rows.dtype)
            by_vector.addmm_(slopes.T, rows[part].to(weights.dtype))
        ctx.save_for_backward(by_row, by_vector)
        ctx.dtype = vectors.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        by_row, by_vector = ctx.saved_tensors
        return (by_row * grad).to(by_row.dtype), (by_vector * grad).to(ctx.dtype), None
