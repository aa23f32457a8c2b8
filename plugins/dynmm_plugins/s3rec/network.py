"""The networks of S3-Rec: a transformer over item vectors, and what pre-training puts on it."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dynmm_framework.training.dropout import MaskSource
from dynmm_plugins.s3rec.config import S3RecConfig
from dynmm_plugins.s3rec.sequences import Inputs, PretrainingBatch, Segments

CHUNK_LOGITS = 1 << 20
"""Logits over the attributes that are held at once."""


class Attention(nn.Module):
    """Multi-head self-attention within each sequence, with an output projection."""

    def __init__(self, config: S3RecConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.attention_dropout
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        query: Tensor,
        source: Tensor,
        blocks: tuple[tuple[int, int], ...],
        bias: list[Tensor | None],
        masks: MaskSource | None,
    ) -> Tensor:
        """Lets queries look at their own sequences.

        Args:
            query: All positions ``(size, dim)``, or one of each sequence ``(sequences, dim)``.
            source: All positions, ``(size, dim)``.
            blocks: Rows and width of each block.
            bias: What is added to the logits of each block.
            masks: Source of dropout; ``None`` outside training.
        """
        sizes = [rows * width for rows, width in blocks]
        counts = sizes if len(query) == len(source) else [rows for rows, _ in blocks]
        pieces = zip(
            blocks,
            self.query(query).split(counts),
            self.key(source).split(sizes),
            self.value(source).split(sizes),
            bias,
            strict=True,
        )
        out: Tensor = self.output(torch.cat([self._mix(*piece, masks) for piece in pieces]))
        return out

    def _mix(
        self,
        block: tuple[int, int],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        masks: MaskSource | None,
    ) -> Tensor:
        width = query.shape[-1] // self.heads
        q, k, v = (
            x.view(block[0], -1, self.heads, width).transpose(1, 2) for x in (query, key, value)
        )
        if masks is None or not self.dropout or q.is_cuda:
            mask = None if bias is None else bias.to(q.dtype)
            rate = self.dropout if masks else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
        else:
            # With dropout torch has no fused kernel on the CPU.
            scores = q.mul(width**-0.5) @ k.transpose(2, 3)
            if bias is not None:
                scores = scores + bias
            mixed = masks.dropout(scores.softmax(-1), self.dropout) @ v
        return mixed.transpose(1, 2).reshape(query.shape)


class Block(nn.Module):
    """Attention and a position-wise feed-forward part, each with dropout, residual and norm."""

    def __init__(self, config: S3RecConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.up = nn.Linear(config.hidden_size, config.feed_forward_size)
        self.down = nn.Linear(config.feed_forward_size, config.hidden_size)
        self.dropout = config.dropout
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=1e-12)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=1e-12)

    def forward(
        self,
        query: Tensor,
        source: Tensor,
        blocks: tuple[tuple[int, int], ...],
        bias: list[Tensor | None],
        masks: MaskSource | None,
    ) -> Tensor:
        """Transforms the queries; arguments as for :meth:`Attention.forward`."""
        attended = self.attention(query, source, blocks, bias, masks)
        x = self.attention_norm(query + self._drop(attended, masks))
        out: Tensor = self.down(F.gelu(self.up(x)))
        out = self.feed_forward_norm(x + self._drop(out, masks))
        return out

    def _drop(self, x: Tensor, masks: MaskSource | None) -> Tensor:
        return masks.dropout(x, self.dropout) if masks else x


class Network(nn.Module):
    """Item vectors plus positions, through post-norm blocks of attention and feed-forward.

    The last row of ``items`` is the mask. Sequences start at the start of their row, oldest item
    first, and are padded behind their end with any item.
    """

    def __init__(self, config: S3RecConfig, n_items: int) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items + 1, config.hidden_size)
        self.positions = nn.Embedding(config.max_length, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=1e-12)
        self.dropout = config.dropout
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        initialise(self, config.init_std)

    @property
    def vectors(self) -> Tensor:
        """Vectors of the items without the mask, ``(n_items, dim)``."""
        return self.items.weight[:-1]

    def forward(self, inputs: Inputs, *, causal: bool, ends_only: bool = False) -> Tensor:
        """Encodes sequences.

        Args:
            inputs: The sequences.
            causal: Whether a position sees only itself and those before it (fine-tuning and
                serving) or all of its sequence (pre-training).
            ends_only: Return only the state of the newest item of each sequence, which saves
                most of the last block.

        Returns:
            Hidden states ``(size, hidden_size)``, or ``(sequences, hidden_size)``.
        """
        masks = MaskSource(inputs.items.device) if self.training else None
        x: Tensor = self.norm(self.items(inputs.items) + self.positions(inputs.positions))
        if masks:
            x = masks.dropout(x, self.dropout)
        bias = _future(inputs) if causal else _padding(inputs)
        for block in self.blocks[:-1]:
            x = block(x, x, inputs.blocks, bias, masks)
        last = self.blocks[-1]
        if ends_only:
            # The newest item has nothing but padding behind it, causal or not.
            padding = _padding(inputs) if causal else bias
            out: Tensor = last(x[inputs.ends], x, inputs.blocks, padding, masks)
        else:
            out = last(x, x, inputs.blocks, bias, masks)
        return out


def _padding(inputs: Inputs) -> list[Tensor | None]:
    """Returns -inf on the padding of each block, ``(rows, 1, 1, width)``; ``None`` without any."""
    bias: list[Tensor | None] = []
    pieces = inputs.lengths.split([rows for rows, _ in inputs.blocks])
    for (_, width), lengths in zip(inputs.blocks, pieces, strict=True):
        # Sequences lie shortest first: without a short one in front there is no padding.
        if not lengths.is_cuda and int(lengths[0]) == width:
            bias.append(None)
            continue
        hidden = torch.arange(width, device=lengths.device) >= lengths[:, None]
        zeros = torch.zeros(hidden.shape, device=lengths.device)
        bias.append(zeros.masked_fill_(hidden, -torch.inf)[:, None, None])
    return bias


def _future(inputs: Inputs) -> list[Tensor | None]:
    """Returns -inf on what is newer than the position, ``(width, width)`` for each block."""
    device = inputs.lengths.device
    return [
        torch.full((width, width), -torch.inf, device=device).triu_(1) for _, width in inputs.blocks
    ]


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
            initialise(part, config.init_std)

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


def initialise(module: nn.Module, std: float) -> None:
    """Draws weights from N(0, std²); biases are zero, norms the identity."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)


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
