from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Histories, Interactions, TrainingData
from dynmm_framework.errors import StageError
from dynmm_framework.testing import BackboneConformance
from dynmm_framework.testing.contexts import ContextFactory
from dynmm_framework.training.graphs import BipartiteGraph
from dynmm_framework.training.triples import TripleSampler
from dynmm_plugins.lightgcn.config import LightGCNConfig
from dynmm_plugins.lightgcn.model import LightGCN, LightGCNTask
from dynmm_plugins.lightgcn.network import LightGCNNetwork

LISTS = [[0, 1], [1, 2, 4], [], [0]]
"""Histories of four users over six items: user 2 and items 3 and 5 have no interactions."""
N_ITEMS = 6
NODES = len(LISTS) + N_ITEMS
SMALL: dict[str, Any] = {"dim": 8, "epochs": 3, "batch_size": 4, "layers": 2}


class TestLightGCNConformance(BackboneConformance):
    component: ClassVar[str] = "lightgcn"
    config: ClassVar[dict[str, Any]] = {
        "dim": 16,
        "epochs": 60,
        "batch_size": 512,
        "learning_rate": 0.005,
        "validate_every": 5,
    }
    expected: ClassVar[dict[str, tuple[float, float]]] = {
        "ndcg@10": (0.16, 0.22),
        "coverage@10": (0.8, 1.0),  # popularity alone reaches 0.15 and 0.30
    }


def training_data(lists: list[list[int]], n_items: int) -> TrainingData:
    histories = Histories.of(lists, n_items)
    return TrainingData(
        Interactions(histories.rows.astype(np.int32), histories.items, len(lists), n_items),
        pa.table({"id": [str(item) for item in range(n_items)]}),
    )


def histories() -> Histories:
    return Histories.of(LISTS, N_ITEMS)


@pytest.fixture
def network() -> LightGCNNetwork:
    torch.manual_seed(0)
    return LightGCNNetwork(BipartiteGraph.of(histories()), LightGCNConfig(**SMALL)).double()


def task(network: LightGCNNetwork, regularisation: float) -> LightGCNTask:
    config = LightGCNConfig(**SMALL, regularisation=regularisation)
    return LightGCNTask(network, histories(), config, TripleSampler(histories()))


def dense_adjacency() -> torch.Tensor:
    adjacency = torch.zeros(NODES, NODES, dtype=torch.float64)
    for user, items in enumerate(LISTS):
        for item in items:
            adjacency[user, len(LISTS) + item] = adjacency[len(LISTS) + item, user] = 1
    scale = adjacency.sum(1).clamp(min=1).rsqrt()
    return scale[:, None] * adjacency * scale


def test_final_vectors_are_the_mean_over_the_layers(network: LightGCNNetwork) -> None:
    adjacency, first = dense_adjacency(), network.embeddings.detach()
    mean = (first + adjacency @ first + adjacency @ adjacency @ first) / 3
    vectors = network.vectors(histories())
    final = torch.cat([vectors.users.trained, vectors.items])
    torch.testing.assert_close(final, mean, rtol=1e-6, atol=1e-6)  # edge weights are float32


def test_gradients_are_those_of_the_dense_computation(network: LightGCNNetwork) -> None:
    nodes = torch.tensor([0, 5, 5, 9])
    weight, weight_first = torch.randn(2, 4, 8, dtype=torch.float64)
    final, first = network(nodes)
    ((final * weight).sum() + (first * weight_first).sum()).backward()
    dense = network.embeddings.detach().clone().requires_grad_()
    adjacency = dense_adjacency()
    mean = (dense + adjacency @ dense + adjacency @ adjacency @ dense) / 3
    ((mean[nodes] * weight).sum() + (dense[nodes] * weight_first).sum()).backward()
    torch.testing.assert_close(network.embeddings.grad, dense.grad, rtol=1e-6, atol=1e-6)


def test_regularisation_reaches_only_layer_0_of_the_batch(network: LightGCNNetwork) -> None:
    batch = torch.tensor([[0, 1], [0, 1], [4, 4]])  # users, positives, negatives
    task(network, 0.5).loss(batch).backward()
    gradient = network.embeddings.grad
    assert gradient is not None
    with_decay = gradient.clone()
    network.embeddings.grad = None
    task(network, 0.0).loss(batch).backward()
    # d/de of 0.5 · (‖e_user‖² + ‖e_positive‖² + ‖e_negative‖²) / (2 · batch), summed over a batch.
    nodes = torch.tensor([0, 1, 4, 5, 8, 8])
    times = torch.bincount(nodes, minlength=NODES)[:, None]
    expected = 0.5 * times * network.embeddings.detach() / 2
    torch.testing.assert_close(with_decay - network.embeddings.grad, expected)


