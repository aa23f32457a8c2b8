"""The factors of BPR-MF, and the vectors that come out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from dynmm_plugins.bpr_mf.config import BPRMFConfig


class Factors(nn.Module):
    """Vectors of users and items, and biases of items, which stay zero if switched off."""

    def __init__(self, n_users: int, n_items: int, config: BPRMFConfig) -> None:
        super().__init__()
        self.users = nn.Parameter(torch.empty(n_users, config.dim))
        self.items = nn.Parameter(torch.empty(n_items, config.dim))
        self.bias = nn.Parameter(torch.zeros(n_items), requires_grad=config.item_bias)
        for vectors in (self.users, self.items):
            nn.init.normal_(vectors, std=config.init_std)
