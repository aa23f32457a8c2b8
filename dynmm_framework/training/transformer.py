"""A transformer over sequences of items, causal or looking both ways.

Sequences lie in rectangles of similar length (:mod:`dynmm_framework.training.batches`), so that
short histories do not pay for long ones: attention works rectangle by rectangle, everything else
on all positions at once. A model of the SASRec or BERT4Rec family is this network with its own
inputs and losses::

    network = SequenceTransformer(config, n_items, n_special=1)  # one more vector, for a mask
    states = network(inputs, causal=False)  # (size, hidden_size)
    newest = network(inputs, ends_only=True)  # (sequences, hidden_size)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynmm_framework.training.dropout import MaskSource
from dynmm_framework.training.sequences import Blocks, Inputs

Norm = Literal["original", "pre", "post"]
"""Where layers are normalised. ``original`` is SASRec's: the query alone is normalised and the
residual is added to the normalised query. ``pre`` normalises the input of each part, ``post`` the
sum after it and the embedding sum, as BERT does."""
Activation = Literal["relu", "gelu"]
"""Activation of the feed-forward part."""
Initialisation = Literal["normal", "xavier"]
"""Distribution of initial weights: N(0, ``init_std²``) or Xavier-normal."""
Hidden = Sequence[Tensor | None] | None
"""What the queries of each block do not see: ``None`` hides what is newer than the query. Else one
bias on the logits of each block, -inf on what is hidden, ``(rows, 1, 1, width)``; ``None`` where
nothing is."""


class TransformerSettings(Protocol):
    """The sizes and rates that configurations of such models have."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def feed_forward_size(self) -> int: ...
    @property
    def max_length(self) -> int: ...
    @property
    def dropout(self) -> float: ...
    @property
    def attention_dropout(self) -> float: ...
    @property
    def init_std(self) -> float: ...


class Attention(nn.Module):
    """Multi-head self-attention within each sequence, with an output projection."""

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        size, length = settings.hidden_size, settings.max_length
        self.heads = settings.heads
        self.dropout = settings.attention_dropout
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.output = nn.Linear(size, size)
        future = torch.full((length, length), -torch.inf).triu(1)
        self.register_buffer("future", future, persistent=False)
        self.future: Tensor

    def forward(
        self,
        query: Tensor,
        source: Tensor,
        blocks: Blocks,
        *,
        hidden: Hidden = None,
        masks: MaskSource | None = None,
    ) -> Tensor:
        """Lets queries look at their own sequences.

        Args:
            query: All positions ``(size, dim)``, or one of each sequence ``(sequences, dim)``.
            source: All positions, ``(size, dim)``.
            blocks: Rows and width of each block.
            hidden: What queries do not see.
            masks: Source of dropout; ``None`` outside training.

        Returns:
            One vector for each query.
        """
        sizes = [rows * width for rows, width in blocks]
        counts = sizes if len(query) == len(source) else [rows for rows, _ in blocks]
        pieces = zip(
            blocks,
            torch.split(self.query(query), counts),
            torch.split(self.key(source), sizes),
            torch.split(self.value(source), sizes),
            [None] * len(blocks) if hidden is None else hidden,
            strict=True,
        )
        mixed = [self._mix(*piece, causal=hidden is None, masks=masks) for piece in pieces]
        out: Tensor = self.output(torch.cat(mixed))
        return out

    def _mix(
        self,
        block: tuple[int, int],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        *,
        causal: bool,
        masks: MaskSource | None,
    ) -> Tensor:
        rows, width = block
        part = query.shape[-1] // self.heads
        q, k, v = (
            x.view(rows, -1, self.heads, part).transpose(1, 2) for x in (query, key, value)
        )  # (rows, heads, queries or width, part)
        bias = None if bias is None else bias.to(q.dtype)
        if masks is None or not self.dropout or q.device.type != "cpu":
            rate = self.dropout if masks else 0.0
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=bias, dropout_p=rate, is_causal=causal
            )
        else:
            # With dropout torch has no fused kernel on the CPU; this does the same with few calls.
            if causal:
                bias = self.future[:width, :width].to(q.dtype)
            elif bias is not None:
                bias = bias.expand(-1, self.heads, -1, -1).flatten(0, 1)
            q, k, v = (x.flatten(0, 1) for x in (q, k, v))
            none = bias is None
            scores = torch.baddbmm(
                q.new_empty(()) if bias is None else bias,
                q,
                k.transpose(1, 2),
                beta=0 if none else 1,
                alpha=part**-0.5,
            )
            weights = masks.dropout(scores.softmax(-1), self.dropout)
            mixed = torch.bmm(weights, v).view(rows, self.heads, -1, part)
        return mixed.transpose(1, 2).reshape(query.shape)