def test_the_loss_is_bpr_over_the_batch(network: LightGCNNetwork) -> None:
    vectors = network.vectors(histories())
    scores = vectors.users.trained @ vectors.items.T
    expected = -torch.nn.functional.logsigmoid(
        torch.stack([scores[0, 1] - scores[0, 2], scores[1, 4] - scores[1, 3]])
    ).mean()
    loss = task(network, 0.0).loss(torch.tensor([[0, 1], [1, 4], [2, 3]]))
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)


def test_repeated_interactions_are_one_edge(dynmm_context: ContextFactory) -> None:
    once, twice = LightGCN(LightGCNConfig(**SMALL)), LightGCN(LightGCNConfig(**SMALL))
    once.fit(training_data(LISTS, N_ITEMS), dynmm_context(validate=False))
    twice.fit(
        training_data([[1, 0, 1], [4, 1, 2], [], [0, 0]], N_ITEMS), dynmm_context(validate=False)
    )
    torch.testing.assert_close(once.item_vectors(), twice.item_vectors(), rtol=0, atol=0)


def test_folding_in_maps_what_items_propagate_to_a_new_node(network: LightGCNNetwork) -> None:
    adjacency, first = dense_adjacency(), network.embeddings.detach()
    later = (adjacency @ first + adjacency @ adjacency @ first)[: len(LISTS)] / 3  # no layer 0
    users = network.vectors(histories()).users
    folded, known = users.fold_in(histories()), users.known
    mapping = torch.linalg.lstsq(later[known], folded[known]).solution
    torch.testing.assert_close(later[known] @ mapping, folded[known], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def trained(
    dynmm_catalogue: Catalogue,
    dynmm_split: Split,
    dynmm_dataset: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> LightGCN:
    model = LightGCN(LightGCNConfig(dim=16, epochs=60, batch_size=512, learning_rate=0.02))
    data = dynmm_split.training_data(dynmm_dataset.items)
    context = ContextFactory(dynmm_catalogue, dynmm_split, tmp_path_factory.mktemp("lightgcn"))
    model.fit(data, context(validate=False))
    return model


def test_known_users_keep_their_trained_vector(trained: LightGCN, dynmm_split: Split) -> None:
    test = dynmm_split.evaluation("test").histories  # training and validation items
    train = dynmm_split.evaluation("valid").histories
    torch.testing.assert_close(
        trained.user_vectors(test), trained.user_vectors(train), rtol=0, atol=0
    )


def test_folding_a_known_user_in_gives_almost_its_trained_vector(
    trained: LightGCN, dynmm_split: Split
) -> None:
    known = dynmm_split.evaluation("valid").histories
    stranger = Histories(known.offsets, known.items, known.n_items)
    cosine = torch.nn.functional.cosine_similarity(
        trained.user_vectors(known), trained.user_vectors(stranger)
    )
    assert cosine.median() > 0.9


def test_folding_in_ignores_order_repeats_and_items_without_edges(trained: LightGCN) -> None:
    n_items = len(trained.item_vectors())
    unused = n_items - 1  # the generated data has no interactions with its last items
    one, other = trained.user_vectors(Histories.of([[3, 7], [7, unused, 3, 7]], n_items))
    torch.testing.assert_close(one, other)


def test_an_empty_history_gets_the_mean_user(trained: LightGCN) -> None:
    vectors = trained.user_vectors(Histories.of([[], [3]], len(trained.item_vectors())))
    torch.testing.assert_close(vectors[0], trained.fitted().users.trained.mean(0))


def test_a_training_user_without_interactions_is_folded_in(dynmm_context: ContextFactory) -> None:
    model = LightGCN(LightGCNConfig(**SMALL))
    model.fit(training_data(LISTS, N_ITEMS), dynmm_context(validate=False))
    known = Histories.of([[0, 1]], N_ITEMS, users=np.array([2], np.int32))
    unknown = Histories.of([[0, 1]], N_ITEMS)
    torch.testing.assert_close(model.user_vectors(known), model.user_vectors(unknown))


def test_another_seed_gives_another_model(dynmm_context: ContextFactory) -> None:
    models = [LightGCN(LightGCNConfig(**SMALL)) for _ in range(2)]
    for seed, model in enumerate(models):
        model.fit(training_data(LISTS, N_ITEMS), dynmm_context(seed=seed, validate=False))
    assert not torch.equal(models[0].item_vectors(), models[1].item_vectors())


def test_defaults_are_the_authors() -> None:
    config = LightGCNConfig()
    assert (config.layers, config.dim, config.regularisation) == (3, 64, 1e-4)
    assert (config.epochs, config.batch_size, config.learning_rate) == (1000, 2048, 1e-3)
    assert (config.init_std, config.weight_decay, config.clip_norm) == (0.1, 0, 0)


def test_using_it_before_fit_says_what_to_do() -> None:
    with pytest.raises(StageError, match=r"LightGCN is not fitted\n  Call fit or load_state"):
        LightGCN(LightGCNConfig()).item_vectors()


def test_state_is_empty_before_fit_and_can_be_restored() -> None:
    model = LightGCN(LightGCNConfig())
    assert model.get_state() == {}
    model.load_state({})
    assert model.get_state() == {}
