"""MMGCN as a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from dynmm_framework.latents.modalities import require_features
from dynmm_framework.training.folding import VectorRecommender, distinct_items
from dynmm_framework.training.loop import train
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.triples import TripleSampler, TripleTask, triple_sampler
from dynmm_plugins.mmgcn.config import MMGCNConfig
from dynmm_plugins.mmgcn.network import MMGCNNetwork

if TYPE_CHECKING:
    from torch import Tensor

    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context


class MMGCN(VectorRecommender):
    """A graph convolution for each modality, and the mean over the modalities.

    Wei et al., "MMGCN: Multi-modal graph convolution network for personalized recommendation of
    micro-video", MM 2019. In each modality a node begins with a vector of width F', normalised: a
    user with a learned preference, an item with its projected features. A layer takes the mean of
    the neighbours, h = φ(mean_j W₁ x_j), and adds the node's own part and its id vector, which
    all modalities share: x ← φ(W₃ h + φ(W₂ x) + id), φ a leaky ReLU. The final vector is the mean
    over the modalities of the last layer, the score an inner product; trained by BPR.

    Differences from the paper: early stopping on the run's validation metric; repeated
    interactions are one edge; features are standardised over the items that have them; the graph
    of a modality holds only the items that have it, an item's vector is the mean over those that
    it has, and one without any has its id vector; users drawn uniformly, then an item; users who
    are not in the graph are folded in from their items' final vectors, see
    :class:`~dynmm_framework.training.folding.UserVectors`. An empty history gets the mean user
    vector. A training user keeps its trained vector, whatever its history has become since.

    An item without training interactions gathers nothing: its features and its id vector, seen as
    a negative only, remain.

    All nodes are computed in every step: for each of M modalities and L layers a sparse product,
    O(interactions · d), and three dense ones, O((users + items) · d²). Memory is O(M · L · (users
    + items) · d) for the backward pass, besides the features.
    """

    def __init__(self, config: MMGCNConfig) -> None:
        super().__init__()
        self.config = config

    def fit(self, data: TrainingData, ctx: Context) -> None:
        features = require_features(data.features, owner="mmgcn", n_items=data.n_items)
        histories = distinct_items(data.histories)
        with seeded(ctx, "initialisation"):
            network = MMGCNNetwork(histories, features, self.config)
        sampler = triple_sampler(histories, device=ctx.device)
        train(MMGCNTask(network, histories, self.config, sampler), self.config, ctx)
        self.vectors = network.vectors(histories)


class MMGCNTask(TripleTask[MMGCNNetwork]):
    """BPR on final vectors; mean squares of the batch's id vectors and of all preferences."""

    def __init__(
        self,
        network: MMGCNNetwork,
        histories: Histories,
        config: MMGCNConfig,
        sampler: TripleSampler,
    ) -> None:
        super().__init__(network, histories, sampler=sampler, batch_size=config.batch_size)
        self.regularisation = config.regularisation

    def loss(self, batch: Tensor) -> Tensor:
        users, items = batch[0], batch[1:].reshape(-1) + self.module.n_users
        nodes = torch.cat([users, items])
        final = self.module()[nodes].float()
        user, positive, negative = final.view(3, len(users), -1)  # each (batch, d)
        ranking = F.softplus((user * (negative - positive)).sum(-1)).mean()
        decay = self.module.ids[nodes].square().mean() + self.module.preferences()
        return ranking + self.regularisation * decay
