"""What a random ranking scores: to be printed beside numbers of sampled protocols."""

from __future__ import annotations

import numpy as np

from dynmm_framework.evaluation.requests import MetricRequest


def chance(request: MetricRequest, n_ranked: int) -> float | None:
    """Returns the expected value for one target at a random place among ``n_ranked`` items.

    Args:
        request: The metric and its cut-off.
        n_ranked: Number of ranked items, the target among them: 20 for ``sampled:19``.

    Returns:
        The expectation; ``None`` if the metric is not one of the core's rank metrics.
    """
    if not request.from_ranks:
        return None
    places = np.arange(1, n_ranked + 1)
    seen = places[: request.k]
    match request.function_name:
        case "hit" | "recall":
            return len(seen) / n_ranked
        case "precision":
            return len(seen) / n_ranked / (request.k or n_ranked)
        case "ndcg":
            return float((1 / np.log2(seen + 1)).sum() / n_ranked)
        case "map" | "mrr":
            return float((1 / seen).sum() / n_ranked)
        case "auc":
            return 0.5
    return None
