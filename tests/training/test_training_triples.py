"""Triples: their distribution on the host and on the device, and what a step does there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn

from dynmm_framework.data.tables import Histories
from dynmm_framework.testing.contexts import ContextFactory
from dynmm_framework.training.config import LoopConfig
from dynmm_framework.training.folding import TrainedVectors, UserVectors
from dynmm_framework.training.graphs import BipartiteGraph
from dynmm_framework.training.loop import train
from dynmm_framework.training.propagation import layer_mean_of, propagated_vectors
from dynmm_framework.training.triples import (
    By,
    DeviceTripleSampler,
    TripleSampler,
    TripleTask,
    triple_sampler,
)

LISTS = [[0], [0, 1, 2, 3], [], [1, 4], [0, 1, 2, 3, 4]]
"""User 2 has no positive, user 4 no negative."""
N_ITEMS = 5


def sampler(where: str, by: By, lists: list[list[int]] = LISTS) -> TripleSampler:
    histories = Histories.of(lists, N_ITEMS)
    if where == "host":
        return TripleSampler(histories, by=by)
    return DeviceTripleSampler(histories, by=by, device="cpu")


def many(drawn_by: TripleSampler, epochs: int = 2_000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return torch.cat([drawn_by.draw(rng) for _ in range(epochs)], dim=1).numpy()


@pytest.mark.parametrize("where", ["host", "device"])
def test_triples_by_user_are_uniform_at_every_step(where: str) -> None:
    drawn_by = sampler(where, "users")
    assert drawn_by.n_draws == 12
    found = many(drawn_by)
    counts = np.zeros((5, N_ITEMS, N_ITEMS))
    np.add.at(counts, tuple(found), 1)
    expected = np.zeros_like(counts)
    for user in (0, 1, 3):
        free = [item for item in range(N_ITEMS) if item not in LISTS[user]]
        for positive in LISTS[user]:
            expected[user, positive, free] = 1 / (3 * len(LISTS[user]) * len(free))
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    assert chisquare(counts[possible], expected[possible] * counts.sum()).pvalue > 0.001


@pytest.mark.parametrize("where", ["host", "device"])
def test_every_interaction_comes_once_with_a_uniform_negative(where: str) -> None:
    drawn_by = sampler(where, "interactions")
    pairs = sorted((user, item) for user in (0, 1, 3) for item in LISTS[user])
    assert drawn_by.n_draws == len(pairs)
    rng = np.random.default_rng(1)
    epochs = [drawn_by.draw(rng) for _ in range(2_000)]
    assert all(sorted(map(tuple, epoch[:2].T.tolist())) == pairs for epoch in epochs[:50])
    assert not torch.equal(epochs[0], epochs[1])
    users, _, negatives = torch.cat(epochs, dim=1).numpy()
    for user in (0, 1, 3):
        counts = np.bincount(negatives[users == user], minlength=N_ITEMS)
        free = ~np.isin(np.arange(N_ITEMS), LISTS[user])
        assert counts[~free].sum() == 0
        assert free.sum() == 1 or chisquare(counts[free]).pvalue > 0.001


@pytest.mark.parametrize("where", ["host", "device"])
@pytest.mark.parametrize("by", ["users", "interactions"])
def test_the_same_generator_gives_the_same_triples(where: str, by: By) -> None:
    one, other = (sampler(where, by).draw(np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(one, other)
    assert one.dtype == torch.int64


@pytest.mark.parametrize("where", ["host", "device"])
@pytest.mark.parametrize("by", ["users", "interactions"])
@pytest.mark.parametrize("lists", [[[], []], [[0, 1, 2, 3, 4]]])
def test_without_a_possible_triple_there_is_none(where: str, by: By, lists: list[Any]) -> None:
    drawn_by = sampler(where, by, lists)
    assert drawn_by.n_draws == 0
    assert drawn_by.draw(np.random.default_rng(0)).shape == (3, 0)


def test_the_context_decides_where_triples_are_drawn() -> None:
    histories = Histories.of(LISTS, N_ITEMS)
    assert type(triple_sampler(histories, device="cpu")) is TripleSampler
    assert type(triple_sampler(histories, device="meta")) is DeviceTripleSampler


class Propagated(nn.Module):
    """LightGCN in a few lines, multiplied as on a GPU."""

    def __init__(self, histories: Histories) -> None:
        super().__init__()
        self.graph = BipartiteGraph.of(histories, product="csr")
        torch.manual_seed(0)
        self.embeddings = nn.Parameter(torch.randn(self.graph.n_nodes, 8) * 0.1)

    def vectors(self, histories: Histories) -> TrainedVectors:
        return propagated_vectors(self.embeddings, self.graph, layers=2, histories=histories)


class PropagatedTask(TripleTask[Propagated]):
    def loss(self, batch: Tensor) -> Tensor:
        users, items = batch[0], batch[1:].reshape(-1)
        nodes = torch.cat([users, items + self.module.graph.n_users])
        final, _ = layer_mean_of(nodes, self.module.embeddings, graph=self.module.graph, layers=2)
        user, positive, negative = final.view(3, len(users), -1)
        return nn.functional.softplus((user * (negative - positive)).sum(-1)).mean()


def blocks() -> Histories:
    """Two halves of the users with the two halves of the items, a few of each user left out."""
    rng = np.random.default_rng(0)
    lists = [sorted(rng.choice(10, 6, replace=False) + 10 * (user % 2)) for user in range(40)]
    return Histories.of(lists, 20, users=np.arange(40, dtype=np.int32))


def test_the_devices_path_learns(dynmm_context: ContextFactory) -> None:
    histories = blocks()
    drawn_by = DeviceTripleSampler(histories, device="cpu")
    task = PropagatedTask(Propagated(histories), histories, sampler=drawn_by, batch_size=64)
    config = LoopConfig(epochs=30, learning_rate=0.02)
    log = train(task, config, dynmm_context(validate=False))
    assert log.epochs[-1]["loss"] < 0.5 * log.epochs[0]["loss"]
    scores = task.score(histories)
    own = torch.arange(20)[None] // 10 == torch.arange(40)[:, None] % 2
    assert scores[own].mean() > scores[~own].mean() + 1


def test_scores_are_of_the_weights_after_the_last_epoch() -> None:
    histories = Histories.of(LISTS, N_ITEMS, users=np.arange(5, dtype=np.int32))

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.made = 0
            self.users = nn.Parameter(torch.randn(5, 3))
            self.items = nn.Parameter(torch.randn(N_ITEMS, 4))

        def vectors(self, histories: Histories) -> TrainedVectors:
            self.made += 1
            users = UserVectors.fit(self.users, self.items[:, :3], histories=histories)
            return TrainedVectors(users, self.items.detach())

    class TableTask(TripleTask[Table]):
        def loss(self, batch: Tensor) -> Tensor:
            raise NotImplementedError

    module = Table()
    task = TableTask(module, histories, sampler=TripleSampler(histories), batch_size=5)
    assert (task.n_targets, task.n_batches) == (12, 3)
    row = np.array([1])
    expected = module.users[1] @ module.items[:, :3].T + module.items[:, 3]  # the bias
    torch.testing.assert_close(task.score(histories.take(row))[0], expected)
    task.score(histories)
    assert module.made == 1  # one validation, one set of vectors
    assert [batch.shape[1] for batch in task.batches(np.random.default_rng(0))] == [5, 5, 2]
    with torch.no_grad():
        module.items.mul_(2)
    torch.testing.assert_close(task.score(histories.take(row))[0], 2 * expected)
