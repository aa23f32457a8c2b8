"""What a random ranking scores: to be printed beside numbers of sampled and cold protocols."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.evaluation.outcome import Outcome
from dynmm_framework.evaluation.requests import MetricRequest


def chance(request: MetricRequest, n_ranked: int, *, n_targets: int = 1) -> float | None:
    """Returns the expected value for targets at random places among ``n_ranked`` items.

    Args:
        request: The metric and its cut-off.
        n_ranked: Number of ranked items, the targets among them: 20 for ``sampled:19``.
        n_targets: Number of targets.

    Returns:
        The expectation; ``None`` if the metric is not one of the core's rank metrics.
    """
    if not request.from_ranks:
        return None
    places = np.arange(1, n_ranked + 1)
    seen = places[: request.k]
    share = n_targets / n_ranked
    match request.function_name:
        case "hit" if n_targets > 1:
            return float(1 - _none_within(seen[-1:], n_ranked, n_targets)[0])
        case "hit" | "recall":
            return len(seen) / n_ranked
        case "precision":
            return share * len(seen) / (request.k or n_ranked)
        case "ndcg":
            gains = 1 / np.log2(seen + 1)
            best = 1 / np.log2(np.arange(2, min(n_targets, request.k or n_ranked) + 2))
            return float(share * gains.sum() / best.sum())
        case "map":
            # Of the places before that of a target, each holds one of the others equally often.
            others = (n_targets - 1) / max(n_ranked - 1, 1)
            return float(((1 + (seen - 1) * others) / seen).sum() / n_ranked)
        case "mrr":
            later = _none_within(seen, n_ranked, n_targets)
            earlier = np.concatenate([[1.0], later[:-1]])
            return float(((earlier - later) / seen).sum())
        case "auc":
            return 0.5
    return None


def mean_chance(request: MetricRequest, outcome: Outcome) -> float | None:
    """Returns the mean of :func:`chance` over the rows of an outcome.

    What is masked differs from user to user, and with it the number of ranked items.

    Args:
        request: The metric and its cut-off.
        outcome: Whose numbers of ranked items and of targets are taken.
    """
    if not len(outcome):
        return None
    sizes, times = np.unique(
        np.stack([outcome.n_ranked, outcome.n_targets]), axis=1, return_counts=True
    )
    levels = [chance(request, int(n), n_targets=int(m)) for n, m in sizes.T]
    if None in levels:
        return None
    return float(np.average(np.array(levels, np.float64), weights=times))


def _none_within(places: NDArray[np.int64], n_ranked: int, n_targets: int) -> NDArray[np.float64]:
    """Probability that none of the targets is within the first places, for each number of them."""
    none = np.ones(len(places))
    for target in range(n_targets):
        none *= np.clip(n_ranked - places - target, 0, None) / (n_ranked - target)
    return none
