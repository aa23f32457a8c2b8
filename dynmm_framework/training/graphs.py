"""Weighted graphs as sparse matrices, and their product with embeddings.

The graphs of recommendation are small in memory and multiplied by embeddings in every step, so a
product must be as fast as the memory allows, forwards and backwards. Three ways to a graph::

    Graph.of_edges(rows, columns, weights, n_nodes=n)      # any edges, as they are
    Graph.symmetric(neighbours, similarities, n_nodes=n)   # items and their nearest neighbours
    BipartiteGraph.of(histories)                           # users, then items

:mod:`dynmm_framework.training.propagation` repeats the product over layers.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from dynmm_framework.data.tables import Histories

Product = Literal["auto", "bag", "csr"]
"""How a graph multiplies: ``auto`` takes ``bag`` on the CPU and ``csr`` elsewhere."""


class Graph(nn.Module):
    """A sparse matrix with a row and a column for each node; row ``i`` lists what ``i`` gathers.

    On the CPU its product with a matrix of embeddings is ``embedding_bag``: each node is a bag of
    its neighbours, weighted. That is the same sum in a kernel several times faster than torch's
    CSR product there. On a GPU it is the CSR product, which shares out the work of popular nodes.

    The matrix is constant: gradients flow to what it is multiplied by, never to its weights. Its
    arrays move with the module that holds it, and are not part of that module's state.

    Args:
        neighbours: Columns of all entries, row by row, ``(entries,)``.
        offsets: Where each row begins, and the end of the last, ``(n_nodes + 1,)``.
        weights: Weight of each entry, ``(entries,)``.
        is_symmetric: Whether the matrix is its own transpose, which nobody checks.
        product: How to multiply; for tests and measurements.
    """

    neighbours: Tensor
    offsets: Tensor
    weights: Tensor

    def __init__(
        self,
        neighbours: NDArray[Any],
        offsets: NDArray[Any],
        *,
        weights: NDArray[Any],
        is_symmetric: bool = False,
        product: Product = "auto",
    ) -> None:
        super().__init__()
        self.n_nodes = len(offsets) - 1
        self.is_symmetric = is_symmetric
        self.product = product
        self._transposed: list[Graph] = []  # a list, so that it is no part of the module
        # 32-bit indices halve what is read besides the embeddings.
        index = np.int32 if len(neighbours) < 2**31 else np.int64
        for name, array in (
            ("neighbours", neighbours.astype(index)),
            ("offsets", offsets.astype(index)),
            ("weights", weights.astype(np.float32)),
        ):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    @classmethod
    def of_edges(
        cls,
        rows: ArrayLike,
        columns: ArrayLike,
        weights: ArrayLike | None = None,
        *,
        n_nodes: int,
        is_symmetric: bool = False,
        product: Product = "auto",
    ) -> Graph:
        """Returns the graph of some edges, in any order; an edge given twice counts twice.

        Args:
            rows: The node that gathers, ``(entries,)``.
            columns: The node that is gathered, ``(entries,)``.
            weights: ``(entries,)``; 1 if ``None``.
            n_nodes: Number of nodes, those without edges included.
            is_symmetric: Whether each edge is there in both directions with one weight; saves
                the transposed graph in backward passes.
            product: How to multiply; for tests and measurements.
        """
        row, column = np.asarray(rows), np.asarray(columns)
        weight = np.ones(len(row), np.float32) if weights is None else np.asarray(weights)
        if (np.diff(row) < 0).any():
            order = np.argsort(row, kind="stable")
            row, column, weight = row[order], column[order], weight[order]
        offsets = _offsets(np.bincount(row, minlength=n_nodes))
        return Graph(column, offsets, weights=weight, is_symmetric=is_symmetric, product=product)

    @classmethod
    def symmetric(
        cls,
        neighbours: ArrayLike,
        similarities: ArrayLike | None = None,
        *,
        n_nodes: int,
    ) -> Graph:
        """Returns the normalised graph D^-1/2 (A + Aᵀ)/2 D^-1/2 of nodes and their nearest.

        That is the item-item graph of multimodal recommenders: ``k`` neighbours of each item by
        the similarity of features. Where they name each other the similarities are averaged.

        Args:
            neighbours: Nearest nodes of each node, ``(n_nodes, k)``; below 0 where there is none.
            similarities: ``(n_nodes, k)``, not negative; 1 if ``None``.
            n_nodes: Number of nodes.
        """
        near = np.asarray(neighbours, dtype=np.int64)
        row = np.repeat(np.arange(n_nodes), near.shape[1])
        near = near.reshape(-1)
        weight = np.ones(len(near)) if similarities is None else np.asarray(similarities, float)
        weight = weight.reshape(-1)[near >= 0] / 2
        row, near = row[near >= 0], near[near >= 0]
        keys, places = np.unique(
            np.concatenate([row * n_nodes + near, near * n_nodes + row]), return_inverse=True
        )
        weight = np.bincount(places, weights=np.concatenate([weight, weight]))
        rows, columns = np.divmod(keys, max(n_nodes, 1))
        scale = inverse_root(np.bincount(rows, weights=weight, minlength=n_nodes))
        weights = scale[rows] * weight.astype(np.float32) * scale[columns]
        return cls.of_edges(rows, columns, weights, n_nodes=n_nodes, is_symmetric=True)

    def multiply(self, embeddings: Tensor) -> Tensor:
        """Returns the matrix times ``embeddings`` ``(n_nodes, d)``; differentiable in them."""
        return cast(Tensor, _Product.apply(embeddings, self))  # type: ignore[no-untyped-call]

    def raw_multiply(self, embeddings: Tensor) -> Tensor:
        """Multiplies without a record for autograd."""
        with torch.no_grad():
            if self.product == "bag" or (
                self.product == "auto" and embeddings.device.type == "cpu"
            ):
                return F.embedding_bag(
                    self.neighbours,
                    embeddings,
                    self.offsets,
                    mode="sum",
                    per_sample_weights=self.weights,
                    include_last_offset=True,
                )
            return self._csr_product(embeddings)

    def _csr_product(self, embeddings: Tensor) -> Tensor:
        with warnings.catch_warnings(), torch.autocast(embeddings.device.type, enabled=False):
            warnings.simplefilter("ignore", UserWarning)  # CSR is in beta, and is not checked
            matrix = torch.sparse_csr_tensor(
                self.offsets,
                self.neighbours,
                self.weights,
                size=(self.n_nodes, self.n_nodes),
                check_invariants=False,
            )
            return matrix @ embeddings

    def transposed(self) -> Graph:
        """Returns the graph with all edges turned round, itself if it is symmetric.

        It is made once, on the host; a graph that is moved or cast makes it again.
        """
        if self.is_symmetric:
            return self
        if not self._transposed:
            columns = self.neighbours.cpu().numpy()
            lengths = np.diff(self.offsets.cpu().numpy())
            turned = Graph.of_edges(
                columns,
                np.repeat(np.arange(self.n_nodes), lengths),
                self.weights.float().cpu().numpy(),
                n_nodes=self.n_nodes,
                product=self.product,
            )
            self._transposed.append(turned.to(self.weights.device, self.weights.dtype))
        return self._transposed[0]

    def _apply(self, fn: Any, recurse: bool = True) -> Graph:
        self._transposed.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


class _Product(torch.autograd.Function):
    """The gradient of A x is Aᵀ times the gradient: a product of the same kind."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, graph: Graph) -> Tensor:
        ctx.graph = graph
        return graph.raw_multiply(embeddings)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.graph.transposed().raw_multiply(gradient.contiguous()), None


