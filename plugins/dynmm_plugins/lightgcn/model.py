"""LightGCN as a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from dynmm_framework.training.folding import VectorBackbone, distinct_items
from dynmm_framework.training.graphs import BipartiteGraph
from dynmm_framework.training.loop import train
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.triples import TripleSampler, TripleTask, triple_sampler
from dynmm_plugins.lightgcn.config import LightGCNConfig
from dynmm_plugins.lightgcn.network import LightGCNNetwork

if TYPE_CHECKING:
    from torch import Tensor

    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context


class LightGCN(VectorBackbone):
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
        super().__init__()
        self.config = config

    def fit(self, data: TrainingData, ctx: Context) -> None:
        histories = distinct_items(data.histories)
        with seeded(ctx, "initialisation"):
            network = LightGCNNetwork(BipartiteGraph.of(histories), self.config)
        sampler = triple_sampler(histories, device=ctx.device)
        train(LightGCNTask(network, histories, self.config, sampler), self.config, ctx)
        self.vectors = network.vectors(histories)


class LightGCNTask(TripleTask[LightGCNNetwork]):
    """BPR on final embeddings, regularised on the layer-0 embeddings of the batch."""

    def __init__(
        self,
        network: LightGCNNetwork,
        histories: Histories,
        config: LightGCNConfig,
        sampler: TripleSampler,
    ) -> None:
        super().__init__(network, histories, sampler=sampler, batch_size=config.batch_size)
        self.regularisation = config.regularisation

    def loss(self, batch: Tensor) -> Tensor:
        users, items = batch[0], batch[1:].reshape(-1)
        final, first = self.module(torch.cat([users, items + self.module.graph.n_users]))
        user, positive, negative = final.view(3, len(users), -1)  # each (batch, d)
        ranking = F.softplus((user * (negative - positive)).sum(-1)).mean()
        decay: Tensor = first.square().sum() / (2 * len(users))
        return ranking + self.regularisation * decay
