"""The factors of BPR-MF."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dynmm_framework.training.folding import TrainedVectors, UserVectors

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories
    from dynmm_plugins.bpr_mf.config import BPRMFConfig


class Factors(nn.Module):
    """Vectors of users, then items, and biases of items, which stay zero if switched off.

    One table holds all vectors, so that a batch of triples is one look-up and one gradient.
    """

    starts: Tensor

    def __init__(self, n_users: int, n_items: int, config: BPRMFConfig) -> None:
        super().__init__()
        self.n_users = n_users
        self.factors = nn.Parameter(torch.empty(n_users + n_items, config.dim))
        self.bias = nn.Parameter(torch.zeros(n_items), requires_grad=config.item_bias)
        nn.init.normal_(self.factors, std=config.init_std)
        # Where the vectors of users, positives and negatives begin; a buffer is on the device.
        starts = torch.tensor([[0], [n_users], [n_users]])
        self.register_buffer("starts", starts, persistent=False)

    @torch.no_grad()
    def vectors(self, histories: Histories) -> TrainedVectors:
        """Returns vectors of users, new ones included, and of items with their bias.

        Args:
            histories: Training histories, one for each user.
        """
        users, items = torch.split(self.factors, [self.n_users, len(self.bias)])
        fitted = UserVectors.fit(users.clone(), items, histories=histories)
        return TrainedVectors(fitted, torch.cat([items, self.bias[:, None]], dim=1))