class BipartiteGraph(Graph):
    """The normalised adjacency D^-1/2 A D^-1/2 of users, then items; made by :meth:`of`.

    Attributes:
        n_users: Number of users: nodes ``0 .. n_users - 1``.
        n_items: Number of items: item ``i`` is node ``n_users + i``.
        scale: Degree^-1/2 of each node, 0 where there is no edge, ``(n_nodes,)``.
    """

    scale: Tensor

    def __init__(self, edges: Edges, entries: NDArray[Any] | slice, product: Product) -> None:
        rows, neighbours = edges.rows[entries], edges.neighbours[entries]
        n_nodes = edges.n_users + edges.n_items
        counts = np.bincount(rows, minlength=n_nodes)
        if edges.weights is None:
            scale = inverse_root(counts)
            weights = scale[rows] * scale[neighbours]
        else:
            weight = edges.weights[entries]
            scale = inverse_root(np.bincount(rows, weights=weight, minlength=n_nodes))
            weights = scale[rows] * weight * scale[neighbours]
        super().__init__(
            neighbours, _offsets(counts), weights=weights, is_symmetric=True, product=product
        )
        self.n_users, self.n_items = edges.n_users, edges.n_items
        self.register_buffer("scale", torch.from_numpy(scale), persistent=False)

    @classmethod
    def of(
        cls,
        histories: Histories,
        weights: NDArray[Any] | None = None,
        *,
        product: Product = "auto",
    ) -> BipartiteGraph:
        """Returns the graph of all interactions.

        Args:
            histories: Distinct items of every user; one history for each user.
            weights: Weight of each interaction, positive, in the order of ``histories.items``;
                1 if ``None``. A degree is the sum of the weights.
            product: How to multiply; for tests and measurements.
        """
        return Edges(histories, weights).graph(product=product)


