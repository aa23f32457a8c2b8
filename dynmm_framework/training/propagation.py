"""Linear propagation on a graph: repeated products, summed over the layers.

Layer ``k + 1`` is the graph times layer ``k``; there are neither weights nor non-linearities in
between. Then the gradient of any sum of layers is propagated by the very same function, on the
transposed graph: nothing of the forward pass is kept, and no layer is stored for autograd.

Models with weights between the layers build on
:meth:`~dynmm_framework.training.graphs.Graph.multiply`, which is differentiable by itself.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from dynmm_framework.data.tables import Histories
from dynmm_framework.training.folding import TrainedVectors, UserVectors
from dynmm_framework.training.graphs import BipartiteGraph, Graph


def propagate(embeddings: Tensor, graph: Graph, *, layers: int) -> tuple[Tensor, Tensor]:
    """Returns the sum over layers 0 to ``layers``, and the last layer, without autograd.

    Args:
        embeddings: Layer 0, ``(n_nodes, d)``.
        graph: What multiplies.
        layers: Number of products, at least 1.

    Returns:
        Two tensors of the shape of ``embeddings``.
    """
    embeddings = embeddings.detach()
    current = graph.raw_multiply(embeddings)
    total = embeddings + current
    for _ in range(layers - 1):
        current = graph.raw_multiply(current)
        total += current
    return total, current


def layer_mean(embeddings: Tensor, graph: Graph, *, layers: int) -> Tensor:
    """Returns the mean over layers 0 to ``layers`` of all nodes, ``(n_nodes, d)``."""
    mean = _LayerMean.apply(embeddings, graph, layers)  # type: ignore[no-untyped-call]
    return cast(Tensor, mean)


def layer_mean_of(
    nodes: Tensor, embeddings: Tensor, *, graph: Graph, layers: int
) -> tuple[Tensor, Tensor]:
    """Returns the mean over the layers, and layer 0, of some nodes.

    Cheaper than choosing rows of :func:`layer_mean`: gradients of both are added up in one table.

    Args:
        nodes: ``(n,)``; repetitions are allowed.
        embeddings: Layer 0 of all nodes, ``(n_nodes, d)``.
        graph: What multiplies.
        layers: Number of products, at least 1.

    Returns:
        Two tensors ``(n, d)``.
    """
    rows = _LayerMeanOf.apply(embeddings, nodes, graph, layers)  # type: ignore[no-untyped-call]
    return cast(tuple[Tensor, Tensor], rows)


class _LayerMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, graph: Graph, layers: int) -> Tensor:
        ctx.graph, ctx.layers = graph, layers
        total, _ = propagate(embeddings, graph, layers=layers)
        return total.div_(layers + 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        total, _ = propagate(gradient.contiguous(), ctx.graph.transposed(), layers=ctx.layers)
        return total.div_(ctx.layers + 1), None, None


class _LayerMeanOf(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, nodes: Tensor, graph: Graph, layers: int
    ) -> tuple[Tensor, Tensor]:
        ctx.graph, ctx.layers, ctx.shape = graph, layers, embeddings.shape
        ctx.save_for_backward(nodes)
        embeddings = embeddings.detach()
        total, _ = propagate(embeddings, graph, layers=layers)
        return total[nodes].div_(layers + 1), embeddings[nodes]

    @staticmethod
    def backward(ctx: Any, final: Tensor, first: Tensor) -> tuple[Tensor, None, None, None]:
        (nodes,) = ctx.saved_tensors
        sparse = final.new_zeros(ctx.shape).index_add_(0, nodes, final / (ctx.layers + 1))
        gradient, _ = propagate(sparse, ctx.graph.transposed(), layers=ctx.layers)
        return gradient.index_add_(0, nodes, first), None, None, None


@torch.no_grad()
def propagated_vectors(
    embeddings: Tensor, graph: BipartiteGraph, *, layers: int, histories: Histories
) -> TrainedVectors:
    """Returns the final vectors of users, new ones included, and of items.

    A new user is folded in by the rule of propagation itself, the products of the layers, followed
    by a linear map that supplies the layer 0 which a new node lacks; see
    :class:`~dynmm_framework.training.folding.UserVectors`.

    Args:
        embeddings: Layer 0 of users, then items, ``(n_nodes, d)``.
        graph: The graph of ``histories``.
        layers: Number of products, at least 1.
        histories: The graph's edges, as given to it.
    """
    total, last = propagate(embeddings, graph, layers=layers)
    users, items = torch.split(total / (layers + 1), [graph.n_users, graph.n_items])
    # What an item passes on to a user: its layers but the last, each to the user's next one.
    passed = (total - last)[graph.n_users :] * graph.scale[graph.n_users :, None]
    return TrainedVectors(
        UserVectors.fit(users.clone(), passed / (layers + 1), histories=histories), items.clone()
    )
