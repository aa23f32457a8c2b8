"""The graph convolutions of MMGCN."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynmm_framework.latents.modalities import content_rows
from dynmm_framework.training.folding import TrainedVectors, UserVectors
from dynmm_framework.training.graphs import Edges, Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dynmm_framework.data.features import Features
    from dynmm_framework.data.tables import Histories
    from dynmm_plugins.mmgcn.config import MMGCNConfig


class MMGCNNetwork(nn.Module):
    """Id vectors of users, then items, ``(n_users + n_items, d)``, and a branch a modality.

    Args:
        histories: Distinct items of every user.
        features: Features by modality.
        config: Widths and number of layers.
    """

    shares: Tensor

    def __init__(
        self, histories: Histories, features: Mapping[str, Features], config: MMGCNConfig
    ) -> None:
        super().__init__()
        self.n_users, self.n_items = len(histories), histories.n_items
        self.ids = nn.Parameter(torch.empty(self.n_users + self.n_items, config.dim))
        nn.init.xavier_normal_(self.ids)
        edges = Edges(histories)
        self.branches = nn.ModuleDict(
            {name: Branch(edges, found, config) for name, found in features.items()}
        )
        # Users take part in every modality, items in those that they have.
        present = np.stack([found.present for found in features.values()])
        counts = np.concatenate([np.full(self.n_users, len(features)), present.sum(axis=0)])
        shares = torch.from_numpy(1 / np.maximum(counts, 1)).float()[:, None]
        self.register_buffer("shares", shares, persistent=False)
        self.register_buffer(
            "alone", torch.from_numpy(counts == 0).float()[:, None], persistent=False
        )

    def forward(self) -> Tensor:
        """Returns final vectors of all nodes, ``(n_users + n_items, d)``."""
        total = self.get_buffer("alone") * self.ids
        for branch in self.branches.values():
            total = total + branch(self.ids)
        return total * self.shares

    def preferences(self) -> Tensor:
        """Returns the mean squares of the users' preferences, summed over the modalities."""
        branches = [branch for branch in self.branches.values() if isinstance(branch, Branch)]
        means = [branch.preferences.square().mean() for branch in branches]
        return torch.stack(means).sum()

    @torch.no_grad()
    def vectors(self, histories: Histories) -> TrainedVectors:
        """Returns final vectors of users, new ones included, and of items.

        Args:
            histories: The graph's edges, as given to it.
        """
        users, items = torch.split(self(), [self.n_users, self.n_items])
        items = items.clone()
        return TrainedVectors(UserVectors.fit(users.clone(), items, histories=histories), items)


class Branch(nn.Module):
    """The convolutions of one modality, on the graph of the items that have it.

    Args:
        edges: The edges between users and all items.
        features: The modality's features.
        config: Widths and number of layers.
    """

    def __init__(self, edges: Edges, features: Features, config: MMGCNConfig) -> None:
        super().__init__()
        self.graph = _means(edges, features.present)
        self.preferences = nn.Parameter(torch.empty(edges.n_users, config.feature_dim))
        nn.init.xavier_normal_(self.preferences)
        self.project = nn.Linear(features.dim, config.feature_dim)
        widths = [config.feature_dim] + [config.dim] * config.layers
        pairs = list(itertools.pairwise(widths))
        self.messages = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairs)
        self.own = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.merge = nn.ModuleList(nn.Linear(b, b) for _, b in pairs)
        for linear in (self.project, *self.messages, *self.own, *self.merge):
            nn.init.xavier_normal_(linear.weight)
        self.register_buffer("content", torch.from_numpy(content_rows(features)), persistent=False)
        present = torch.from_numpy(features.present).float()[:, None]
        users = torch.ones(edges.n_users, 1)
        self.register_buffer("present", torch.cat([users, present]), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Returns vectors of all nodes, ``(n_nodes, d)``; zeros for items without the modality."""
        rows = torch.cat([self.preferences, self.project(self.get_buffer("content"))])
        rows = F.normalize(rows, dim=1)
        for message, own, merge in zip(self.messages, self.own, self.merge, strict=True):
            # The product is in float32: under autocast linear layers give bfloat16.
            near = F.leaky_relu(self.graph.multiply(message(rows).float()))
            rows = F.leaky_relu(merge(near) + F.leaky_relu(own(rows)) + ids)
        return rows * self.get_buffer("present")


def _means(edges: Edges, present: NDArray[np.bool_]) -> Graph:
    """Returns the graph by which a node gathers the mean of its neighbours that take part."""
    takes_part = np.concatenate([np.ones(edges.n_users, np.bool_), present])
    kept = takes_part[edges.rows] & takes_part[edges.neighbours]
    rows, neighbours = edges.rows[kept], edges.neighbours[kept]
    n_nodes = edges.n_users + edges.n_items
    weights = 1 / np.maximum(np.bincount(rows, minlength=n_nodes), 1)[rows]
    return Graph.of_edges(rows, neighbours, weights, n_nodes=n_nodes)
