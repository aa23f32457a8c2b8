"""SGL as a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from dynmm_framework.training.folding import UserVectors, distinct_items
from dynmm_framework.training.loop import train
from dynmm_framework.training.sampling import NegativeSampler
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.state import to_array
from dynmm_plugins.sgl.config import SGLConfig
from dynmm_plugins.sgl.network import Graph, SGLNetwork, contrast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context, State


class SGL:
    """LightGCN with a contrastive loss between two random views of the graph.

    Wu et al., "Self-supervised graph learning for recommendation", SIGIR 2021, with edge dropout
    (SGL-ED). In every epoch two views of the graph are drawn, each without a share of the edges
    and normalised by its own degrees. A step adds to LightGCN's ranking loss, for the users of
    the batch and for its positive items, InfoNCE: the cosine between a node's vectors in both
    views against those with *all* users (items) of the other view, divided by τ. All three
    terms are sums over the batch: Σ BPR + w · Σ InfoNCE + λ/2 · Σ ‖layer-0 embeddings‖².

    Differences from the paper: edge dropout only, neither node dropout nor random walks; early
    stopping on the run's validation metric; repeated interactions are one edge; users who are not
    in the graph are folded in. The last works by the propagation rule itself,
    e_u = Σ_i e_i / √(|N_u| |N_i|) summed over the layers, followed by a linear map fitted on the
    training users that supplies the layer 0 a new node lacks. An empty history, or one of items
    without training interactions, gets the mean user vector. A training user keeps its trained
    vector, whatever its history has become since.

    An item without training interactions is seen as a negative only and ranks low. Nodes without
    interactions count in InfoNCE's denominator, with their layer 0.

    A step takes 6 K sparse products, O(K · interactions · d), and O(batch · (users + items) · d)
    for InfoNCE, whose logits are never held at once: memory is O((users + items) · d), whatever
    the batch. That is 3 times LightGCN's propagation, plus InfoNCE.
    """

    def __init__(self, config: SGLConfig) -> None:
        self.config = config
        self._users: UserVectors | None = None
        self._items: Tensor | None = None  # (n_items, dim)

    def fit(self, data: TrainingData, ctx: Context) -> None:
        histories = distinct_items(data.histories)
        with seeded(ctx, "initialisation"):
            network = SGLNetwork(histories, self.config)
        train(SGLTask(network, histories, self.config), self.config, ctx)
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
            raise RuntimeError("sgl is not fitted: call fit or load_state first")
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


class SGLBatch(NamedTuple):
    """Triples of users, positives and negatives ``(3, batch)``, and the epoch's two views."""

    triples: Tensor
    views: tuple[Graph, Graph]


class SGLTask:
    """BPR on final embeddings, InfoNCE between two views, L2 on layer 0 of the batch."""

    def __init__(self, network: SGLNetwork, histories: Histories, config: SGLConfig) -> None:
        self.module = network
        self.config = config
        self.histories = histories
        self.sampler = TripleSampler(histories)
        self.n_targets = self.sampler.n_draws
        self.n_batches = -(-self.n_targets // config.batch_size)
        self._vectors: tuple[UserVectors, Tensor] | None = None

    def batches(self, rng: np.random.Generator) -> Iterator[SGLBatch]:
        """Yields the batches of one epoch, all with the same two views."""
        if not self.n_targets:
            return
        device = self.module.embeddings.device
        drop, views = self.config.edge_drop, self.module.views
        pair = (views.draw(drop, rng).to(device), views.draw(drop, rng).to(device))
        triples = torch.from_numpy(self.sampler.draw(rng)).to(device)
        for part in triples.split(self.config.batch_size, dim=1):
            yield SGLBatch(part, pair)

    def loss(self, batch: SGLBatch) -> Tensor:
        self._vectors = None
        config, n_users = self.config, self.module.n_users
        users, positives, negatives = batch.triples
        nodes = torch.cat([users, positives + n_users, negatives + n_users])
        final = self.module(self.module.graph)[nodes]
        user, positive, negative = final.view(3, len(users), -1)  # each (batch, d)
        loss = F.softplus((user * (negative - positive)).sum(-1)).sum()
        loss = loss + config.regularisation / 2 * self.module.embeddings[nodes].square().sum()
        if config.ssl_weight:
            sides = [self.module.n_users, self.module.n_items]
            one, other = (self.module(view).split(sides) for view in batch.views)
            for side, own in enumerate((users, positives)):
                between = contrast(one[side][own], other[side], own, config.temperature)
                loss = loss + config.ssl_weight * between
        return loss

    def score(self, histories: Histories) -> Tensor:
        # All chunks of one validation share one propagation.
        if self._vectors is None:
            self._vectors = self.module.vectors(self.histories)
        users, items = self._vectors
        return users.of(histories) @ items.T
