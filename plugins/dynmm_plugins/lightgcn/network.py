"""The user-item graph and propagation on it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynmm_framework.training.folding import UserVectors

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories
    from dynmm_plugins.lightgcn.config import LightGCNConfig


class Graph(nn.Module):
    """The normalised adjacency D^-1/2 A D^-1/2 of users, then items, in CSR form.

    On the CPU its product with a matrix of embeddings is ``embedding_bag``: each node is a bag of
    its neighbours, weighted. That is the same sum in a kernel several times faster than torch's
    CSR product there. On a GPU it is the CSR product, which shares out the work of popular items.

    Args:
        histories: Distinct items of every user, sorted; one history for each user.
    """

    neighbours: Tensor
    offsets: Tensor
    weights: Tensor
    scale: Tensor

    def __init__(self, histories: Histories) -> None:
        super().__init__()
        self.n_users, self.n_items = len(histories), histories.n_items
        users, items = histories.rows, histories.items.astype(np.int64)
        degrees = np.concatenate([histories.lengths, np.bincount(items, minlength=self.n_items)])
        scale = np.maximum(degrees, 1).astype(np.float32) ** -0.5
        scale[degrees == 0] = 0
        by_item = np.argsort(items, kind="stable")
        rows = np.concatenate([users, items[by_item] + self.n_users])
        neighbours = np.concatenate([items + self.n_users, users[by_item]])
        # The kernel takes half the time with 32-bit indices.
        index = np.int32 if len(neighbours) < 2**31 else np.int64
        for name, array in (
            ("neighbours", neighbours.astype(index)),
            ("offsets", (np.cumsum(degrees) - degrees).astype(index)),
            ("weights", scale[rows] * scale[neighbours]),
            ("scale", scale),  # (nodes,) degree^-1/2, 0 where there is no edge
        ):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def multiply(self, embeddings: Tensor) -> Tensor:
        """Returns the adjacency times ``embeddings`` ``(n_users + n_items, d)``."""
        if embeddings.device.type != "cpu":
            return self._multiply_csr(embeddings)
        return F.embedding_bag(
            self.neighbours, embeddings, self.offsets, mode="sum", per_sample_weights=self.weights
        )

    def _multiply_csr(self, embeddings: Tensor) -> Tensor:
        end = self.offsets.new_full((1,), len(self.neighbours))
        size = (len(self.offsets), len(self.offsets))
        with warnings.catch_warnings(), torch.autocast(embeddings.device.type, enabled=False):
            warnings.simplefilter("ignore", UserWarning)  # CSR is in beta, and is not checked
            adjacency = torch.sparse_csr_tensor(
                torch.cat([self.offsets, end]),
                self.neighbours,
                self.weights,
                size=size,
                check_invariants=False,
            )
            return adjacency @ embeddings

    def propagate(self, embeddings: Tensor, layers: int) -> tuple[Tensor, Tensor]:
        """Returns the sum over layers 0 to ``layers``, and the last layer, each like the input."""
        current = self.multiply(embeddings)
        total = embeddings + current
        for _ in range(layers - 1):
            current = self.multiply(current)
            total += current
        return total, current


class _BatchEmbeddings(torch.autograd.Function):
    """Final and layer-0 embeddings of some nodes.

    Propagation is linear and symmetric, so its gradient is propagated by the very same function:
    nothing of the forward pass has to be kept, and no layer is stored for autograd.
    """

    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, nodes: Tensor, graph: Graph, layers: int
    ) -> tuple[Tensor, Tensor]:
        ctx.graph, ctx.layers, ctx.shape = graph, layers, embeddings.shape
        ctx.save_for_backward(nodes)
        embeddings = embeddings.detach()
        total, _ = graph.propagate(embeddings, layers)
        return total[nodes].div_(layers + 1), embeddings[nodes]

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, final: Tensor, first: Tensor
    ) -> tuple[Tensor, None, None, None]:
        (nodes,) = ctx.saved_tensors
        sparse = final.new_zeros(ctx.shape).index_add_(0, nodes, final / (ctx.layers + 1))
        gradient, _ = ctx.graph.propagate(sparse, ctx.layers)
        return gradient.index_add_(0, nodes, first), None, None, None


class LightGCNNetwork(nn.Module):
    """Layer-0 embeddings of users, then items, ``(n_users + n_items, d)``."""

    def __init__(self, graph: Graph, config: LightGCNConfig) -> None:
        super().__init__()
        self.graph = graph
        self.layers = config.layers
        self.embeddings = nn.Parameter(torch.empty(graph.n_users + graph.n_items, config.dim))
        nn.init.normal_(self.embeddings, std=config.init_std)

    def forward(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Returns final and layer-0 embeddings of ``nodes`` ``(n,)``, each ``(n, d)``."""
        rows: tuple[Tensor, Tensor] = _BatchEmbeddings.apply(
            self.embeddings, nodes, self.graph, self.layers
        )
        return rows

    @torch.no_grad()
    def vectors(self, histories: Histories) -> tuple[UserVectors, Tensor]:
        """Returns final vectors: of users, new ones included, and of items ``(n_items, d)``.

        Args:
            histories: The graph's edges, as given to it.
        """
        graph = self.graph
        total, last = graph.propagate(self.embeddings, self.layers)
        users, items = (total / (self.layers + 1)).split([graph.n_users, graph.n_items])
        # What an item passes on to a user: its layers but the last, each to the user's next one.
        passed = (total - last)[graph.n_users :] * graph.scale[graph.n_users :, None]
        contributions = passed / (self.layers + 1)
        return UserVectors.fit(users.clone(), contributions, histories=histories), items.clone()
