"""The user-item graph, views of it, and propagation on both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dynmm_framework.training.folding import UserVectors
from dynmm_framework.training.losses import cross_entropy

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories
    from dynmm_plugins.sgl.config import SGLConfig


class Graph(nn.Module):
    """A normalised adjacency D^-1/2 A D^-1/2 of users, then items, in CSR form.

    Its product with a matrix of embeddings is ``embedding_bag``: each node is a bag of its
    neighbours, weighted, in a kernel faster than torch's sparse products on the CPU.

    Args:
        rows: Node of each entry of A, in order, ``(2 edges,)``.
        neighbours: The other node, ``(2 edges,)``.
        n_nodes: Number of nodes.
    """

    neighbours: Tensor
    offsets: Tensor
    weights: Tensor
    scale: Tensor

    def __init__(self, rows: NDArray[Any], neighbours: NDArray[Any], n_nodes: int) -> None:
        super().__init__()
        degrees = np.bincount(rows, minlength=n_nodes)
        scale = np.maximum(degrees, 1).astype(np.float32) ** -0.5
        scale[degrees == 0] = 0
        for name, array in (
            ("neighbours", neighbours),
            ("offsets", np.cumsum(degrees) - degrees),
            ("weights", scale[rows] * scale[neighbours]),
            ("scale", scale),  # (nodes,) degree^-1/2, 0 where there is no edge
        ):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def propagate(self, embeddings: Tensor, layers: int) -> tuple[Tensor, Tensor]:
        """Returns the sum over layers 0 to ``layers``, and the last layer, each like the input."""
        total, current = embeddings.clone(), embeddings
        for _ in range(layers):
            current = F.embedding_bag(
                self.neighbours, current, self.offsets, mode="sum", per_sample_weights=self.weights
            )
            total += current
        return total, current


class Views:
    """Makes graphs from a part of the edges, each normalised by its own degrees.

    Args:
        histories: Distinct items of every user, sorted; one history for each user.
    """

    def __init__(self, histories: Histories) -> None:
        users, items = histories.rows, histories.items.astype(np.int64) + len(histories)
        by_item = np.argsort(items, kind="stable")
        self.n_nodes = len(histories) + histories.n_items
        self.n_edges = len(items)
        self._edges = np.concatenate([np.arange(self.n_edges), by_item])
        self._rows = np.concatenate([users, items[by_item]])
        self._neighbours = np.concatenate([items, users[by_item]])

    def whole(self) -> Graph:
        """Returns the graph of all edges."""
        return Graph(self._rows, self._neighbours, self.n_nodes)

    def draw(self, drop: float, rng: np.random.Generator) -> Graph:
        """Returns the graph without a share ``drop`` of the edges, chosen at random."""
        kept = np.zeros(self.n_edges, dtype=np.bool_)
        kept[rng.permutation(self.n_edges)[: int(self.n_edges * (1 - drop))]] = True
        entries = kept[self._edges]
        return Graph(self._rows[entries], self._neighbours[entries], self.n_nodes)


class _Propagation(torch.autograd.Function):
    """Mean over the layers, of all nodes.

    Propagation is linear and symmetric, so its gradient is propagated by the very same function:
    no layer is stored for autograd.
    """

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, graph: Graph, layers: int) -> Tensor:
        ctx.graph, ctx.layers = graph, layers
        total, _ = graph.propagate(embeddings, layers)
        return total.div_(layers + 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        total, _ = ctx.graph.propagate(gradient, ctx.layers)
        return total.div_(ctx.layers + 1), None, None


class SGLNetwork(nn.Module):
    """Layer-0 embeddings of users, then items, ``(n_users + n_items, d)``."""

    def __init__(self, histories: Histories, config: SGLConfig) -> None:
        super().__init__()
        self.n_users, self.n_items = len(histories), histories.n_items
        self.views = Views(histories)
        self.graph = self.views.whole()
        self.layers = config.layers
        self.embeddings = nn.Parameter(torch.empty(self.n_users + self.n_items, config.dim))
        with torch.no_grad():
            for part in self.embeddings.split([self.n_users, self.n_items]):
                nn.init.xavier_uniform_(part)

    def forward(self, graph: Graph) -> Tensor:
        """Returns final embeddings of all nodes on a graph, ``(n_users + n_items, d)``."""
        final: Tensor = _Propagation.apply(self.embeddings, graph, self.layers)
        return final

    @torch.no_grad()
    def vectors(self, histories: Histories) -> tuple[UserVectors, Tensor]:
        """Returns final vectors: of users, new ones included, and of items ``(n_items, d)``.

        Args:
            histories: The graph's edges, as given to it.
        """
        total, last = self.graph.propagate(self.embeddings, self.layers)
        users, items = (total / (self.layers + 1)).split([self.n_users, self.n_items])
        # What an item passes on to a user: its layers but the last, each to the user's next one.
        passed = (total - last)[self.n_users :] * self.graph.scale[self.n_users :, None]
        contributions = passed / (self.layers + 1)
        return UserVectors.fit(users.clone(), contributions, histories=histories), items.clone()


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