class TransformerBlock(nn.Module):
    """Attention and a position-wise feed-forward part, each with dropout, residual and norm."""

    def __init__(
        self, settings: TransformerSettings, *, norm: Norm, activation: Activation, eps: float
    ) -> None:
        super().__init__()
        size = settings.hidden_size
        self.norm = norm
        self.attention = Attention(settings)
        self.up = nn.Linear(size, settings.feed_forward_size)
        self.down = nn.Linear(settings.feed_forward_size, size)
        self.activation = F.relu if activation == "relu" else F.gelu
        self.dropout = settings.dropout
        self.attention_norm = nn.LayerNorm(size, eps=eps)
        self.feed_forward_norm = nn.LayerNorm(size, eps=eps)

    def forward(
        self,
        x: Tensor,
        blocks: Blocks,
        *,
        source: Tensor | None = None,
        hidden: Hidden = None,
        masks: MaskSource | None = None,
    ) -> Tensor:
        """Transforms states.

        Args:
            x: All positions ``(size, dim)``, or one of each sequence ``(sequences, dim)``.
            blocks: Rows and width of each block.
            source: All positions, ``(size, dim)``; ``x`` if ``None``.
            hidden: What the positions of ``x`` do not see of ``source``.
            masks: Source of dropout; ``None`` outside training.
        """

        def attend(query: Tensor, seen: Tensor) -> Tensor:
            attended: Tensor = self.attention(query, seen, blocks, hidden=hidden, masks=masks)
            return masks.dropout(attended, self.dropout) if masks else attended

        def feed_forward(x: Tensor) -> Tensor:
            out: Tensor = self.down(self.activation(self.up(x)))
            return masks.dropout(out, self.dropout) if masks else out

        if self.norm == "post":
            x = self.attention_norm(x + attend(x, x if source is None else source))
            out: Tensor = self.feed_forward_norm(x + feed_forward(x))
            return out
        normed = self.attention_norm(x)
        if self.norm == "pre":
            x = x + attend(normed, normed if source is None else self.attention_norm(source))
            return x + feed_forward(self.feed_forward_norm(x))
        x = self.feed_forward_norm(normed + attend(normed, x if source is None else source))
        return x + feed_forward(x)


class SequenceTransformer(nn.Module):
    """Item vectors plus positions, through blocks of attention and feed-forward.

    Sequences start at the start of their row, oldest item first, and are padded behind their end
    with any item. Looking back only, no real position sees the padding, so that its content does
    not matter and attention needs no mask of its own; looking both ways, it is hidden.

    Args:
        settings: Sizes and rates.
        n_items: Number of items.
        n_special: Vectors in ``items`` behind those of the items, such as one for a mask.
        norm: Where layers are normalised.
        activation: Activation of the feed-forward part.
        initialisation: Distribution of the initial weights.
        input_scale: What item vectors are multiplied by on input.
        eps: What is added to the variance in norms.
    """

    def __init__(
        self,
        settings: TransformerSettings,
        n_items: int,
        *,
        n_special: int = 0,
        norm: Norm = "post",
        activation: Activation = "gelu",
        initialisation: Initialisation = "normal",
        input_scale: float = 1.0,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.n_items, self.max_length = n_items, settings.max_length
        self.input_scale = input_scale
        self.items = nn.Embedding(n_items + n_special, settings.hidden_size)
        self.positions = nn.Embedding(settings.max_length, settings.hidden_size)
        # post: the embedding sum is normalised, and each block ends in a norm of its own.
        self.norm_first = norm == "post"
        self.norm = nn.LayerNorm(settings.hidden_size, eps=eps)
        self.dropout = settings.dropout
        self.blocks = nn.ModuleList(
            TransformerBlock(settings, norm=norm, activation=activation, eps=eps)
            for _ in range(settings.layers)
        )
        initialise(self, std=settings.init_std, how=initialisation)

    @property
    def vectors(self) -> Tensor:
        """Vectors of the items, ``(n_items, hidden_size)``."""
        table = self.items.weight
        # A slice of all of it would cost a copy of the gradient.
        return table if len(table) == self.n_items else table[: self.n_items]

    def forward(self, inputs: Inputs, *, causal: bool = True, ends_only: bool = False) -> Tensor:
        """Encodes sequences.

        Args:
            inputs: The sequences.
            causal: Whether a position sees only itself and those before it, or all of its
                sequence.
            ends_only: Return only the state of the newest item of each sequence, which saves
                most of the last block.

        Returns:
            Hidden states ``(size, hidden_size)``, or ``(sequences, hidden_size)``.
        """
        x: Tensor = self.items(inputs.items)
        if self.input_scale != 1:
            x = x * self.input_scale
        x = x + self.positions(inputs.positions)
        if self.norm_first:
            x = self.norm(x)
        masks = MaskSource(x.device) if self.training else None
        if masks:
            x = masks.dropout(x, self.dropout)
        # The newest item has nothing but padding behind it, causal or not.
        padding = hidden_padding(inputs) if ends_only or not causal else None
        hidden = None if causal else padding
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, inputs.blocks, hidden=hidden, masks=masks)
        if ends_only:
            ends = x.index_select(0, inputs.ends)
            x = last(ends, inputs.blocks, source=x, hidden=padding, masks=masks)
        else:
            x = last(x, inputs.blocks, hidden=hidden, masks=masks)
        return x if self.norm_first else self.norm(x)


def hidden_padding(inputs: Inputs) -> list[Tensor | None]:
    """Returns -inf on the padding of each block, ``(rows, 1, 1, width)``; ``None`` without any."""
    bias: list[Tensor | None] = []
    pieces = torch.split(inputs.lengths, [rows for rows, _ in inputs.blocks])
    for (_, width), lengths in zip(inputs.blocks, pieces, strict=True):
        # Whether there is any is asked on the CPU only: a GPU would have to be waited for.
        if lengths.device.type == "cpu" and bool((lengths == width).all()):
            bias.append(None)
            continue
        hidden = torch.arange(width, device=lengths.device) >= lengths[:, None]
        zeros = torch.zeros(hidden.shape, device=lengths.device)
        bias.append(zeros.masked_fill_(hidden, -torch.inf)[:, None, None])
    return bias


def initialise(module: nn.Module, *, std: float, how: Initialisation = "normal") -> None:
    """Draws the weights of linear layers and embeddings; biases become zero.

    Args:
        module: Other parts of it, such as norms, stay as they are.
        std: Standard deviation of ``normal``.
        how: ``normal`` or ``xavier``.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            if how == "xavier":
                nn.init.xavier_normal_(part.weight)
            else:
                nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
