"""Recommenders with known scores, random users, and naive definitions to compare with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.data.tables import EvaluationSet, Histories
from dynmm_framework.evaluation.evaluate import MetricRequest, expand
from dynmm_plugins.ranking_metrics.plugin import dynmm_register_metrics

SPECS = {spec.name: spec for spec in dynmm_register_metrics()}


class TableRecommender:
    """Scores each training user by a row of a matrix."""

    def __init__(self, scores: NDArray) -> None:
        self.scores = scores

    def score(self, histories: Histories, candidates: NDArray | None = None) -> NDArray:
        scores = self.scores[histories.users]
        return scores if candidates is None else np.take_along_axis(scores, candidates, axis=1)


class TableBackbone:
    """A backbone with one fixed vector for each user and item."""

    def __init__(self, users: NDArray, items: NDArray) -> None:
        self.users, self.items = users, items
        self.calls: list[int] = []

    def item_vectors(self) -> NDArray:
        return self.items

    def user_vectors(self, histories: Histories) -> NDArray:
        self.calls.append(len(histories))
        return self.users[histories.users]


def requests(*names: str, at: Sequence[int] = (10,)) -> tuple[MetricRequest, ...]:
    """Makes requests for metric families by name; for all of ours without names."""
    return expand([SPECS[name] for name in names or SPECS], at)


def evaluation_set(
    histories: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], n_items: int
) -> EvaluationSet:
    users = np.arange(len(histories), dtype=np.int32)
    return EvaluationSet(
        users=users,
        histories=Histories.of(histories, n_items, users=users),
        targets=Histories.of(targets, n_items),
    )


def random_case(
    seed: int = 0,
    *,
    users: int = 40,
    items: int = 60,
    levels: int | None = None,
    most_targets: int = 5,
    most_history: int = 20,
) -> tuple[NDArray, EvaluationSet]:
    """Makes random scores, with ties if few ``levels`` are asked for, and random users.

    Histories repeat items and may hold targets.
    """
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((users, items)).astype(np.float32)
    if levels is not None:
        scores = rng.integers(0, levels, (users, items)).astype(np.float32)
    histories, targets = [], []
    for _ in range(users):
        histories.append(rng.integers(0, items, rng.integers(0, most_history + 1)).tolist())
        targets.append(rng.choice(items, rng.integers(1, most_targets + 1), replace=False).tolist())
    return scores, evaluation_set(histories, targets, items)


def ranked_items(n_items: int, evaluation: EvaluationSet, row: int) -> list[int]:
    known = set(evaluation.histories[row]) - set(evaluation.targets[row])
    return [item for item in range(n_items) if item not in known]


def naive_ranks(scores: NDArray, evaluation: EvaluationSet) -> list[list[float]]:
    """The definition: mean place among equal scores, the user's other known items left out."""
    ranks = []
    for row in range(len(evaluation)):
        ranked = ranked_items(scores.shape[1], evaluation, row)
        of_user = []
        for target in dict.fromkeys(evaluation.targets[row].tolist()):
            above = sum(scores[row, item] > scores[row, target] for item in ranked)
            equal = sum(scores[row, item] == scores[row, target] for item in ranked)
            of_user.append(1 + above + (equal - 1) / 2)
        ranks.append(of_user)
    return ranks


def naive_list(scores: NDArray, evaluation: EvaluationSet, row: int, k: int) -> list[int]:
    ranked = ranked_items(scores.shape[1], evaluation, row)
    best = sorted(ranked, key=lambda item: (-scores[row, item], item))[:k]
    return best + [-1] * (k - len(best))
