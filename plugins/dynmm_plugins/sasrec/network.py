"""The network of SASRec: a causal transformer over item vectors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynmm_framework.training.dropout import MaskSource
from dynmm_plugins.sasrec.config import SASRecConfig


class Attention(nn.Module):
    """Causal multi-head self-attention with an output projection."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.attention_dropout
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, query: Tensor, source: Tensor, masks: MaskSource | None) -> Tensor:
        batch, length, dim = source.shape
        shape = (batch, length, self.heads, dim // self.heads)
        q = self.query(query).view(shape).transpose(1, 2)  # (batch, heads, length, head dim)
        k = self.key(source).view(shape).transpose(1, 2)
        v = self.value(source).view(shape).transpose(1, 2)
        if masks is None or not self.dropout or q.is_cuda:
            mixed = F.scaled_dot_product_attention(
                q, k, v, dropout_p=self.dropout if masks else 0.0, is_causal=True
            )
        else:
            # With dropout torch has no fused kernel on the CPU; this is its fallback with less
            # around it.
            future = torch.full((length, length), -torch.inf).triu(1)
            scores = q.mul(shape[-1] ** -0.5) @ k.transpose(2, 3) + future
            mixed = masks.dropout(scores.softmax(-1), self.dropout) @ v
        out: Tensor = self.output(mixed.transpose(1, 2).reshape(batch, length, dim))
        return out


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

    def _attend(self, query: Tensor, source: Tensor, masks: MaskSource | None) -> Tensor:
        attended = self.attention(query, source, masks)
        return masks.dropout(attended, self.dropout) if masks else attended

    def _feed_forward(self, x: Tensor, masks: MaskSource | None) -> Tensor:
        out = self.down(self.activation(self.up(x)))
        return masks.dropout(out, self.dropout) if masks else out

    def forward(self, x: Tensor, masks: MaskSource | None) -> Tensor:
        """Transforms states ``(batch, length, dim)``; ``masks`` is ``None`` outside training."""
        if self.norm == "post":
            x = self.attention_norm(x + self._attend(x, x, masks))
            return self.feed_forward_norm(x + self._feed_forward(x, masks))
        normed = self.attention_norm(x)
        if self.norm == "pre":
            x = x + self._attend(normed, normed, masks)
            return x + self._feed_forward(self.feed_forward_norm(x), masks)
        x = self.feed_forward_norm(normed + self._attend(normed, x, masks))
        return x + self._feed_forward(x, masks)


class Network(nn.Module):
    """Item vectors plus positions, through the blocks.

    Sequences are aligned at their start, oldest item first, and padded behind their end with any
    item: under the causal mask no real position sees the padding, so that its content does not
    matter and attention needs no mask of its own. Positions are counted as if the newest item
    always stood last of ``max_length``, whatever the width of the batch.
    """

    def __init__(self, config: SASRecConfig, n_items: int) -> None:
        super().__init__()
        self.max_length = config.max_length
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

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Encodes sequences.

        Args:
            items: Item ids, oldest first, ``(batch, length)``; anything behind a sequence's end.
            lengths: Items in each sequence, ``(batch,)``; at least 1.

        Returns:
            Hidden states, ``(batch, length, hidden_size)``; state ``t`` has seen items ``0 … t``.
        """
        columns = torch.arange(items.shape[1], device=items.device)
        positions = columns + (self.max_length - lengths)[:, None]
        positions = positions.clamp(max=self.max_length - 1)
        x = self.items(items) * self.scale + self.positions(positions)
        if self.norm_first:
            x = self.norm(x)
        masks = MaskSource(x.device) if self.training else None
        if masks:
            x = masks.dropout(x, self.dropout)
        for block in self.blocks:
            x = block(x, masks)
        return x if self.norm_first else self.norm(x)
