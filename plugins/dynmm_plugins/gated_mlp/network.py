"""The two gated MLPs: one corrects items, one users."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CELLS = 1 << 19
"""Scores that the ranking loss holds at once."""


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


class RankingLoss(torch.autograd.Function):
    """Mean cross-entropy of users @ table.T, its gradient found along with it, part by part.

    All scores at once would be written and read several times by every step; of a part they stay
    in the processor's cache. It can be differentiated once.
    """

    @staticmethod
    def forward(ctx: Any, users: Tensor, table: Tensor, targets: Tensor, masked: Tensor) -> Tensor:
        """Returns the loss.

        Args:
            ctx: Of autograd.
            users: ``(n, d)``.
            table: ``(items, d)``.
            targets: ``(n,)``.
            masked: Places among flat scores ``(n, items)`` that have a probability of zero; those
                of a row before those of the next.
        """
        n, items = len(users), len(table)
        size = max(1, CELLS // max(items, 1))
        starts = range(0, n, size)
        cuts = torch.searchsorted(masked, masked.new_tensor([*starts, n]) * items).tolist()
        to_users, to_table = torch.empty_like(users), torch.zeros_like(table)
        total = users.new_zeros(())
        for part, start in enumerate(starts):
            rows = slice(start, min(start + size, n))
            scores = users[rows] @ table.T
            places = masked[cuts[part] : cuts[part + 1]] - start * items
            scores.view(-1).index_fill_(0, places, -torch.inf)
            wanted = targets[rows, None]
            # log softmax at the largest score, which never underflows, gives the normaliser.
            largest = scores.amax(dim=1, keepdim=True)
            behind = largest - scores.gather(1, wanted)
            change = F.softmax(scores, dim=1)
            total += (behind - change.amax(dim=1, keepdim=True).log()).sum()
            change.scatter_add_(1, wanted, change.new_full(wanted.shape, -1.0))
            torch.mm(change, table, out=to_users[rows])
            to_table.addmm_(change.T, users[rows])
        ctx.save_for_backward(to_users.div_(n), to_table.div_(n))
        return total / n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Returns the gradients of users and table."""
        to_users, to_table = ctx.saved_tensors
        return gradients[0] * to_users, gradients[0] * to_table, None, None


def shifted(base: Tensor, shift: Tensor) -> Tensor:
    """Adds a correction; served, where it is zero, the base stays bit for bit, signed zeros too."""
    if torch.is_grad_enabled():  # a choice would pass no gradient on to a correction of zero
        return base + shift
    return torch.where(shift == 0, base, base + shift)
