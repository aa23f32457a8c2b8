"""The network of SASRec: a causal transformer over item vectors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynmm_framework.training.dropout import MaskSource
from dynmm_plugins.sasrec.config import SASRecConfig

Blocks = tuple[tuple[int, int], ...]
"""Rows and width of each rectangle of sequences; see :mod:`dynmm_framework.training.batches`."""


class Attention(nn.Module):
    """Causal multi-head self-attention within each sequence, with an output projection."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.attention_dropout
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        future = torch.full((config.max_length, config.max_length), -torch.inf).triu(1)
        self.register_buffer("future", future, persistent=False)
        self.future: Tensor

    def forward(
        self, query: Tensor, source: Tensor, blocks: Blocks, masks: MaskSource | None
    ) -> Tensor:
        sizes = [rows * width for rows, width in blocks]
        projected = (self.query(query), self.key(source), self.value(source))
        pieces = zip(blocks, *(part.split(sizes) for part in projected), strict=True)
        mixed = [self._mix(block, q, k, v, masks) for block, q, k, v in pieces]
        out: Tensor = self.output(torch.cat(mixed))
        return out

    def _mix(
        self,
        block: tuple[int, int],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        masks: MaskSource | None,
    ) -> Tensor:
        rows, width = block
        parts = (rows, width, self.heads, query.shape[-1] // self.heads)
        q, k, v = (part.view(parts).transpose(1, 2) for part in (query, key, value))
        if masks is None or not self.dropout or q.is_cuda:
            mixed = F.scaled_dot_product_attention(
                q, k, v, dropout_p=self.dropout if masks else 0.0, is_causal=True
            )
        else:
            # With dropout torch has no fused kernel on the CPU; this does the same with few calls.
            q, k, v = (part.flatten(0, 1) for part in (q, k, v))  # (rows * heads, width, head dim)
            future = self.future[:width, :width].to(q.dtype)
            scores = torch.baddbmm(future, q, k.transpose(1, 2), alpha=parts[-1] ** -0.5)
            weights = masks.dropout(scores.softmax(-1), self.dropout)
            mixed = torch.bmm(weights, v).view(rows, self.heads, width, parts[-1])
        return mixed.transpose(1, 2).reshape(query.shape)


class Block(nn.Module):
    """Attention and a position-wise feed-forward part, each with dropout, residual and norm."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.norm = config.norm
        self.attention = Attention(config)
        self.up = nn.Linear(config.hidden_size, config.feed_forward_size)
        self.down = nn.Linear(config.feed_forward_size, config.hidden_size)
        self.activation = F.relu if config.activation == "relu" else F.gelu
        self.dropout = config.dropout
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=1e-8)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=1e-8)

    def _attend(
        self, query: Tensor, source: Tensor, blocks: Blocks, masks: MaskSource | None
    ) -> Tensor:
        attended: Tensor = self.attention(query, source, blocks, masks)
        return masks.dropout(attended, self.dropout) if masks else attended

    def _feed_forward(self, x: Tensor, masks: MaskSource | None) -> Tensor:
        out: Tensor = self.down(self.activation(self.up(x)))
        return masks.dropout(out, self.dropout) if masks else out

    def forward(self, x: Tensor, blocks: Blocks, masks: MaskSource | None) -> Tensor:
        """Transforms states ``(positions, dim)``; ``masks`` is ``None`` outside training."""
        out: Tensor
        if self.norm == "post":
            x = self.attention_norm(x + self._attend(x, x, blocks, masks))
            out = self.feed_forward_norm(x + self._feed_forward(x, masks))
            return out
        normed = self.attention_norm(x)
        if self.norm == "pre":
            x = x + self._attend(normed, normed, blocks, masks)
            return x + self._feed_forward(self.feed_forward_norm(x), masks)
        x = self.feed_forward_norm(normed + self._attend(normed, x, blocks, masks))
        return x + self._feed_forward(x, masks)


class Network(nn.Module):
    """Item vectors plus positions, through the blocks of attention and feed-forward.

    Sequences start at the start of their row, oldest item first, and are padded behind their end
    with any item: under the causal mask no real position sees the padding, so that its content
    does not matter and attention needs no mask of its own.
    """

    def __init__(self, config: SASRecConfig, n_items: int) -> None:
        super().__init__()
        self.scale = math.sqrt(config.hidden_size) if config.scale_embedding else 1.0
        self.items = nn.Embedding(n_items, config.hidden_size)
        self.positions = nn.Embedding(config.max_length, config.hidden_size)
        # post: the embedding sum is normalised, and each block ends in a norm of its own.
        self.norm_first = config.norm == "post"
        self.norm = nn.LayerNorm(config.hidden_size, eps=1e-8)
        self.dropout = config.dropout
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self._initialise(config)

    def _initialise(self, config: SASRecConfig) -> None:
        for name, parameter in self.named_parameters():
            if "norm" in name:
                continue
            if parameter.dim() < 2:
                nn.init.zeros_(parameter)
            elif config.initialisation == "xavier":
                nn.init.xavier_normal_(parameter)
            else:
                nn.init.normal_(parameter, std=config.init_std)

    def forward(self, items: Tensor, positions: Tensor, blocks: Blocks) -> Tensor:
        """Encodes sequences laid out in blocks.

        Args:
            items: Item ids, ``(size,)``; anything where there is padding.
            positions: Position of each, ``(size,)``; the newest item of a sequence has
                ``max_length - 1``, whatever the length of the sequence.
            blocks: Rows and width of each block.

        Returns:
            Hidden states, ``(size, hidden_size)``; each has seen its item and those before it.
        """
        x: Tensor = self.items(items) * self.scale + self.positions(positions)
        if self.norm_first:
            x = self.norm(x)
        masks = MaskSource(x.device) if self.training else None
        if masks:
            x = masks.dropout(x, self.dropout)
        for block in self.blocks:
            x = block(x, blocks, masks)
        if not self.norm_first:
            x = self.norm(x)
        return x
