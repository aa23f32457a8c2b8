"""BPR-MF as a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from dynmm_framework.training.folding import VectorBackbone, distinct_items
from dynmm_framework.training.loop import default_optimizer, train
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.triples import TripleSampler, TripleTask, triple_sampler
from dynmm_plugins.bpr_mf.config import BPRMFConfig
from dynmm_plugins.bpr_mf.network import Factors

if TYPE_CHECKING:
    from torch import Tensor

    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context


class BPRMF(VectorBackbone):
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
        super().__init__()
        self.config = config

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
        sampler = triple_sampler(histories, by="interactions", device=ctx.device)
        task = BPRTask(factors, histories, self.config, sampler)
        train(task, self.config, ctx, optimizer=optimizer)
        self.vectors = factors.vectors(histories)


class BPRTask(TripleTask[Factors]):
    """Pairs of an item that a user has and one that it has not; each of the former once."""

    def __init__(
        self, factors: Factors, histories: Histories, config: BPRMFConfig, sampler: TripleSampler
    ) -> None:
        super().__init__(factors, histories, sampler=sampler, batch_size=config.batch_size)
        self.config = config
        self.reduction = "sum" if config.optimizer == "sgd" else "mean"

    def loss(self, batch: Tensor) -> Tensor:
        rows = F.embedding(batch + self.module.starts, self.module.factors)
        user, positive, negative = rows  # each (batch, d)
        margin = (user * (positive - negative)).sum(-1)
        norm = rows.square().sum()
        if self.config.item_bias:
            bias = self.module.bias[batch[1:]]  # (2, batch)
            margin = margin + bias[0] - bias[1]
            norm = norm + bias.square().sum()
        loss = F.softplus(-margin).sum() + self.config.regularisation / 2 * norm
        return loss if self.reduction == "sum" else loss / batch.shape[1]
