"""LightGCN as a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from dynmm_framework.errors import StageError
from dynmm_framework.training.folding import UserVectors, distinct_items
from dynmm_framework.training.loop import train
from dynmm_framework.training.sampling import NegativeSampler
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.state import to_array
from dynmm_plugins.lightgcn.config import LightGCNConfig
from dynmm_plugins.lightgcn.network import Graph, LightGCNNetwork

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context, State


class LightGCN:
    """Graph convolution without weights and non-linearities: embeddings, averaged over layers.

    He et al., "LightGCN: Simplifying and powering graph convolution network for recommendation",
    SIGIR 2020. Layer k + 1 is the normalised adjacency D^-1/2 A D^-1/2 times layer k, the final
    vector the mean over layers 0 to K, the score an inner product; trained by BPR with L2 on the
    layer-0 embeddings of the batch. An epoch draws as many triples as there are interactions: a
    user uniformly, one of its items, one that it has not.

    Differences from the paper: early stopping on the run's validation metric; repeated
    interactions are one edge; users who are not in the graph are folded in. The last works by
    the propagation rule itself, e_u = Σ_i e_i / √(|N_u| |N_i|) summed over the layers, followed
    by a linear map fitted on the training users that supplies the layer 0 a new node lacks. An
    empty history, or one of items without training interactions, gets the mean user vector. A
    training user keeps its trained vector, whatever its history has become since.

    An item without training interactions is seen as a negative only and ranks low.

    A step takes 2 K sparse products, O(K · interactions · d) time, and O((users + items) · d)
    memory: propagation is linear, so no layer is kept for the backward pass.
    """

    def __init__(self, config: LightGCNConfig) -> None:
        self.config = config
        self._users: UserVectors | None = None
        self._items: Tensor | None = None  # (n_items, dim)

    def fit(self, data: TrainingData, ctx: Context) -> None:
        histories = distinct_items(data.histories)
        with seeded(ctx, "initialisation"):
            network = LightGCNNetwork(Graph(histories), self.config)
        train(LightGCNTask(network, histories, self.config), self.config, ctx)
        self._users, self._items = network.vectors(histories)

    def item_vectors(self) -> Tensor:
        return self._fitted()[1]

    def user_vectors(self, histories: Histories) -> Tensor:
        return self._fitted()[0].of(histories)

    def get_state(self) -> State:
        if self._users is None or self._items is None:
            return {}
        return {"items": to_array(self._items), **self._users.state()}

    def load_state(self, state: State) -> None:
        self._users = UserVectors.restore(state) if state else None
        self._items = torch.from_numpy(np.array(state["items"])) if state else None

    def _fitted(self) -> tuple[UserVectors, Tensor]:
        if self._users is None or self._items is None:
            raise StageError("LightGCN is not fitted", hint="Call fit or load_state first.")
        return self._users, self._items


class TripleSampler:
    """Draws a user uniformly, then one of its items, then one that it has not.

    Users without items, or with all of them, are never drawn.

    Args:
        histories: Distinct items of every user.
    """

    def __init__(self, histories: Histories) -> None:
        self._negatives = NegativeSampler(histories)
        self._offsets, self._items = histories.offsets, histories.items
        self._users = np.flatnonzero((histories.lengths > 0) & (self._negatives.n_free > 0))
        self.n_draws = len(histories.items) if len(self._users) else 0

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Returns one epoch of triples, ``(3, n_draws)``: users, positives, negatives."""
        users = self._users[rng.integers(0, max(len(self._users), 1), self.n_draws)]
        positives = self._items[rng.integers(self._offsets[users], self._offsets[users + 1])]
        negatives = self._negatives.draw(users, rng=rng)
        return np.stack([users, positives, negatives]).astype(np.int64)


class LightGCNTask:
    """BPR on final embeddings, regularised on the layer-0 embeddings of the batch."""

    def __init__(
        self, network: LightGCNNetwork, histories: Histories, config: LightGCNConfig
    ) -> None:
        self.module = network
        self.config = config
        self.histories = histories
        self.sampler = TripleSampler(histories)
        self.n_targets = self.sampler.n_draws
        self.n_batches = -(-self.n_targets // config.batch_size)
        self._vectors: tuple[UserVectors, Tensor] | None = None

    def batches(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yields triples of graph nodes, ``(3, batch)``."""
        if not self.n_targets:
            return
        triples = torch.from_numpy(self.sampler.draw(rng))
        triples[1:] += self.module.graph.n_users
        yield from triples.to(self.module.embeddings.device).split(self.config.batch_size, dim=1)

    def loss(self, batch: Tensor) -> Tensor:
        self._vectors = None
        final, first = self.module(batch.reshape(-1))
        user, positive, negative = final.view(3, batch.shape[1], -1)  # each (batch, d)
        ranking = F.softplus((user * (negative - positive)).sum(-1)).mean()
        decay = first.square().sum() / (2 * batch.shape[1])
        return ranking + self.config.regularisation * decay

    def score(self, histories: Histories) -> Tensor:
        # All chunks of one validation share one propagation.
        if self._vectors is None:
            self._vectors = self.module.vectors(self.histories)
        users, items = self._vectors
        return users.of(histories) @ items.T
