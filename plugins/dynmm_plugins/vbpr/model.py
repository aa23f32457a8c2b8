"""VBPR as a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

from dynmm_framework.latents.modalities import require_features
from dynmm_framework.training.folding import VectorRecommender, distinct_items
from dynmm_framework.training.loop import train
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.triples import TripleSampler, TripleTask, triple_sampler
from dynmm_plugins.vbpr.config import VBPRConfig
from dynmm_plugins.vbpr.network import VBPRNetwork

if TYPE_CHECKING:
    from torch import Tensor

    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context


class VBPR(VectorRecommender):
    """Matrix factorisation in which content has factors of its own.

    He & McAuley, "VBPR: Visual Bayesian personalized ranking from implicit feedback", AAAI 2016.
    The score is p_u · q_i + b_i + Σ_m (θ_u^m · E_m f_i^m + β_m · f_i^m), with features f^m of
    width F_m, projections E_m (D × F_m) and biases β_m of content; trained by BPR.

    Differences from the paper: any number of modalities, each with a projection, a bias and
    factors θ_u^m of its own, which is one projection of all features side by side with the
    modalities' factors kept apart; features are standardised over the items that have them; an
    item without a modality has no such term, and one without any is as in BPR-MF; projections are
    regularised; batches with Adam, each interaction once an epoch; users not trained on are folded
    in from their items' vectors, see :class:`~dynmm_framework.training.folding.UserVectors`. An
    empty history gets the mean user vector. A training user keeps its trained vector, whatever
    its history has become.

    An item without training interactions is scored by its content and by factors that were seen
    as negatives only.

    Vectors have K + M · D + 1 numbers for M modalities. An epoch takes O(interactions · (K + Σ_m
    F_m · D)) time, a step O((users + items) · K) for the optimiser; features are held once,
    O(items · Σ_m F_m).
    """

    def __init__(self, config: VBPRConfig) -> None:
        super().__init__()
        self.config = config

    def fit(self, data: TrainingData, ctx: Context) -> None:
        features = require_features(data.features, owner="vbpr", n_items=data.n_items)
        histories = distinct_items(data.histories)
        with seeded(ctx, "initialisation"):
            network = VBPRNetwork(data.n_users, features, self.config)
        sampler = triple_sampler(histories, by="interactions", device=ctx.device)
        train(VBPRTask(network, histories, self.config, sampler), self.config, ctx)
        self.vectors = network.vectors(histories)


class VBPRTask(TripleTask[VBPRNetwork]):
    """Pairs of an item that a user has and one that it has not; each of the former once."""

    def __init__(
        self,
        network: VBPRNetwork,
        histories: Histories,
        config: VBPRConfig,
        sampler: TripleSampler,
    ) -> None:
        super().__init__(network, histories, sampler=sampler, batch_size=config.batch_size)
        self.config = config

    def loss(self, batch: Tensor) -> Tensor:
        network, n = self.module, batch.shape[1]
        users = F.embedding(batch[0], network.users)  # (batch, d)
        items = batch[1:].reshape(-1)
        factors, bias = network.of_items(items)
        positive, negative = factors.view(2, n, -1)
        margin = (users * (positive - negative)).sum(-1) + bias[:n] - bias[n:]
        norm = users.square().sum() + network.items[items].square().sum()
        norm = norm + network.bias[items].square().sum()
        loss: Tensor = F.softplus(-margin).mean() + self.config.regularisation / 2 * norm / n
        if self.config.projection_regularisation:
            decay = self.config.projection_regularisation / 2
            loss = loss + decay * network.norm_of_projections()
        return loss
