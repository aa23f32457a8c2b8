"""LATTICE's embeddings, and the graph of items that content makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynmm_framework.latents.neighbours import nearest
from dynmm_framework.training.folding import TrainedVectors
from dynmm_framework.training.graphs import Graph
from dynmm_framework.training.propagation import layer_mean_of, propagated_vectors

if TYPE_CHECKING:
    from dynmm_framework.data.features import Features
    from dynmm_framework.data.tables import Histories
    from dynmm_framework.training.graphs import BipartiteGraph
    from dynmm_plugins.lattice.config import LATTICEConfig


class LATTICENetwork(nn.Module):
    """Layer-0 embeddings of users, then items, ``(n_users + n_items, d)``, and the item graph.

    Args:
        graph: The user-item graph.
        features: Features by modality.
        config: Widths, neighbours and layers.
        device: Where to look for neighbours.
    """

    def __init__(
        self,
        graph: BipartiteGraph,
        features: Mapping[str, Features],
        config: LATTICEConfig,
        *,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.graph = graph
        self.config = config
        self.embeddings = nn.Parameter(torch.empty(graph.n_nodes, config.dim))
        with torch.no_grad():
            for part in torch.split(self.embeddings, [graph.n_users, graph.n_items]):
                nn.init.xavier_uniform_(part)
        self.mining = ItemMining(features, config, device=device)
        self._current: list[Graph] = []  # a list, so that it is no part of the module

    def forget_items(self) -> None:
        """Makes the next :meth:`forward` mine the graph of items anew."""
        self._current.clear()

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Returns final and layer-0 embeddings of users, then items, each ``(n, d)``.

        The graph of items is mined in the first call after :meth:`forget_items`; gradients flow
        into what it is mined by in that call only, and later calls take it as it is.
        """
        nodes = torch.cat([users, items + self.graph.n_users])
        final, first = layer_mean_of(
            nodes, self.embeddings, graph=self.graph, layers=self.config.layers
        )
        rows = self.embeddings[self.graph.n_users :]
        if self._current:
            for _ in range(self.config.item_layers):
                rows = self._current[0].multiply(rows)
        else:
            columns, weights = self.mining()
            for _ in range(self.config.item_layers):
                rows = _gather(columns, rows, weights)
            self._current.append(_constant(columns, weights.detach()))
        found = F.normalize(rows[items], dim=1)
        return torch.cat([final[: len(users)], final[len(users) :] + found]), first

    @torch.no_grad()
    def vectors(self, histories: Histories) -> TrainedVectors:
        """Returns final vectors of users, new ones included, and of items.

        Args:
            histories: The user-item graph's edges, as given to it.
        """
        plain = propagated_vectors(
            self.embeddings, self.graph, layers=self.config.layers, histories=histories
        )
        columns, weights = self.mining()
        rows = self.embeddings[self.graph.n_users :]
        for _ in range(self.config.item_layers):
            rows = _gather(columns, rows, weights)
        return TrainedVectors(plain.users, plain.items + F.normalize(rows, dim=1))


class ItemMining(nn.Module):
    """The graph of items: nearest neighbours by features as they are, and as they are projected.

    In each modality an item has ``k`` slots for neighbours by its features, found once, and ``k``
    for those by its projected features. A slot without a neighbour has the weight 0, as all have
    of an item that lacks the modality.
    """

    def __init__(
        self, features: Mapping[str, Features], config: LATTICEConfig, *, device: str = "cpu"
    ) -> None:
        super().__init__()
        self.modalities = tuple(features)
        self.k, self.fixed_share = config.neighbours, config.fixed_share
        self.importance = nn.Parameter(torch.zeros(len(features)))
        self.projections = nn.ModuleDict(
            {name: nn.Linear(found.dim, config.feature_dim) for name, found in features.items()}
        )
        for name, found in features.items():
            rows = np.ascontiguousarray(found.vectors, dtype=np.float32)
            vectors = torch.from_numpy(rows).to(device)
            present = torch.from_numpy(found.present).to(device)
            neighbours, cosines = nearest(vectors, self.k, present=present)
            for kind, tensor in (
                ("vectors", vectors),
                ("present", present),
                ("columns", neighbours.clamp(min=0)),
                ("weights", _normalised(neighbours, cosines)),
            ):
                self.register_buffer(f"{kind}_{name}", tensor, persistent=False)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Returns columns and weights of each item's slots, both ``(n_items, 2 · M · k)``."""
        importance = torch.softmax(self.importance, dim=0)
        fixed, learned = [], []
        columns_fixed, columns_learned = [], []
        for share, name in zip(importance, self.modalities, strict=True):
            columns_fixed.append(self.get_buffer(f"columns_{name}"))
            fixed.append(share * self.get_buffer(f"weights_{name}"))
            neighbours, cosines = self._learned(name)
            columns_learned.append(neighbours)
            learned.append(share * cosines)
        neighbours = torch.cat(columns_learned, dim=1)
        weights = _normalised(neighbours, torch.cat(learned, dim=1))
        columns = torch.cat([*columns_fixed, neighbours.clamp(min=0)], dim=1)
        parts = [self.fixed_share * torch.cat(fixed, dim=1), (1 - self.fixed_share) * weights]
        return columns, torch.cat(parts, dim=1)

    def _learned(self, name: str) -> tuple[Tensor, Tensor]:
        """Returns neighbours by projected features, and their cosines, differentiable."""
        projected = self.projections[name](self.get_buffer(f"vectors_{name}")).float()
        units = F.normalize(projected, dim=1)
        neighbours, _ = nearest(units, self.k, present=self.get_buffer(f"present_{name}"))
        cosines = (units[:, None] * units[neighbours.clamp(min=0)]).sum(-1)  # (n_items, k)
        return neighbours, torch.where(neighbours >= 0, cosines, 0)


def _normalised(neighbours: Tensor, weights: Tensor) -> Tensor:
    """Returns D^-1/2 A D^-1/2 in slots, D the sums of A's rows; 0 in empty slots."""
    degrees = weights.sum(dim=1)
    scale = torch.where(degrees > 0, degrees.clamp(min=1e-12).rsqrt(), 0)
    return scale[:, None] * weights * scale[neighbours.clamp(min=0)] * (neighbours >= 0)


def _gather(columns: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Returns the weighted sums of the slots' rows, differentiable in rows and weights."""
    return F.embedding_bag(columns, rows, mode="sum", per_sample_weights=weights)


def _constant(columns: Tensor, weights: Tensor) -> Graph:
    """Returns the slots as a constant graph."""
    filled = weights > 0
    n_items, rows = len(columns), filled.nonzero()[:, 0]
    graph = Graph.of_edges(
        rows.cpu().numpy(),
        columns[filled].cpu().numpy(),
        weights[filled].cpu().numpy(),
        n_nodes=n_items,
    )
    return graph.to(weights.device)
