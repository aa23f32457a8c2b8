"""BPR-MF"""
from __future__ import annotations
from typing import TYPE_CHECKING
import numpy as np
import torch
import torch.nn.functional as F
from dynmm_framework.training.sampling import NegativeSampler
from dynmm_plugins.bpr_mf.network import Factors

class BPRTask:
    """Pairs of a chosen item and one that the user has not; each interaction once an epoch."""

    def __init__(self, factors, train, config) -> None:
        self.module = factors
        self.config = config
        self._users, self._items = train.users.astype(np.int64), train.items.astype(np.int64)
        self._negatives = NegativeSampler(train.histories())
        self.n_targets = len(train)
        self.n_batches = -(-self.n_targets // config.batch_size)

    def batches(self, rng):
        """Yields triples (user, positive, negative), ``(3, batch)``."""
        order = rng.permutation(self.n_targets)
        users, positives = self._users[order], self._items[order]
        negatives = self._negatives.draw(users, rng=rng)
        triples = torch.from_numpy(np.stack([users, positives, negatives.astype(np.int64)]))
        yield from triples.to(self.module.users.device).split(self.config.batch_size, dim=1)

    def loss(self, batch):
        users, positives, negatives = batch
        user = F.embedding(users, self.module.users)  # each (batch, d)
        positive = F.embedding(positives, self.module.items)
        negative = F.embedding(negatives, self.module.items)
        bias = self.module.bias[positives], self.module.bias[negatives]
        margin = (user * (positive - negative)).sum(-1) + bias[0] - bias[1]
        norm = sum(part.square().sum() for part in (user, positive, negative, *bias))
        loss = F.softplus(-margin).sum() + self.config.regularisation / 2 * norm
        return loss if self.config.optimizer == "sgd" else loss / batch.shape[1]

    def score(self, histories):
        m=self.module
        return m.users[torch.from_numpy(histories.users.astype(np.int64))]@m.items.T+m.bias
