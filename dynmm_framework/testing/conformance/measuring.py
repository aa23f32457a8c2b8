"""Copies to hand out, references to compare with, and metrics on the generated data."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.catalogue import Catalogue
from dynmm_framework.data.splits import Split
from dynmm_framework.data.tables import Dataset, Histories, TrainingData
from dynmm_framework.evaluation.evaluate import MetricRequest, evaluate, expand
from dynmm_framework.evaluation.ranking import as_recommender
from dynmm_framework.protocols import IntArray, Scores
from dynmm_framework.specs import split_metric
from dynmm_framework.testing.conformance.component import require


def as_array(scores: Scores) -> NDArray[Any]:
    """Returns scores as NumPy, from wherever they are."""
    return scores.detach().cpu().numpy() if hasattr(scores, "detach") else np.asarray(scores)


def copy_histories(histories: Histories) -> Histories:
    """Returns histories with arrays of their own."""
    return replace(
        histories,
        offsets=histories.offsets.copy(),
        items=histories.items.copy(),
        users=None if histories.users is None else histories.users.copy(),
        ratings=None if histories.ratings is None else histories.ratings.copy(),
    )


def copy_data(data: TrainingData) -> TrainingData:
    """Returns training data with arrays of its own."""
    train = data.train
    own = replace(
        train,
        users=train.users.copy(),
        items=train.items.copy(),
        timestamps=None if train.timestamps is None else train.timestamps.copy(),
        ratings=None if train.ratings is None else train.ratings.copy(),
    )
    features = {
        name: replace(found, vectors=found.vectors.copy(), present=found.present.copy())
        for name, found in data.features.items()
    }
    return TrainingData(own, data.items, features)


def largest_difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Returns the largest difference between two arrays; NaN equals NaN and nothing else."""
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        return float(np.abs(np.where(same, 0, one - other)).max())


@contextmanager
def other_global_randomness() -> Iterator[None]:
    """Puts the global generators into another state, and back into the old one at the end."""
    import torch

    old, old_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        random.seed(20_260_101)
        np.random.seed(20_260_101)  # noqa: NPY002
        torch.manual_seed(20_260_101)
        try:
            yield
        finally:
            random.setstate(old)
            np.random.set_state(old_numpy)  # noqa: NPY002


def measure(
    model: Any, metrics: Iterable[str], catalogue: Catalogue, split: Split, dataset: Dataset
) -> Mapping[str, float]:
    """Evaluates a model on the split's test users.

    Args:
        model: A trained recommender or backbone.
        metrics: Names such as ``ndcg@10``.
        catalogue: Knows the metrics.
        split: The split.
        dataset: The data that was split; its item table has the categories.
    """
    requests = [_request(name, catalogue) for name in metrics]
    found = evaluate(
        as_recommender(model),
        split.evaluation("test"),
        requests,
        item_counts=split.train.item_counts(),
        items=dataset.items,
        latency_users=0,
    )
    absent = [request.name for request in requests if request.name not in found.values]
    require(not absent, f"undefined on the generated data: {', '.join(absent)}")
    return found.values


def _request(name: str, catalogue: Catalogue) -> MetricRequest:
    family, k = split_metric(name)
    (request,) = expand([catalogue.metric(family)], [k or 10])
    require(request.name == name, f"expected: there is no metric {name}; write {request.name}")
    return request


def require_scores(scores: NDArray[Any], histories: Histories, what: str) -> None:
    """Fails the test unless there is one finite score for each history and item.

    Args:
        scores: What a component returned, as NumPy.
        histories: What it was asked for.
        what: Names the histories in the message.
    """
    __tracebackhide__ = True
    wanted = (len(histories), histories.n_items)
    require(
        scores.shape == wanted,
        f"{what}: scores have shape {scores.shape}, not {wanted} (histories, items of the"
        " catalogue).",
    )
    bad = int((~np.isfinite(scores)).sum())
    require(
        bad == 0,
        f"{what}: {bad} of {scores.size} scores are NaN or infinite. Give what is unknown a low"
        " finite score.",
    )


class RandomScores:
    """A recommender that knows nothing."""

    def score(self, histories: Histories, candidates: IntArray | None = None) -> NDArray[Any]:
        width = histories.n_items if candidates is None else candidates.shape[1]
        return np.random.default_rng(0).random((len(histories), width), dtype=np.float32)


class PopularityScores:
    """A recommender that knows how often each item was chosen, and nothing else."""

    def __init__(self, counts: NDArray[Any]) -> None:
        self.counts = counts.astype(np.float32)

    def score(self, histories: Histories, candidates: IntArray | None = None) -> NDArray[Any]:
        if candidates is not None:
            return self.counts[candidates]
        return np.tile(self.counts, (len(histories), 1))
