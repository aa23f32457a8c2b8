"""BPR-MF as a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from dynmm_framework.errors import StageError
from dynmm_framework.training.folding import UserVectors, distinct_items
from dynmm_framework.training.loop import default_optimizer, train
from dynmm_framework.training.sampling import NegativeSampler
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.state import to_array
from dynmm_plugins.bpr_mf.config import BPRMFConfig
from dynmm_plugins.bpr_mf.network import Factors, with_one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context, State


class BPRMF:
    """Matrix factorisation trained so that chosen items score above all others.

    Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009. The
    score is p_u · q_i + b_i; the loss -log σ(score of a chosen item - score of one that the user
    has not), plus L2 on everything a triple touches.

    Differences from the paper: batches with Adam by default (``optimizer: sgd`` with a small
    batch is the paper's algorithm); each interaction is visited once an epoch in random order,
    while the paper draws with replacement; optional item bias; users not trained on are folded
    in from their items' vectors, see :class:`~dynmm_framework.training.folding.UserVectors`. An
    empty history gets the mean user vector, which ranks by popularity for the most part. A
    training user keeps its trained vector, whatever its history has become since.

    Vectors have ``dim + 1`` numbers: the last of a user is 1, of an item its bias. An item
    without training interactions is seen as a negative only and ranks low. An epoch takes
    O(interactions · d) time, and a step O((users + items) · d) for the optimiser.
    """

    def __init__(self, config: BPRMFConfig) -> None:
        self.config = config
        self._users: UserVectors | None = None
        self._items: Tensor | None = None  # (n_items, dim + 1)

    def fit(self, data: TrainingData, ctx: Context) -> None:
        histories = distinct_items(data.histories)
        with seeded(ctx, "initialisation"):
            factors = Factors(data.n_users, data.n_items, self.config)
        factors.to(ctx.device)
        optimizer: torch.optim.Optimizer
        if self.config.optimizer == "sgd":
            learned = [parameter for parameter in factors.parameters() if parameter.requires_grad]
            optimizer = torch.optim.SGD(
                learned, lr=self.config.learning_rate, weight_decay=self.config.weight_decay
            )
        else:
            optimizer = default_optimizer(factors, self.config)
        task = BPRTask(factors, histories, self.config)
        train(task, self.config, ctx, optimizer=optimizer)
        self._users, self._items = factors.split(histories)

    def item_vectors(self) -> Tensor:
        return self._fitted()[1]

    def user_vectors(self, histories: Histories) -> Tensor:
        return with_one(self._fitted()[0].of(histories))

    def get_state(self) -> State:
        if self._users is None or self._items is None:
            return {}
        return {"items": to_array(self._items), **self._users.state()}

    def load_state(self, state: State) -> None:
        self._users = UserVectors.restore(state) if state else None
        self._items = torch.from_numpy(np.array(state["items"])) if state else None

    def _fitted(self) -> tuple[UserVectors, Tensor]:
        if self._users is None or self._items is None:
            raise StageError("BPR-MF is not fitted", hint="Call fit or load_state first.")
        return self._users, self._items


class BPRTask:
    """Pairs of an item that a user has and one that it has not; each of the former once."""

    def __init__(self, factors: Factors, histories: Histories, config: BPRMFConfig) -> None:
        self.module = factors
        self.config = config
        self.histories = histories
        self._negatives = NegativeSampler(histories)
        # A user with every item has no negative and teaches nothing.
        self._rows = np.flatnonzero(self._negatives.n_free[histories.rows] > 0)
        self.n_targets = len(self._rows)
        self.n_batches = -(-self.n_targets // config.batch_size)
        self._vectors: tuple[UserVectors, Tensor] | None = None

    def batches(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yields triples (user, positive, negative), ``(3, batch)``."""
        rows = rng.permutation(self._rows)
        users, positives = self.histories.rows[rows], self.histories.items[rows]
        negatives = self._negatives.draw(users, rng=rng)
        triples = torch.from_numpy(np.stack([users, positives, negatives]).astype(np.int64))
        yield from triples.to(self.module.vectors.device).split(self.config.batch_size, dim=1)

    def loss(self, batch: Tensor) -> Tensor:
        self._vectors = None
        shift = batch.new_tensor([[0], [self.module.n_users], [self.module.n_users]])
        rows = F.embedding(batch + shift, self.module.vectors)
        user, positive, negative = rows  # each (batch, d)
        margin = (user * (positive - negative)).sum(-1)
        norm = rows.square().sum()
        if self.config.item_bias:
            bias = self.module.bias[batch[1:]]  # (2, batch)
            margin = margin + bias[0] - bias[1]
            norm = norm + bias.square().sum()
        loss = F.softplus(-margin).sum() + self.config.regularisation / 2 * norm
        return loss if self.config.optimizer == "sgd" else loss / batch.shape[1]

    def score(self, histories: Histories) -> Tensor:
        # All chunks of one validation share one split.
        if self._vectors is None:
            self._vectors = self.module.split(self.histories)
        users, items = self._vectors
        return with_one(users.of(histories)) @ items.T
