"""Uniform negative items outside a user's history, without rejection and without loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.protocols import IntArray

_MANY = 2**62
"""Random numbers below this are folded into a range; no range is so wide that the bias shows."""


class NegativeSampler:
    """Draws items uniformly from those that a user has not.

    A user's n - m free items are numbered 0 … n - m - 1 in order of their ids. A number r is
    drawn and mapped to its item: with the user's distinct items h_0 < h_1 < …, exactly
    h_j - j free items lie below h_j, so the item is r plus the count of j with h_j - j <= r,
    found by binary search. Time O(log interactions) a draw, memory O(interactions), and no
    draw is ever rejected, however long the history.

    Args:
        histories: All items of each user; order and repetitions do not matter. Users are rows.

    Attributes:
        n_items: Number of items of the catalogue.
        n_free: Number of items that each user has not, ``(n,)``.
        first: Where each user's keys begin, ``(n + 1,)``.
        keys: The numbers h_j - j of all users, each user's in a range of their own, ascending.
    """

    def __init__(self, histories: Histories) -> None:
        self.n_items = histories.n_items
        keys = np.unique(histories.rows * self.n_items + histories.items)
        rows, items = np.divmod(keys, max(self.n_items, 1))
        counts = np.bincount(rows, minlength=len(histories))
        self.first = np.concatenate([[0], np.cumsum(counts)])
        self.n_free = self.n_items - counts
        below = items - (np.arange(len(keys)) - self.first[rows])
        # One array for all users: a user's keys lie in a range of their own, n_items + 1 wide,
        # because h_j - j can be at most n_items.
        self.keys = rows * (self.n_items + 1) + below

    def draw(self, users: NDArray[Any], *, rng: np.random.Generator) -> IntArray:
        """Draws one negative for each entry of ``users``.

        A user who has every item gets a uniform item, as there is no negative to draw.

        Args:
            users: Rows of the histories, of any shape; repeat a user for more draws.
            rng: Source of randomness.

        Returns:
            Item ids, int32, of the shape of ``users``.
        """
        users = np.asarray(users, dtype=np.int64)
        free = self.n_free[users]
        full = free == 0
        ranks = rng.integers(0, np.where(full, self.n_items, free))
        shift = (
            np.searchsorted(self.keys, users * (self.n_items + 1) + ranks, side="right")
            - self.first[users]
        )
        return np.where(full, ranks, ranks + shift).astype(np.int32)


class DeviceNegativeSampler:
    """Draws from the same distribution with torch, on a device, without a copy from the host.

    Args:
        sampler: Whose tables are copied to the device, once.
        device: Where; the CPU works too.
    """

    def __init__(self, sampler: NegativeSampler, device: torch.device | str) -> None:
        self.n_items = sampler.n_items
        self._n_free, self._first, self._keys = (
            torch.from_numpy(table.astype(np.int64, copy=False)).to(device)
            for table in (sampler.n_free, sampler.first, sampler.keys)
        )

    def draw(self, users: Tensor, *, generator: torch.Generator) -> Tensor:
        """Draws one negative for each entry of ``users``.

        A user who has every item gets a uniform item, as there is no negative to draw.

        Args:
            users: Rows of the histories, int64, of any shape, on the device.
            generator: Source of randomness, on the device.

        Returns:
            Item ids, int64, of the shape of ``users``.
        """
        free = self._n_free[users]
        full = free == 0
        many = torch.randint(_MANY, users.shape, generator=generator, device=users.device)
        ranks = many % torch.where(full, self.n_items, free)
        places = torch.searchsorted(self._keys, users * (self.n_items + 1) + ranks, right=True)
        return torch.where(full, ranks, ranks + places - self._first[users])
