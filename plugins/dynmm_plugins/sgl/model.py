"""SGL as a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from dynmm_framework.training.folding import VectorBackbone, distinct_items
from dynmm_framework.training.loop import train
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.triples import TripleSampler, TripleTask, triple_sampler
from dynmm_plugins.sgl.config import SGLConfig
from dynmm_plugins.sgl.network import SGLNetwork, contrast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context
    from dynmm_framework.training.graphs import BipartiteGraph


class SGL(VectorBackbone):
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
        super().__init__()
        self.config = config

    def fit(self, data: TrainingData, ctx: Context) -> None:
        histories = distinct_items(data.histories)
        with seeded(ctx, "initialisation"):
            network = SGLNetwork(histories, self.config)
        sampler = triple_sampler(histories, device=ctx.device)
        train(SGLTask(network, histories, self.config, sampler), self.config, ctx)
        self.vectors = network.vectors(histories)


class SGLTask(TripleTask[SGLNetwork]):
    """BPR on final embeddings, InfoNCE between two views, L2 on layer 0 of the batch.

    Attributes:
        views: The two views of the present epoch; ``None`` before the first.
    """

    reduction = "sum"

    def __init__(
        self,
        network: SGLNetwork,
        histories: Histories,
        config: SGLConfig,
        sampler: TripleSampler,
    ) -> None:
        super().__init__(network, histories, sampler=sampler, batch_size=config.batch_size)
        self.config = config
        self.views: tuple[BipartiteGraph, BipartiteGraph] | None = None

    def batches(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yields triples ``(3, batch)``, after the epoch's views have been drawn."""
        if not self.n_targets:
            return
        device, drop = self.module.embeddings.device, self.config.edge_drop
        one, other = (self.module.edges.without(drop, rng=rng).to(device) for _ in range(2))
        self.views = one, other
        yield from super().batches(rng)

    def loss(self, batch: Tensor) -> Tensor:
        config, n_users = self.config, self.module.n_users
        users, positives, negatives = batch
        nodes = torch.cat([users, positives + n_users, negatives + n_users])
        final = self.module(self.module.graph)[nodes]
        user, positive, negative = final.view(3, len(users), -1)  # each (batch, d)
        loss = F.softplus((user * (negative - positive)).sum(-1)).sum()
        loss = loss + config.regularisation / 2 * self.module.embeddings[nodes].square().sum()
        if config.ssl_weight:
            assert self.views is not None  # batches draws them
            sides = [self.module.n_users, self.module.n_items]
            one, other = (self.module(view).split(sides) for view in self.views)
            for side, own in enumerate((users, positives)):
                between = contrast(one[side][own], other[side], own, config.temperature)
                loss = loss + config.ssl_weight * between
        return loss
