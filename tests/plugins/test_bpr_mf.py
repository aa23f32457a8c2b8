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
from dynmm_framework.training.folding import distinct_items
from dynmm_framework.training.triples import TripleSampler
from dynmm_plugins.bpr_mf.config import BPRMFConfig
from dynmm_plugins.bpr_mf.model import BPRMF, BPRTask
from dynmm_plugins.bpr_mf.network import Factors

LISTS = [[0, 1], [1, 2, 4], [], [0], [0, 1, 2, 3, 4, 5]]
"""Histories of five users over six items; user 2 has none, user 4 has all of them."""
N_ITEMS = 6
SMALL: dict[str, Any] = {"dim": 8, "epochs": 3, "batch_size": 4}
QUICK: dict[str, Any] = {
    "dim": 16,
    "epochs": 60,
    "batch_size": 512,
    "learning_rate": 0.02,
    "validate_every": 5,
    "regularisation": 0.1,
}


class TestBPRMFConformance(BackboneConformance):
    component: ClassVar[str] = "bpr_mf"
    config: ClassVar[dict[str, Any]] = QUICK
    expected: ClassVar[dict[str, tuple[float, float]]] = {
        "ndcg@10": (0.16, 0.21),
        "coverage@10": (0.6, 1.0),  # popularity alone reaches 0.15 and 0.30
    }


def training_data(lists: list[list[int]], n_items: int) -> TrainingData:
    histories = Histories.of(lists, n_items)
    return TrainingData(
        Interactions(histories.rows.astype(np.int32), histories.items, len(lists), n_items),
        pa.table({"id": [str(item) for item in range(n_items)]}),
    )


def task(**settings: Any) -> BPRTask:
    config = BPRMFConfig(**{**SMALL, **settings})
    torch.manual_seed(0)
    factors = Factors(len(LISTS), N_ITEMS, config)
    with torch.no_grad():
        factors.bias.normal_()
    histories = distinct_items(Histories.of(LISTS, N_ITEMS))
    return BPRTask(factors, histories, config, TripleSampler(histories, by="interactions"))


TRIPLES = torch.tensor([[0, 1, 1], [1, 4, 2], [2, 0, 5]])
"""Users, positives, negatives."""


@pytest.mark.parametrize(("optimizer", "divisor"), [("sgd", 1), ("adam", 3)])
def test_the_loss_is_bpr_with_l2_on_what_a_triple_touches(optimizer: str, divisor: int) -> None:
    bpr = task(optimizer=optimizer, regularisation=0.3)
    table, bias = bpr.module.factors.detach(), bpr.module.bias.detach()
    expected = torch.tensor(0.0)
    for user, positive, negative in TRIPLES.T:
        p, q, r = table[user], table[len(LISTS) + positive], table[len(LISTS) + negative]
        b, c = bias[positive], bias[negative]
        expected -= torch.nn.functional.logsigmoid(p @ q + b - p @ r - c)
        expected += 0.15 * (p @ p + q @ q + r @ r + b * b + c * c)
    torch.testing.assert_close(bpr.loss(TRIPLES), expected / divisor)


def test_without_item_bias_it_is_neither_used_nor_learned() -> None:
    bpr = task(item_bias=False)
    with torch.no_grad():
        before = bpr.loss(TRIPLES)
        bpr.module.bias.zero_()
        torch.testing.assert_close(bpr.loss(TRIPLES), before, rtol=0, atol=0)
    assert not bpr.module.bias.requires_grad


def test_every_interaction_is_visited_once_an_epoch_with_a_uniform_negative() -> None:
    bpr = task()
    assert (bpr.n_targets, bpr.n_batches) == (6, 2)  # user 4 has no negative
    rng = np.random.default_rng(0)
    epochs = [torch.cat(list(bpr.batches(rng)), dim=1).numpy() for _ in range(3_000)]
    pairs = sorted((user, item) for user, items in enumerate(LISTS[:4]) for item in items)
    assert sorted(zip(*epochs[0][:2].tolist(), strict=True)) == pairs
    assert not np.array_equal(epochs[0], epochs[1])
    users, _, negatives = np.concatenate(epochs, axis=1)
    for user in (0, 1, 3):
        share = np.bincount(negatives[users == user], minlength=N_ITEMS) / (users == user).sum()
        free = ~np.isin(np.arange(N_ITEMS), LISTS[user])
        np.testing.assert_allclose(share, free / free.sum(), atol=0.02)


