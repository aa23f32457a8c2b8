"""Triples of a user, an item that it has and one that it has not, for pairwise ranking.

Drawn on the CPU by NumPy, or, for models on a GPU, on the device itself by torch: the same
distribution from other numbers, without a copy from the host.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dynmm_framework.data.tables import Histories
from dynmm_framework.training.folding import TrainedVectors
from dynmm_framework.training.sampling import DeviceNegativeSampler, NegativeSampler

By = Literal["users", "interactions"]
"""How an epoch's positives are chosen, see :class:`TripleSampler`."""

_MANY = 2**62
"""Random numbers below this are folded into a range; no range is so wide that the bias shows."""


class TripleSampler:
    """Draws one epoch of triples with NumPy.

    By ``users``: a user uniformly, then one of its items, as many times as there are
    interactions. Users without items, or with all of them, are never drawn. By ``interactions``:
    every interaction once, in random order, but those of users who have all items. The negative
    is uniform among the items that the user has not.

    Args:
        histories: Distinct items of every user.
        by: How positives are chosen.

    Attributes:
        n_draws: Triples of one epoch.
    """

    def __init__(self, histories: Histories, *, by: By = "users") -> None:
        self.by = by
        self._negatives = NegativeSampler(histories)
        self._histories = histories
        has_negative = self._negatives.n_free > 0
        self._users = np.flatnonzero((histories.lengths > 0) & has_negative)
        self._rows = np.flatnonzero(has_negative[histories.rows])
        if by == "interactions":
            self.n_draws = len(self._rows)
        else:
            self.n_draws = len(histories.items) if len(self._users) else 0

    def draw(self, rng: np.random.Generator) -> Tensor:
        """Returns users, positives and negatives, ``(3, n_draws)`` int64."""
        if not self.n_draws:
            return torch.empty((3, 0), dtype=torch.int64)
        if self.by == "interactions":
            places = rng.permutation(self._rows)
            users = self._histories.rows[places]
        else:
            users = self._users[rng.integers(0, len(self._users), self.n_draws)]
            offsets = self._histories.offsets
            places = rng.integers(offsets[users], offsets[users + 1])
        positives = self._histories.items[places]
        negatives = self._negatives.draw(users, rng=rng)
        return torch.from_numpy(np.stack([users, positives, negatives]).astype(np.int64))


class DeviceTripleSampler(TripleSampler):
    """Draws the same distribution with torch, on a device.

    Histories are copied there once; an epoch is then drawn without the host, but for its seed.
    Memory O(interactions), as on the host.

    Args:
        histories: Distinct items of every user.
        by: How positives are chosen.
        device: Where; the CPU works too.
    """

    def __init__(
        self, histories: Histories, *, by: By = "users", device: torch.device | str
    ) -> None:
        super().__init__(histories, by=by)
        self.device = torch.device(device)

        def there(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array.astype(np.int64, copy=False)).to(self.device)

        self._device_negatives = DeviceNegativeSampler(self._negatives, self.device)
        self._first, self._lengths = there(histories.offsets[:-1]), there(histories.lengths)
        self._items, self._row_users = there(histories.items), there(histories.rows)
        self._drawn_users, self._drawn_rows = there(self._users), there(self._rows)

    def draw(self, rng: np.random.Generator) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**63)))
        if not self.n_draws:
            return torch.empty((3, 0), dtype=torch.int64, device=self.device)

        def below(limits: Tensor | int) -> Tensor:
            """Whole numbers from 0 to below the limits, ``(n_draws,)``."""
            size = (self.n_draws,)
            many = torch.randint(_MANY, size, generator=generator, device=self.device)
            return many % limits

        if self.by == "interactions":
            order = torch.randperm(self.n_draws, generator=generator, device=self.device)
            places = self._drawn_rows[order]
            users = self._row_users[places]
        else:
            users = self._drawn_users[below(len(self._drawn_users))]
            places = self._first[users] + below(self._lengths[users])
        negatives = self._device_negatives.draw(users, generator=generator)
        return torch.stack([users, self._items[places], negatives])


def triple_sampler(histories: Histories, *, by: By = "users", device: str = "cpu") -> TripleSampler:
    """Returns a sampler that draws where the training is.

    Args:
        histories: Distinct items of every user, sorted, as
            :func:`~dynmm_framework.training.folding.distinct_items` returns them.
        by: How positives are chosen.
        device: The context's device.
    """
    if device == "cpu":
        return TripleSampler(histories, by=by)
    return DeviceTripleSampler(histories, by=by, device=device)


class _LeavesVectors(Protocol):
    def vectors(self, histories: Histories) -> TrainedVectors:
        """Returns vectors of users and items, as they are now."""
        ...


M = TypeVar("M", bound=nn.Module)


class TripleTask(ABC, Generic[M]):
    """Pairwise ranking for the training loop: all of it but the loss.

    The module must have a method ``vectors(histories)`` that returns
    :class:`~dynmm_framework.training.folding.TrainedVectors`; they give the scores for validation.

    Args:
        module: What is learned.
        histories: Distinct items of every user, sorted; one history for each user.
        sampler: Draws the triples, on the device on which the module will be.
        batch_size: Triples of one batch.

    Attributes:
        reduction: Whether the loss is a ``mean`` or a ``sum`` over the triples of a batch, for
            several workers that train together.
    """

    reduction: Literal["mean", "sum"] = "mean"

    def __init__(
        self, module: M, histories: Histories, *, sampler: TripleSampler, batch_size: int
    ) -> None:
        self.module = module
        self.histories = histories
        self.sampler = sampler
        self.batch_size = batch_size
        self.n_targets = sampler.n_draws
        self.n_batches = -(-self.n_targets // batch_size)
        self._vectors: TrainedVectors | None = None

    def batches(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yields users, positives and negatives, ``(3, batch)``."""
        self._vectors = None
        if self.n_targets:
            yield from torch.split(self.sampler.draw(rng), self.batch_size, dim=1)

    @abstractmethod
    def loss(self, batch: Tensor) -> Tensor:
        """Returns the scalar loss of a batch of triples."""

    def n_terms(self, batch: Tensor) -> int:
        """Number of triples; see :class:`~dynmm_framework.training.loop.Task`."""
        return batch.shape[1]

    def score(self, histories: Histories) -> Tensor:
        # All chunks of one validation share the vectors.
        if self._vectors is None:
            module: _LeavesVectors = self.module  # type: ignore[assignment]
            self._vectors = module.vectors(self.histories)
        return self._vectors.score(histories)
