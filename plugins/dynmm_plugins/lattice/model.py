"""LATTICE as a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

from dynmm_framework.latents.modalities import require_features
from dynmm_framework.training.folding import VectorRecommender, distinct_items
from dynmm_framework.training.graphs import BipartiteGraph
from dynmm_framework.training.loop import train
from dynmm_framework.training.seeding import seeded
from dynmm_framework.training.triples import TripleSampler, TripleTask, triple_sampler
from dynmm_plugins.lattice.config import LATTICEConfig
from dynmm_plugins.lattice.network import LATTICENetwork

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from torch import Tensor

    from dynmm_framework.data.tables import Histories, TrainingData
    from dynmm_framework.protocols import Context


class LATTICE(VectorRecommender):
    """LightGCN whose items also gather from items with similar content.

    Zhang et al., "Mining latent structures for multimedia recommendation", MM 2021. In each
    modality m an item is tied to its k nearest by the cosine of features, negative ones set to
    zero, and normalised by degrees: S_m. The same of projected features gives the learned graph,
    and both are mixed: A = Σ_m w_m (λ S_m) + (1 - λ) norm(Σ_m w_m S'_m), w a softmax over the
    modalities. h = A e over the items' layer-0 embeddings, and an item's final vector is that of
    LightGCN plus h / ‖h‖; trained by BPR. As in the authors' code the graph is mined once an
    epoch, in the first step, which alone learns projections and modality weights.

    Differences from the paper: neighbours are found block by block and all graphs are sparse,
    where the authors hold dense matrices of items × items; L2 on the layer-0 embeddings of the
    batch, as in LightGCN; no decay of the step size; early stopping on the run's validation
    metric; an item without a modality is tied to nothing there, and one without any has
    LightGCN's vector; users who are not in the graph are folded in as LightGCN's, see
    :func:`~dynmm_framework.training.propagation.propagated_vectors`. An empty history gets the
    mean user vector. A training user keeps its trained vector, whatever its history has become.

    An item without training interactions has its neighbours' vectors besides its own, which was
    seen as a negative only.

    A step takes 2 K sparse products on the user-item graph and 2 on the item graph, O(K ·
    interactions · d + M · k · items · d). Mining takes O(items² · F') time once an epoch and at
    every validation, and O(items · (F + M · k · d)) memory, never O(items²).
    """

    def __init__(self, config: LATTICEConfig) -> None:
        super().__init__()
        self.config = config

    def fit(self, data: TrainingData, ctx: Context) -> None:
        features = require_features(data.features, owner="lattice", n_items=data.n_items)
        histories = distinct_items(data.histories)
        with seeded(ctx, "initialisation"):
            graph = BipartiteGraph.of(histories)
            network = LATTICENetwork(graph, features, self.config, device=ctx.device)
        sampler = triple_sampler(histories, device=ctx.device)
        train(LATTICETask(network, histories, self.config, sampler), self.config, ctx)
        self.vectors = network.vectors(histories)


class LATTICETask(TripleTask[LATTICENetwork]):
    """BPR on final embeddings, regularised on the layer-0 embeddings of the batch."""

    def __init__(
        self,
        network: LATTICENetwork,
        histories: Histories,
        config: LATTICEConfig,
        sampler: TripleSampler,
    ) -> None:
        super().__init__(network, histories, sampler=sampler, batch_size=config.batch_size)
        self.regularisation = config.regularisation

    def batches(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yields triples ``(3, batch)``; the first step mines the epoch's graph of items."""
        self.module.forget_items()
        yield from super().batches(rng)

    def loss(self, batch: Tensor) -> Tensor:
        users, items = batch[0], batch[1:].reshape(-1)
        final, first = self.module(users, items)
        user, positive, negative = final.view(3, len(users), -1)  # each (batch, d)
        ranking = F.softplus((user * (negative - positive)).sum(-1)).mean()
        decay: Tensor = first.square().sum() / (2 * len(users))
        return ranking + self.regularisation * decay