def test_scores_are_inner_products_plus_bias(dynmm_context: ContextFactory) -> None:
    bpr = task()
    known = Histories.of(LISTS[:2], N_ITEMS, users=np.array([0, 1], np.int32))
    table = bpr.module.factors.detach()
    expected = table[:2] @ table[len(LISTS) :].T + bpr.module.bias.detach()
    torch.testing.assert_close(bpr.score(known).detach(), expected)


@pytest.fixture(scope="module")
def trained(
    dynmm_catalogue: Catalogue,
    dynmm_split: Split,
    dynmm_dataset: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> BPRMF:
    model = BPRMF(BPRMFConfig(**QUICK))
    data = dynmm_split.training_data(dynmm_dataset.items)
    context = ContextFactory(dynmm_catalogue, dynmm_split, tmp_path_factory.mktemp("bpr_mf"))
    model.fit(data, context(validate=False))
    return model


def test_the_last_number_of_vectors_is_the_bias(trained: BPRMF, dynmm_split: Split) -> None:
    users = trained.user_vectors(dynmm_split.evaluation("test").histories)
    assert users.shape[1] == trained.item_vectors().shape[1] == QUICK["dim"] + 1
    assert (users[:, -1] == 1).all()
    counts = dynmm_split.train.item_counts()
    assert np.corrcoef(trained.item_vectors()[:, -1].numpy(), np.log1p(counts))[0, 1] > 0.5


def test_known_users_keep_their_trained_vector(trained: BPRMF, dynmm_split: Split) -> None:
    test = dynmm_split.evaluation("test").histories  # training and validation items
    train = dynmm_split.evaluation("valid").histories
    torch.testing.assert_close(
        trained.user_vectors(test), trained.user_vectors(train), rtol=0, atol=0
    )


def test_folding_a_known_user_in_gives_almost_its_trained_vector(
    trained: BPRMF, dynmm_split: Split
) -> None:
    known = dynmm_split.evaluation("valid").histories
    stranger = Histories(known.offsets, known.items, known.n_items)
    cosine = torch.nn.functional.cosine_similarity(
        trained.user_vectors(known)[:, :-1], trained.user_vectors(stranger)[:, :-1]
    )
    assert cosine.median() > 0.85


def test_stochastic_gradient_descent_learns_too(
    dynmm_context: ContextFactory, dynmm_split: Split, dynmm_dataset: Dataset
) -> None:
    settings = {
        **QUICK,
        "regularisation": 0,
        "optimizer": "sgd",
        "batch_size": 16,
        "learning_rate": 0.05,
        "epochs": 8,
    }
    model = BPRMF(BPRMFConfig(**settings))
    data = dynmm_split.training_data(dynmm_dataset.items)
    ctx = dynmm_context(validate=False)
    model.fit(data, ctx)
    losses = [epoch["loss"] for epoch in ctx.records["training"]["epochs"]]
    assert losses[-1] < 0.85 * losses[0]


def test_repeated_interactions_count_once(dynmm_context: ContextFactory) -> None:
    once, twice = BPRMF(BPRMFConfig(**SMALL)), BPRMF(BPRMFConfig(**SMALL))
    once.fit(training_data([[0, 1], [1, 2]], N_ITEMS), dynmm_context(validate=False))
    twice.fit(training_data([[0, 1, 0], [2, 1, 2]], N_ITEMS), dynmm_context(validate=False))
    torch.testing.assert_close(once.item_vectors(), twice.item_vectors(), rtol=0, atol=0)


def test_another_seed_gives_another_model(dynmm_context: ContextFactory) -> None:
    models = [BPRMF(BPRMFConfig(**SMALL)) for _ in range(2)]
    for seed, model in enumerate(models):
        model.fit(training_data(LISTS, N_ITEMS), dynmm_context(seed=seed, validate=False))
    assert not torch.equal(models[0].item_vectors(), models[1].item_vectors())


def test_using_it_before_fit_says_what_to_do() -> None:
    with pytest.raises(StageError, match=r"BPRMF is not fitted\n  Call fit or load_state"):
        BPRMF(BPRMFConfig()).item_vectors()


def test_state_is_empty_before_fit_and_can_be_restored() -> None:
    model = BPRMF(BPRMFConfig())
    assert model.get_state() == {}
    model.load_state({})
    assert model.get_state() == {}
