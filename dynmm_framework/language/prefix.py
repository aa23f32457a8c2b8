"""What a language model has read already, kept so that it is read once and continued often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prefix:
    """The keys and values of texts that were read, one row for each text.

    A prefix is never changed: what continues it works on a copy, so that one prefix serves any
    number of continuations, at once or one after another.

    Attributes:
        layers: Keys and values of each layer, each ``(batch, heads, length, head_dim)``.
        mask: Which places hold a token; the others are padding, ``(batch, length)`` bool.
        last: Hidden state of each row's last token, ``(batch, hidden_size)``.
        embeddings: What was read, ``(batch, length, hidden_size)``; for a model that must read it
            again because gradients are recomputed.
    """

    layers: Sequence[tuple[Tensor, Tensor]]
    mask: Tensor
    last: Tensor
    embeddings: Tensor

    def __len__(self) -> int:
        return len(self.mask)

    @property
    def length(self) -> int:
        """Number of places of each row, padding included."""
        return self.mask.shape[1]

    @property
    def lengths(self) -> Tensor:
        """Number of tokens of each row, ``(batch,)``."""
        return self.mask.sum(dim=1)

    def take(self, rows: Tensor) -> Prefix:
        """Returns the chosen rows, by index, in the given order, without padding they share."""
        rows = rows.to(self.mask.device)
        mask = self.mask[rows]
        used = mask.any(dim=0).nonzero()
        length = int(used[-1]) + 1 if len(used) else 0
        return Prefix(
            layers=[(k[rows, :, :length], v[rows, :, :length]) for k, v in self.layers],
            mask=mask[:, :length],
            last=self.last[rows],
            embeddings=self.embeddings[rows, :length],
        )

    def expanded(self, batch: int) -> Prefix:
        """Returns a prefix of ``batch`` rows: itself, or its only row for all of them.

        Raises:
            ValueError: If it has another number of rows than one or ``batch``.
        """
        if len(self) == batch:
            return self
        if len(self) != 1:
            raise ValueError(f"a prefix of {len(self)} rows cannot precede {batch} rows")
        return Prefix(
            layers=[
                (k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in self.layers
            ],
            mask=self.mask.expand(batch, -1),
            last=self.last.expand(batch, -1),
            embeddings=self.embeddings.expand(batch, -1, -1),
        )

    def cache(self) -> Any:
        """Returns a cache of the transformers library that starts with this prefix."""
        from transformers.cache_utils import DynamicCache, DynamicLayer

        factory: Any = DynamicLayer
        cache = DynamicCache()
        for keys, values in self.layers:
            layer = factory()
            # A layer grows by concatenation into new memory, so these tensors stay as they are.
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
            cache.layers.append(layer)
        return cache


def read_layers(cache: Any) -> list[tuple[Tensor, Tensor]]:
    """Returns the keys and values of each layer of a cache of the transformers library."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def empty_cache() -> Any:
    """Returns a cache without anything, every layer of which keeps all that it sees."""
    from transformers.cache_utils import DynamicCache

    return DynamicCache()


def last_places(mask: Tensor) -> Tensor:
    """Returns the last place of each row that holds a token, ``(batch,)``; 0 where none does."""
    places = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, places, 0).amax(dim=1)
