"""Graphs against dense matrices: products, gradients, normalisation, views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynmm_framework.data.tables import Histories
from dynmm_framework.training.graphs import BipartiteGraph, Edges, Graph, Product

LISTS = [[0, 1], [1, 2, 4], [], [0]]
"""Histories of four users over six items: user 2 and items 3 and 5 have no interactions."""
N_USERS, N_ITEMS = len(LISTS), 6
NODES = N_USERS + N_ITEMS
EDGES = [(user, item) for user, items in enumerate(LISTS) for item in items]


def histories() -> Histories:
    return Histories.of(LISTS, N_ITEMS)


def dense(graph: Graph) -> torch.Tensor:
    """Returns the matrix that a graph multiplies by, in the graph's own precision."""
    return graph.multiply(torch.eye(graph.n_nodes, dtype=graph.weights.dtype))


def normalised(edges: dict[tuple[int, int], float]) -> torch.Tensor:
    adjacency = torch.zeros(NODES, NODES)
    for (user, item), weight in edges.items():
        adjacency[user, N_USERS + item] = adjacency[N_USERS + item, user] = weight
    degrees = adjacency.sum(1)
    scale = torch.where(degrees > 0, degrees, 1).rsqrt()
    return scale[:, None] * adjacency * scale


@st.composite
def edges(draw: Any) -> tuple[list[int], list[int], list[float], int]:
    n = draw(st.integers(1, 7))
    pairs = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=20))
    weights = [draw(st.floats(-2, 2, width=32)) for _ in pairs]
    return [row for row, _ in pairs], [column for _, column in pairs], weights, n


@settings(max_examples=60, deadline=None)
@given(edges(), st.sampled_from(["bag", "csr"]))
def test_product_and_gradient_are_those_of_the_dense_matrix(
    made: tuple[list[int], list[int], list[float], int], product: Product
) -> None:
    rows, columns, weights, n = made
    matrix = torch.zeros(n, n)
    for row, column, weight in zip(rows, columns, weights, strict=True):
        matrix[row, column] += weight
    rows, columns = np.array(rows, np.int64), np.array(columns, np.int64)
    graph = Graph.of_edges(rows, columns, weights, n_nodes=n, product=product)
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(n, 3, generator=generator, requires_grad=True)
    outer = torch.randn(n, 3, generator=generator)
    found = graph.multiply(embeddings)
    (gradient,) = torch.autograd.grad((found * outer).sum(), [embeddings])
    torch.testing.assert_close(found, matrix @ embeddings, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, matrix.T @ outer, rtol=1e-5, atol=1e-5)


def test_a_moved_or_cast_graph_turns_its_edges_round_again() -> None:
    graph = Graph.of_edges([0, 1], [1, 2], [2.0, 3.0], n_nodes=3)
    assert graph.transposed() is graph.transposed()
    torch.testing.assert_close(dense(graph.transposed()), dense(graph).T)
    double = graph.double()
    assert double.transposed().weights.dtype == torch.float64
    assert not graph.state_dict()


def test_a_symmetric_graph_is_its_own_transpose() -> None:
    graph = BipartiteGraph.of(histories())
    assert graph.transposed() is graph
    torch.testing.assert_close(dense(graph), dense(graph).T)


@pytest.mark.parametrize("product", ["auto", "bag", "csr"])
def test_users_and_items_are_normalised_by_their_degrees(product: Product) -> None:
    graph = BipartiteGraph.of(histories(), product=product)
    torch.testing.assert_close(dense(graph), normalised(dict.fromkeys(EDGES, 1.0)))
    assert (graph.n_users, graph.n_items, graph.n_nodes) == (N_USERS, N_ITEMS, NODES)
    assert graph.neighbours.dtype == torch.int32
    degrees = [2, 3, 0, 1, 2, 2, 1, 0, 1, 0]
    expected = [degree**-0.5 if degree else 0.0 for degree in degrees]
    torch.testing.assert_close(graph.scale, torch.tensor(expected))


def test_weights_of_interactions_count_in_degrees() -> None:
    weights = np.array([1, 5, 2, 0.5, 4, 3])
    graph = BipartiteGraph.of(histories(), weights)
    torch.testing.assert_close(dense(graph), normalised(dict(zip(EDGES, weights, strict=True))))


def test_a_part_of_the_edges_is_normalised_by_its_own_degrees() -> None:
    made = Edges(histories())
    for seed in range(20):
        matrix = dense(made.without(0.3, rng=np.random.default_rng(seed)))
        kept = [(int(u), int(i)) for u, i in matrix[:N_USERS, N_USERS:].nonzero()]
        assert len(kept) == 4  # of 6
        assert set(kept) <= set(EDGES)
        torch.testing.assert_close(matrix, normalised(dict.fromkeys(kept, 1.0)))


def test_every_edge_is_left_out_equally_often() -> None:
    made, rng = Edges(histories()), np.random.default_rng(0)
    times = sum((dense(made.without(0.3, rng=rng)) > 0).double() for _ in range(3000)) / 3000
    for user, item in EDGES:
        assert times[user, N_USERS + item].item() == pytest.approx(4 / 6, abs=0.03)


def test_nearest_neighbours_become_a_symmetric_normalised_graph() -> None:
    # Node 0 names 1 (and 2), 1 names 0; 3 names nobody and is named by nobody.
    neighbours = np.array([[1, 2], [0, -1], [1, -1], [-1, -1]])
    similarities = np.array([[0.8, 0.2], [0.4, 9], [0.6, 9], [9, 9]])
    named = np.zeros((4, 4))
    for row in range(4):
        for column, value in zip(neighbours[row], similarities[row], strict=True):
            if column >= 0:
                named[row, column] = value
    both = (named + named.T) / 2
    degrees = both.sum(1)
    scale = np.where(degrees > 0, degrees, np.inf) ** -0.5
    expected = torch.tensor(scale[:, None] * both * scale, dtype=torch.float32)
    graph = Graph.symmetric(neighbours, similarities, n_nodes=4)
    torch.testing.assert_close(dense(graph), expected)
    assert graph.transposed() is graph


def test_a_graph_without_edges_gives_zeros() -> None:
    graph = BipartiteGraph.of(Histories.of([[], []], 3))
    torch.testing.assert_close(graph.multiply(torch.ones(5, 2)), torch.zeros(5, 2))
