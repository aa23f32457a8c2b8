"""Registers the ranking metrics; the functions are the core's, the door is everyone's."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import MetricSpec

_METRICS = "dynmm_framework.evaluation.metrics"


@hookimpl
def dynmm_register_metrics() -> list[MetricSpec]:
    """Registers accuracy, beyond-accuracy and diversity metrics."""
    return [
        MetricSpec(
            name="hit",
            target=f"{_METRICS}:hit",
            higher_is_better=True,
            summary="Share of users with a target among the best k",
        ),
        MetricSpec(
            name="ndcg",
            target=f"{_METRICS}:ndcg",
            higher_is_better=True,
            summary="Normalised discounted cumulative gain, binary gains",
        ),
        MetricSpec(
            name="recall",
            target=f"{_METRICS}:recall",
            higher_is_better=True,
            summary="Share of a user's targets among the best k",
        ),
        MetricSpec(
            name="precision",
            target=f"{_METRICS}:precision",
            higher_is_better=True,
            summary="Share of the best k that are targets",
        ),
        MetricSpec(
            name="map",
            target=f"{_METRICS}:map",
            higher_is_better=True,
            summary="Mean average precision, over all targets as in trec_eval's map_cut",
        ),
        MetricSpec(
            name="mrr",
            target=f"{_METRICS}:mrr",
            higher_is_better=True,
            summary="Mean reciprocal rank of the best target, without cut-off",
            at_cutoff=False,
        ),
        MetricSpec(
            name="auc",
            target=f"{_METRICS}:auc",
            higher_is_better=True,
            summary="Probability that a target is ranked above another item",
            at_cutoff=False,
        ),
        MetricSpec(
            name="coverage",
            target=f"{_METRICS}:coverage",
            higher_is_better=True,
            summary="Share of the catalogue that appears in some list of k",
            per_user=False,
        ),
        MetricSpec(
            name="gini",
            target=f"{_METRICS}:gini",
            higher_is_better=False,
            summary="Gini coefficient of how often items are recommended; 0 is even",
            per_user=False,
        ),
        MetricSpec(
            name="novelty",
            target=f"{_METRICS}:novelty",
            higher_is_better=True,
            summary="Mean self-information of recommended items, in bits",
        ),
        MetricSpec(
            name="popularity_bias",
            target=f"{_METRICS}:popularity_bias",
            higher_is_better=False,
            summary="Popularity of recommended items over that of the users' own choices",
            per_user=False,
        ),
        MetricSpec(
            name="diversity",
            target=f"{_METRICS}:diversity",
            higher_is_better=True,
            summary="1 - mean cosine similarity of the categories of pairs within a list",
        ),
    ]
