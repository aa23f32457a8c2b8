"""The user-item graph, propagation on it, and the vectors that come out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from dynmm_framework.data.tables import Histories
    from dynmm_plugins.lightgcn.config import LightGCNConfig

RIDGE = 1e-3
"""Ridge of the folding, relative to the mean eigenvalue. Chosen on validation: users of
MovieLens-100K left out of training then rank as well as those trained on."""


class Graph(nn.Module):
    """The normalised adjacency D^-1/2 A D^-1/2 of users, then items, in CSR form.

    Its product with a matrix of embeddings is ``embedding_bag``: each node is a bag of its
    neighbours, weighted. That is the same sum as a sparse matrix product, in a kernel that is
    several times faster than torch's CSR product on the CPU.

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
        for name, array in (
            ("neighbours", neighbours),
            ("offsets", np.cumsum(degrees) - degrees),
            ("weights", scale[rows] * scale[neighbours]),
            ("scale", scale),  # (nodes,) degree^-1/2, 0 where there is no edge
        ):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def multiply(self, embeddings: Tensor) -> Tensor:
        """Returns the adjacency times ``embeddings`` ``(n_users + n_items, d)``."""
        return F.embedding_bag(
            self.neighbours, embeddings, self.offsets, mode="sum", per_sample_weights=self.weights
        )

    def propagate(self, embeddings: Tensor, layers: int) -> tuple[Tensor, Tensor]:
        """Returns the sum over layers 0 to ``layers``, and the last layer, each like the input."""
        current = self.multiply(embeddings)
        total = embeddings + current
        for _ in range(layers - 1):
            current = self.multiply(current)
            total += current
        return total, current


def fit_folding(propagated: Tensor, trained: Tensor) -> Tensor:
    """Fits the linear map from what a user's items propagate to the user's trained vector.

    A new node lacks its layer 0, which the mean over the layers contains. Training makes layer 0
    a smooth function of the neighbourhood, so a ridge regression on the training users supplies
    it.

    Args:
        propagated: Mean over the layers without layer 0, ``(users, d)``.
        trained: Final vectors of the same users, ``(users, d)``.

    Returns:
        ``(d, d)``; multiply ``propagated`` by it from the right.
    """
    dim = trained.shape[1]
    propagated, trained = propagated.double(), trained.double()
    gram = propagated.T @ propagated
    ridge = RIDGE * gram.trace() / dim
    if ridge <= 0:
        return torch.eye(dim, dtype=torch.float32, device=trained.device)
    eye = torch.eye(dim, dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(gram + ridge * eye, propagated.T @ trained).float()


@dataclass(frozen=True)
class GraphVectors:
    """Vectors of users and items, on one device.

    Attributes:
        users: Final vectors of the training users, ``(n_users, d)``.
        items: Final vectors, ``(n_items, d)``.
        parts: What an item adds to the vector of a new user, ``(n_items, d)``.
        known_users: Users with training interactions, ``(n_users,)``.
        known_items: Items with training interactions, ``(n_items,)``.
    """

    users: Tensor
    items: Tensor
    parts: Tensor
    known_users: Tensor
    known_items: Tensor

    def of(self, histories: Histories) -> Tensor:
        """Returns vectors of users, ``(len(histories), d)``: trained ones, others folded in."""
        device = self.users.device
        rows = np.full(len(histories), -1) if histories.users is None else histories.users
        index = torch.from_numpy(rows.astype(np.int64)).to(device)
        trained = (index >= 0) & self.known_users[index.clamp(min=0)]
        if bool(trained.all()):
            return self.users[index]
        new = torch.nonzero(~trained).squeeze(1)
        vectors = self.users[index.clamp(min=0)]
        vectors[new] = self.fold_in(histories.take(new.cpu().numpy()))
        return vectors

    def fold_in(self, histories: Histories) -> Tensor:
        """Returns vectors of users from their items alone, ``(len(histories), d)``.

        An item counts once, and not at all without training interactions. If none is left, the
        vector is the mean of the training users'.
        """
        keys = np.unique(histories.rows * histories.n_items + histories.items)
        rows, items = np.divmod(keys, max(histories.n_items, 1))
        known = self.known_items.cpu().numpy()[items]
        rows, items = rows[known], items[known]
        lengths = np.bincount(rows, minlength=len(histories))
        device = self.parts.device
        sums = F.embedding_bag(
            torch.from_numpy(items).to(device),
            self.parts,
            torch.from_numpy(np.cumsum(lengths) - lengths).to(device),
            mode="sum",
        )
        degrees = torch.from_numpy(lengths).to(device)[:, None]
        mean = self.users[self.known_users].mean(0).nan_to_num()
        return torch.where(degrees > 0, sums * degrees.clamp(min=1).float().rsqrt(), mean)


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
    def vectors(self) -> GraphVectors:
        """Returns final vectors of users and items, and what folds new users in."""
        n_users, scale = self.graph.n_users, self.graph.scale
        total, last = self.graph.propagate(self.embeddings, self.layers)
        users, items = (total / (self.layers + 1)).split([n_users, self.graph.n_items])
        # What an item gives to a user node of degree 1, summed over the layers it passes on.
        parts = (total - last)[n_users:] * scale[n_users:, None] / (self.layers + 1)
        edges = self.graph.neighbours[: len(self.graph.neighbours) // 2] - n_users
        sums = F.embedding_bag(edges, parts, self.graph.offsets[:n_users], mode="sum")
        known = scale[:n_users] > 0
        folding = fit_folding(sums[known] * scale[:n_users][known, None], users[known])
        return GraphVectors(
            users=users,
            items=items,
            parts=parts @ folding,
            known_users=known,
            known_items=scale[n_users:] > 0,
        )
