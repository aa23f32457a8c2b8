"""The factors of BPR-MF."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dynmm_framework.training.folding import UserVectors

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories
    from dynmm_plugins.bpr_mf.config import BPRMFConfig


class Factors(nn.Module):
    """Vectors of users, then items, and biases of items, which stay zero if switched off.

    One table holds all vectors, so that a batch of triples is one look-up and one gradient.
    """

    def __init__(self, n_users: int, n_items: int, config: BPRMFConfig) -> None:
        super().__init__()
        self.n_users = n_users
        self.vectors = nn.Parameter(torch.empty(n_users + n_items, config.dim))
        self.bias = nn.Parameter(torch.zeros(n_items), requires_grad=config.item_bias)
        nn.init.normal_(self.vectors, std=config.init_std)

    @torch.no_grad()
    def split(self, histories: Histories) -> tuple[UserVectors, Tensor]:
        """Returns vectors of users, and of items with their bias as last number.

        Args:
            histories: Training histories, one for each user.

        Returns:
            Users ``(·, d)``, and items ``(n_items, d + 1)``.
        """
        users, items = self.vectors[: self.n_users].clone(), self.vectors[self.n_users :]
        fitted = UserVectors.fit(users, items, histories=histories)
        return fitted, torch.cat([items, self.bias[:, None]], dim=1)


def with_one(users: Tensor) -> Tensor:
    """Returns user vectors with a 1 appended, which meets the items' bias."""
    return torch.nn.functional.pad(users, (0, 1), value=1.0)
