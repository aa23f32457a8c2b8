"""The network of GRU4Rec: gated recurrent units over item vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dynmm_gru4rec.config import GRU4RecConfig

if TYPE_CHECKING:
    from dynmm_framework.training.sequences import Inputs


class Network(nn.Module):
    """Reads sequences from the oldest item to the newest.

    It has what the core's next-item rooms ask of a network: ``items``, ``vectors``, ``max_length``
    and a call on laid-out sequences. Padding stands behind the newest item, where no state that
    is used comes from it, so nothing has to be masked.

    Args:
        config: Sizes and rates.
        n_items: Number of items.
    """

    def __init__(self, config: GRU4RecConfig, n_items: int) -> None:
        super().__init__()
        size = config.hidden_size
        self.n_items, self.max_length = n_items, config.max_length
        self.items = nn.Embedding(n_items, size)
        self.recurrent = nn.GRU(size, size, num_layers=config.layers, batch_first=True)
        self.output = nn.Linear(size, size)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.items.weight, std=config.init_std)

    @property
    def vectors(self) -> Tensor:
        """Vectors of the items, ``(n_items, hidden_size)``; input and output share them."""
        return self.items.weight

    def forward(self, inputs: Inputs, *, ends_only: bool = False) -> Tensor:
        """Encodes sequences.

        Args:
            inputs: The sequences, laid out in rectangles of similar length.
            ends_only: Return the state of the newest item of each sequence alone.

        Returns:
            States ``(size, hidden_size)``, or ``(sequences, hidden_size)``.
        """
        x = self.dropout(self.items(inputs.items))  # (size, hidden_size)
        pieces = torch.split(x, [rows * width for rows, width in inputs.blocks])
        states = [
            self.recurrent(piece.view(rows, width, -1))[0].reshape(rows * width, -1)
            for piece, (rows, width) in zip(pieces, inputs.blocks, strict=True)
        ]
        hidden = torch.cat(states)
        if ends_only:
            hidden = hidden.index_select(0, inputs.ends)
        found: Tensor = self.output(self.dropout(hidden))
        return found
