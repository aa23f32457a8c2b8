"""SGL's embeddings, their propagation on the graph and its views, and the contrastive loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynmm_framework.training.graphs import BipartiteGraph, Edges
from dynmm_framework.training.losses import cross_entropy
from dynmm_framework.training.propagation import layer_mean, propagated_vectors

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories
    from dynmm_framework.training.folding import TrainedVectors
    from dynmm_plugins.sgl.config import SGLConfig


class SGLNetwork(nn.Module):
    """Layer-0 embeddings of users, then items, ``(n_users + n_items, d)``."""

    def __init__(self, histories: Histories, config: SGLConfig) -> None:
        super().__init__()
        self.n_users, self.n_items = len(histories), histories.n_items
        self.edges = Edges(histories)
        self.graph = self.edges.graph()
        self.layers = config.layers
        self.embeddings = nn.Parameter(torch.empty(self.graph.n_nodes, config.dim))
        with torch.no_grad():
            for part in torch.split(self.embeddings, [self.n_users, self.n_items]):
                nn.init.xavier_uniform_(part)

    def forward(self, graph: BipartiteGraph) -> Tensor:
        """Returns final embeddings of all nodes on a graph, ``(n_users + n_items, d)``."""
        return layer_mean(self.embeddings, graph, layers=self.layers)

    def vectors(self, histories: Histories) -> TrainedVectors:
        """Returns final vectors of users, new ones included, and of items.

        Args:
            histories: The graph's edges, as given to it.
        """
        return propagated_vectors(
            self.embeddings, self.graph, layers=self.layers, histories=histories
        )


def contrast(rows: Tensor, others: Tensor, own: Tensor, temperature: float) -> Tensor:
    """Returns -Σ_i log( exp(s_i,own(i) / τ) / Σ_j exp(s_ij / τ) ) with cosines s.

    Args:
        rows: Vectors of some nodes in one view, ``(n, d)``.
        others: Vectors of all nodes of their kind in the other view, ``(nodes, d)``.
        own: Which of ``others`` is the same node, ``(n,)``.
        temperature: τ.
    """
    scaled = F.normalize(rows, dim=1) / temperature
    return len(rows) * cross_entropy(scaled, F.normalize(others, dim=1), own)
