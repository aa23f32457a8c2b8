from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from dynmm_framework.data.features import Features
from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Histories
from dynmm_framework.errors import StageError
from dynmm_framework.latents.neighbours import CPU_BYTES
from dynmm_framework.testing import BaselineConformance
from dynmm_framework.testing.contexts import ContextFactory
from dynmm_framework.training.graphs import BipartiteGraph
from dynmm_framework.training.triples import TripleSampler
from dynmm_plugins.lattice.config import LATTICEConfig
from dynmm_plugins.lattice.model import LATTICE, LATTICETask
from dynmm_plugins.lattice.network import LATTICENetwork

LISTS = [[0, 1], [1, 2, 4], [], [0]]
"""Histories of four users over six items: user 2 and items 3 and 5 have no interactions."""
N_USERS, N_ITEMS = len(LISTS), 6
PRESENT = {"audio": [0, 2, 3, 4], "vision": [0, 1, 3, 4]}
"""Item 5 has nothing, items 1 and 2 have one modality."""


class TestLATTICEConformance(BaselineConformance):
    component: ClassVar[str] = "lattice"
    config: ClassVar[dict[str, Any]] = {
        "dim": 16,
        "feature_dim": 8,
        "epochs": 30,
        "batch_size": 512,
        "learning_rate": 0.01,
        "neighbours": 5,
    }
    expected: ClassVar[dict[str, tuple[float, float]]] = {
        "ndcg@10": (0.135, 0.2),  # three seeds: 0.151 to 0.174
        "coverage@10": (0.6, 1.0),  # popularity alone reaches 0.15 and 0.30
    }


def features() -> dict[str, Features]:
    rng = np.random.default_rng(1)
    made = {}
    for width, (name, items) in enumerate(PRESENT.items(), start=3):
        mask = np.isin(np.arange(N_ITEMS), items)
        rows = rng.normal(0.5, 1, size=(N_ITEMS, width)) * mask[:, None]
        made[name] = Features(rows.astype(np.float32), mask)
    return made


def histories() -> Histories:
    return Histories.of(LISTS, N_ITEMS)


def task(given: dict[str, Features] | None = None, **settings: Any) -> LATTICETask:
    torch.manual_seed(0)
    small = {"dim": 3, "feature_dim": 4, "neighbours": 2, "batch_size": 3}
    config = LATTICEConfig(**{**small, **settings})
    graph = BipartiteGraph.of(histories())
    net = LATTICENetwork(graph, features() if given is None else given, config)
    with torch.no_grad():
        net.mining.importance.copy_(torch.tensor([0.3, -0.2]))
    return LATTICETask(net, histories(), config, TripleSampler(histories()))


def dense_knn(rows: torch.Tensor, present: np.ndarray, k: int) -> torch.Tensor:
    """Returns the whole matrix of cosines, all but each row's k largest positive ones 0."""
    units = F.normalize(rows, dim=1)
    here = torch.from_numpy(present).float()
    cosines = (units @ units.T) * here[:, None] * here
    kept = torch.zeros_like(cosines)
    best = cosines.detach().topk(min(k, len(rows)), dim=1).indices
    kept.scatter_(1, best, 1.0)
    return cosines * kept * (cosines.detach() > 0)


def laplacian(matrix: torch.Tensor) -> torch.Tensor:
    degrees = matrix.sum(1)
    scale = torch.where(degrees > 0, degrees.clamp(min=1e-12) ** -0.5, 0)
    return scale[:, None] * matrix * scale


def dense_item_graph(net: LATTICENetwork, given: dict[str, Features]) -> torch.Tensor:
    config, shares = net.config, torch.softmax(net.mining.importance, dim=0)
    fixed, learned = 0.0, 0.0
    for share, (name, found) in zip(shares, given.items(), strict=True):
        raw = torch.from_numpy(found.vectors)
        fixed = fixed + share * laplacian(dense_knn(raw, found.present, config.neighbours))
        projected = net.mining.projections[name](raw)
        learned = learned + share * dense_knn(projected, found.present, config.neighbours)
    assert isinstance(learned, torch.Tensor)
    return config.fixed_share * fixed + (1 - config.fixed_share) * laplacian(learned)


def dense_final(net: LATTICENetwork, given: dict[str, Features]) -> torch.Tensor:
    adjacency = torch.zeros(N_USERS + N_ITEMS, N_USERS + N_ITEMS)
    for user, items in enumerate(LISTS):
        for item in items:
            adjacency[user, N_USERS + item] = adjacency[N_USERS + item, user] = 1
    adjacency = laplacian(adjacency)
    layers = [net.embeddings]
    for _ in range(net.config.layers):
        layers.append(adjacency @ layers[-1])
    final = torch.stack(layers).mean(0)
    rows = net.embeddings[N_USERS:]
    for _ in range(net.config.item_layers):
        rows = dense_item_graph(net, given) @ rows
    return torch.cat([final[:N_USERS], final[N_USERS:] + F.normalize(rows, dim=1)])


