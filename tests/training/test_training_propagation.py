"""Propagation and its gradients against the dense computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dynmm_framework.data.tables import Histories
from dynmm_framework.training.graphs import BipartiteGraph, Graph
from dynmm_framework.training.propagation import (
    layer_mean,
    layer_mean_of,
    propagate,
    propagated_vectors,
)

LISTS = [[0, 1], [1, 2, 4], [], [0]]
N_ITEMS = 6


def graphs() -> dict[str, Graph]:
    """A symmetric graph, and one whose edges have a direction and weights."""
    rng = np.random.default_rng(0)
    directed = Graph.of_edges(
        rng.integers(0, 10, 25), rng.integers(0, 10, 25), rng.normal(size=25), n_nodes=10
    )
    both = {"bipartite": BipartiteGraph.of(Histories.of(LISTS, N_ITEMS)), "directed": directed}
    return {name: graph.double() for name, graph in both.items()}


def matrix_of(graph: Graph) -> torch.Tensor:
    return graph.multiply(torch.eye(graph.n_nodes, dtype=torch.float64))


def dense_mean(matrix: torch.Tensor, first: torch.Tensor, layers: int) -> torch.Tensor:
    found = [first]
    for _ in range(layers):
        found.append(matrix @ found[-1])
    return torch.stack(found).mean(0)


def embeddings() -> torch.Tensor:
    return torch.randn(10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["bipartite", "directed"])
@pytest.mark.parametrize("layers", [1, 2, 4])
def test_sum_and_last_layer(name: str, layers: int) -> None:
    graph, first = graphs()[name], embeddings()
    before = first.clone()
    total, last = propagate(first, graph, layers=layers)
    matrix = matrix_of(graph)
    torch.testing.assert_close(total, dense_mean(matrix, first, layers) * (layers + 1))
    torch.testing.assert_close(last, torch.linalg.matrix_power(matrix, layers) @ first)
    torch.testing.assert_close(first, before, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["bipartite", "directed"])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_mean_and_its_gradient(name: str, layers: int) -> None:
    graph, first = graphs()[name], embeddings()
    ours, theirs = first.clone().requires_grad_(), first.clone().requires_grad_()
    outer = torch.linspace(-1, 1, 40, dtype=torch.float64).view(10, 4)
    found = layer_mean(ours, graph, layers=layers)
    expected = dense_mean(matrix_of(graph), theirs, layers)
    (found * outer).sum().backward()
    (expected * outer).sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("name", ["bipartite", "directed"])
def test_some_nodes_and_the_gradient_of_both_layers(name: str) -> None:
    graph, first, nodes = graphs()[name], embeddings(), torch.tensor([0, 5, 5, 9])
    ours, theirs = first.clone().requires_grad_(), first.clone().requires_grad_()
    outer, outer_first = torch.randn(2, 4, 4, dtype=torch.float64)
    final, layer_0 = layer_mean_of(nodes, ours, graph=graph, layers=2)
    expected = dense_mean(matrix_of(graph), theirs, 2)[nodes]
    ((final * outer).sum() + (layer_0 * outer_first).sum()).backward()
    ((expected * outer).sum() + (theirs[nodes] * outer_first).sum()).backward()
    torch.testing.assert_close(final, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_cpus_and_the_gpus_product_give_one_result() -> None:
    histories, first = Histories.of(LISTS, N_ITEMS), embeddings().float()
    bag, csr = (BipartiteGraph.of(histories, product=way) for way in ("bag", "csr"))
    torch.testing.assert_close(layer_mean(first, bag, layers=3), layer_mean(first, csr, layers=3))


def test_vectors_are_the_mean_and_new_users_are_propagated_to() -> None:
    histories = Histories.of(LISTS, N_ITEMS, users=np.arange(4, dtype=np.int32))
    graph, first = BipartiteGraph.of(histories).double(), embeddings()
    vectors = propagated_vectors(first, graph, layers=2, histories=histories)
    matrix = matrix_of(graph)
    mean = dense_mean(matrix, first, 2)
    torch.testing.assert_close(torch.cat([vectors.users.trained, vectors.items]), mean)
    torch.testing.assert_close(vectors.score(histories)[0], mean[0] @ mean[4:].T)
    later = ((matrix + matrix @ matrix) @ first)[:4] / 3  # a new node has no layer 0
    known = vectors.users.known
    folded = vectors.users.fold_in(histories)
    mapping = torch.linalg.lstsq(later[known], folded[known]).solution
    torch.testing.assert_close(later[known] @ mapping, folded[known], rtol=1e-5, atol=1e-6)
