from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dynmm_framework.data.features import Features
from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Histories
from dynmm_framework.errors import StageError
from dynmm_framework.latents.modalities import content_rows
from dynmm_framework.testing import BaselineConformance
from dynmm_framework.testing.contexts import ContextFactory
from dynmm_framework.training.triples import TripleSampler
from dynmm_plugins.mmgcn.config import MMGCNConfig
from dynmm_plugins.mmgcn.model import MMGCN, MMGCNTask
from dynmm_plugins.mmgcn.network import MMGCNNetwork

LISTS = [[0, 1], [1, 2, 4], [], [0]]
"""Histories of four users over six items: user 2 and items 3 and 5 have no interactions."""
N_USERS, N_ITEMS = len(LISTS), 6
PRESENT = {"audio": [0, 2, 3, 4], "vision": [0, 1, 4]}
"""Item 5 has nothing, items 1, 2 and 3 have one modality."""


class TestMMGCNConformance(BaselineConformance):
    component: ClassVar[str] = "mmgcn"
    config: ClassVar[dict[str, Any]] = {
        "dim": 16,
        "feature_dim": 8,
        "epochs": 30,
        "batch_size": 512,
        "learning_rate": 0.003,
    }
    expected: ClassVar[dict[str, tuple[float, float]]] = {
        "ndcg@10": (0.12, 0.18),  # three seeds: 0.134 to 0.152
        "coverage@10": (0.32, 1.0),  # popularity alone reaches 0.15 and 0.30
    }


def features() -> dict[str, Features]:
    rng = np.random.default_rng(1)
    made = {}
    for width, (name, items) in enumerate(PRESENT.items(), start=3):
        mask = np.isin(np.arange(N_ITEMS), items)
        rows = rng.normal(size=(N_ITEMS, width)) * mask[:, None]
        made[name] = Features(rows.astype(np.float32), mask)
    return made


def histories() -> Histories:
    return Histories.of(LISTS, N_ITEMS)


def network(given: dict[str, Features] | None = None, **settings: Any) -> MMGCNNetwork:
    torch.manual_seed(0)
    config = MMGCNConfig(**{"dim": 3, "feature_dim": 4, **settings})
    return MMGCNNetwork(histories(), features() if given is None else given, config)


def naive(net: MMGCNNetwork, given: dict[str, Features]) -> torch.Tensor:
    """Computes final vectors node by node, by the definition."""
    total, counts = torch.zeros_like(net.ids), torch.zeros(len(net.ids), 1)
    for name, found in given.items():
        branch = net.branches[name]
        nodes = [*range(N_USERS), *(N_USERS + i for i in range(N_ITEMS) if found.present[i])]
        near: dict[int, list[int]] = {node: [] for node in nodes}
        for user, items in enumerate(LISTS):
            for item in items:
                if found.present[item]:
                    near[user].append(N_USERS + item)
                    near[N_USERS + item].append(user)
        content = torch.from_numpy(content_rows(found))
        x = {
            node: F.normalize(
                branch.preferences[node]
                if node < N_USERS
                else branch.project(content[node - N_USERS]),
                dim=0,
            )
            for node in nodes
        }
        for message, own, merge in zip(branch.messages, branch.own, branch.merge, strict=True):
            y = {}
            for node in nodes:
                gathered = torch.zeros(3)
                if near[node]:
                    gathered = torch.stack([message(x[other]) for other in near[node]]).mean(0)
                kept = F.leaky_relu(own(x[node])) + net.ids[node]
                y[node] = F.leaky_relu(merge(F.leaky_relu(gathered)) + kept)
            x = y
        for node in nodes:
            total[node] = total[node] + x[node]
            counts[node] += 1
    return torch.where(counts > 0, total / counts.clamp(min=1), net.ids)


@pytest.mark.parametrize("layers", [1, 2])
def test_vectors_and_gradients_are_those_of_the_definition(layers: int) -> None:
    net = network(layers=layers)
    found, wanted = net(), naive(net, features())
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    weights = torch.randn_like(found)
    parameters = list(net.parameters())
    ours = torch.autograd.grad((found * weights).sum(), parameters)
    theirs = torch.autograd.grad((wanted * weights).sum(), parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_an_item_without_features_is_its_id_vector() -> None:
    net = network()
    torch.testing.assert_close(net()[N_USERS + 5], net.ids[N_USERS + 5])


def test_what_stands_where_nothing_is_makes_no_difference() -> None:
    given = features()
    others = {
        name: replace(found, vectors=np.where(found.present[:, None], found.vectors, 9.0))
        for name, found in given.items()
    }
    torch.testing.assert_close(network()(), network(others)())


def test_loss_is_bpr_and_mean_squares() -> None:
    net = network()
    config = MMGCNConfig(dim=3, feature_dim=4, regularisation=0.5)
    made = MMGCNTask(net, histories(), config, TripleSampler(histories()))
    batch = torch.tensor([[0, 1, 3], [1, 4, 0], [5, 3, 2]])
    final = net().detach()
    users, positive, negative = batch[0], batch[1] + N_USERS, batch[2] + N_USERS
    margins = (final[users] * (final[positive] - final[negative])).sum(1)
    squares = net.ids[torch.cat([users, positive, negative])].square().mean()
    preferences = sum(branch.preferences.square().mean() for branch in net.branches.values())
    expected = -F.logsigmoid(margins).mean() + 0.5 * (squares + preferences)
    torch.testing.assert_close(made.loss(batch), expected)


def test_constant_features_and_one_modality_are_learned_from(
    dynmm_context: ContextFactory, dynmm_split: Split, dynmm_dataset: Dataset
) -> None:
    data = dynmm_split.training_data(dynmm_dataset.items)
    constant = Features(np.ones((data.n_items, 3), np.float32), np.ones(data.n_items, np.bool_))
    model = MMGCN(MMGCNConfig(dim=4, feature_dim=4, epochs=1))
    model.fit(replace(data, features={"audio": constant}), dynmm_context())
    assert torch.isfinite(model.item_vectors()).all()


def test_without_features_it_says_so(
    dynmm_context: ContextFactory, dynmm_split: Split, dynmm_dataset: Dataset
) -> None:
    data = dynmm_split.training_data(dynmm_dataset.items)
    with pytest.raises(StageError, match="mmgcn learns from items' content, and there are no"):
        MMGCN(MMGCNConfig()).fit(data, dynmm_context())
