"""The two gated MLPs: one corrects items, one users."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GatedShift(nn.Module):
    """σ(wᵀq) · g(q): what is added to a frozen latent; zero until something is learned.

    Args:
        width: Width of q.
        dim: Width of the latent.
        hidden: Inner width.
        gate: Whether there is a gate.
    """

    def __init__(self, width: int, dim: int, *, hidden: int, gate: bool) -> None:
        super().__init__()
        self.width = width
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, dim)
        self.gate = nn.Linear(width, 1) if gate else None
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, query: Tensor) -> Tensor:
        """Returns corrections ``(n, dim)`` for queries ``(n, at most width)``."""
        if query.shape[1] < self.width:
            query = F.pad(query, (0, self.width - query.shape[1]))
        shift: Tensor = self.outer(F.relu(self.inner(query)))
        return shift if self.gate is None else torch.sigmoid(self.gate(query)) * shift


class Network(nn.Module):
    """Corrections of items and users, and the decoder of the reconstruction.

    Args:
        dim: Width of the latents.
        n_features: Features of an item's summary.
        hidden: Inner width.
        gate: Whether corrections are gated.
        users: Whether users are corrected.
        share: Whether users and items have the same weights.
        decoder: Whether the frozen latent is rebuilt.
    """

    def __init__(
        self,
        dim: int,
        n_features: int,
        *,
        hidden: int,
        gate: bool,
        users: bool,
        share: bool,
        decoder: bool,
    ) -> None:
        super().__init__()
        item, user = dim + n_features, 2 * dim + 1
        width = max(item, user) if users and share else item
        self.items = GatedShift(width, dim, hidden=hidden, gate=gate)
        self.users: GatedShift | None = None
        if users:
            own = None if share else GatedShift(user, dim, hidden=hidden, gate=gate)
            self.users = own if own is not None else self.items
        self.decoder = nn.Linear(dim, dim) if decoder else None


def shifted(base: Tensor, shift: Tensor) -> Tensor:
    """Adds a correction; served, where it is zero, the base stays bit for bit, signed zeros too."""
    if torch.is_grad_enabled():  # a choice would pass no gradient on to a correction of zero
        return base + shift
    return torch.where(shift == 0, base, base + shift)