class Edges:
    """The edges between users and items, laid out once, to make graphs of all or some of them.

    Args:
        histories: Distinct items of every user; one history for each user.
        weights: Weight of each interaction, positive; 1 if ``None``.

    Attributes:
        n_edges: Number of edges.
        rows: Node of each entry of the adjacency, in order, ``(2 · n_edges,)``.
        neighbours: The other node, ``(2 · n_edges,)``.
        weights: Weight of each entry, ``(2 · n_edges,)``; ``None`` if all are 1.
    """

    def __init__(self, histories: Histories, weights: NDArray[Any] | None = None) -> None:
        self.n_users, self.n_items = len(histories), histories.n_items
        self.n_edges = len(histories.items)
        users, items = histories.rows, histories.items.astype(np.int64) + self.n_users
        by_item = np.argsort(items, kind="stable")
        self._edges = np.concatenate([np.arange(self.n_edges), by_item])
        self.rows = np.concatenate([users, items[by_item]])
        self.neighbours = np.concatenate([items, users[by_item]])
        self.weights = None if weights is None else np.asarray(weights, np.float32)[self._edges]

    def graph(
        self, kept: NDArray[np.bool_] | None = None, *, product: Product = "auto"
    ) -> BipartiteGraph:
        """Returns the graph of some edges, normalised by the degrees that they leave.

        Args:
            kept: Which edges, in the order of ``histories.items``, ``(n_edges,)``; all if
                ``None``.
            product: How to multiply; for tests and measurements.
        """
        entries = slice(None) if kept is None else kept[self._edges]
        return BipartiteGraph(self, entries, product)

    def without(self, share: float, *, rng: np.random.Generator) -> BipartiteGraph:
        """Returns the graph without a share of the edges, drawn at random (edge dropout)."""
        kept = np.zeros(self.n_edges, dtype=np.bool_)
        kept[rng.permutation(self.n_edges)[: int(self.n_edges * (1 - share))]] = True
        return self.graph(kept)


def inverse_root(degrees: NDArray[Any]) -> NDArray[np.float32]:
    """Returns degree^-1/2, float32, and 0 for nodes without edges."""
    present = degrees > 0
    scale: NDArray[np.float32] = np.where(present, degrees, 1).astype(np.float32) ** -0.5
    scale[~present] = 0
    return scale


def _offsets(counts: NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