BATCH = torch.tensor([[0, 1, 3], [1, 4, 0], [5, 3, 2]])


@pytest.mark.parametrize(("item_layers", "share"), [(1, 0.9), (2, 0.4), (1, 0.0), (1, 1.0)])
def test_loss_and_gradients_are_those_of_the_dense_computation(
    item_layers: int, share: float
) -> None:
    made = task(item_layers=item_layers, fixed_share=share, regularisation=0.1)
    net = made.module
    final = dense_final(net, features())
    users, positive, negative = BATCH[0], BATCH[1] + N_USERS, BATCH[2] + N_USERS
    margins = (final[users] * (final[positive] - final[negative])).sum(1)
    norm = net.embeddings[torch.cat([users, positive, negative])].square().sum()
    expected = -F.logsigmoid(margins).mean() + 0.1 * norm / 6
    for fresh in (True, False):  # the first step mines the graph, later ones take it as it is
        loss = made.loss(BATCH)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
        learned = [net.embeddings, *net.mining.parameters()] if fresh else [net.embeddings]
        ours = torch.autograd.grad(loss, learned)
        theirs = torch.autograd.grad(expected, learned, retain_graph=True)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    vectors = net.vectors(histories())
    torch.testing.assert_close(
        torch.cat([vectors.users.trained, vectors.items]), final.detach(), rtol=1e-5, atol=1e-6
    )


def test_the_graph_is_mined_once_an_epoch() -> None:
    made = task()
    net, mined = made.module, []
    net.mining.register_forward_hook(lambda *_: mined.append(1))
    for epoch in range(2):
        for batch in made.batches(np.random.default_rng(epoch)):
            made.loss(batch).backward()
    assert made.n_batches == 2
    assert len(mined) == 2
    assert all(parameter.grad is not None for parameter in net.mining.parameters())


def test_an_item_without_features_has_lightgcns_vector() -> None:
    made = task()
    columns, weights = made.module.mining()
    assert not weights[5].any()
    assert not weights[columns == 5].any()
    plain = task(fixed_share=1.0)
    final = made.module.vectors(histories()).items[5]
    torch.testing.assert_close(final, made.module.embeddings[N_USERS + 5].detach() / 3)
    torch.testing.assert_close(final, plain.module.vectors(histories()).items[5])


def test_an_item_that_is_nobodys_gathers_from_similar_items() -> None:
    made = task()
    vectors = made.module.vectors(histories())
    gathered = vectors.items[3] - made.module.embeddings[N_USERS + 3].detach() / 3
    assert gathered.norm().item() == pytest.approx(1, rel=1e-5)


def test_what_stands_where_nothing_is_makes_no_difference() -> None:
    others = {
        name: replace(found, vectors=np.where(found.present[:, None], found.vectors, 9.0))
        for name, found in features().items()
    }
    torch.testing.assert_close(
        task().module.vectors(histories()).items, task(others).module.vectors(histories()).items
    )


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for found in out if isinstance(out, tuple | list) else (out,):
            if isinstance(found, torch.Tensor):
                self.elements = max(self.elements, found.numel())
        return out


def test_twenty_thousand_items_make_no_tensor_of_items_by_items() -> None:
    n_items, rng = 20_000, np.random.default_rng(0)
    users = Histories.of(rng.integers(0, n_items, (50, 5)).tolist(), n_items)
    rows = rng.normal(size=(n_items, 4)).astype(np.float32)
    with Largest() as largest:
        config = LATTICEConfig(dim=8, feature_dim=4, batch_size=128)
        given = {"audio": Features(rows, rng.random(n_items) < 0.9)}
        net = LATTICENetwork(BipartiteGraph.of(users), given, config)
        made = LATTICETask(net, users, config, TripleSampler(users))
        for batch in made.batches(rng):
            made.loss(batch).backward()
    # The largest is a block of similarities, whatever the number of items; embeddings are n · 8.
    assert made.n_batches == 2
    assert largest.elements * 4 <= CPU_BYTES < 4 * n_items**2 / 90


def test_constant_features_and_one_modality_are_learned_from(
    dynmm_context: ContextFactory, dynmm_split: Split, dynmm_dataset: Dataset
) -> None:
    data = dynmm_split.training_data(dynmm_dataset.items)
    constant = Features(np.ones((data.n_items, 3), np.float32), np.ones(data.n_items, np.bool_))
    model = LATTICE(LATTICEConfig(dim=4, feature_dim=4, epochs=1))
    model.fit(replace(data, features={"audio": constant}), dynmm_context())
    assert torch.isfinite(model.item_vectors()).all()


def test_without_features_it_says_so(
    dynmm_context: ContextFactory, dynmm_split: Split, dynmm_dataset: Dataset
) -> None:
    data = dynmm_split.training_data(dynmm_dataset.items)
    with pytest.raises(StageError, match="lattice learns from items' content, and there are no"):
        LATTICE(LATTICEConfig()).fit(data, dynmm_context())
