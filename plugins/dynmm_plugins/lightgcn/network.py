"""LightGCN's embeddings and their propagation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dynmm_framework.training.propagation import layer_mean_of, propagated_vectors

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories
    from dynmm_framework.training.folding import TrainedVectors
    from dynmm_framework.training.graphs import BipartiteGraph
    from dynmm_plugins.lightgcn.config import LightGCNConfig


class LightGCNNetwork(nn.Module):
    """Layer-0 embeddings of users, then items, ``(n_users + n_items, d)``."""

    def __init__(self, graph: BipartiteGraph, config: LightGCNConfig) -> None:
        super().__init__()
        self.graph = graph
        self.layers = config.layers
        self.embeddings = nn.Parameter(torch.empty(graph.n_nodes, config.dim))
        nn.init.normal_(self.embeddings, std=config.init_std)

    def forward(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Returns final and layer-0 embeddings of ``nodes`` ``(n,)``, each ``(n, d)``."""
        return layer_mean_of(nodes, self.embeddings, graph=self.graph, layers=self.layers)

    def vectors(self, histories: Histories) -> TrainedVectors:
        """Returns final vectors of users, new ones included, and of items.

        Args:
            histories: The graph's edges, as given to it.
        """
        return propagated_vectors(
            self.embeddings, self.graph, layers=self.layers, histories=histories
        )
