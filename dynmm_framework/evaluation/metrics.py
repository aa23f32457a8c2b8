"""Ranking metrics: plain functions of an outcome and a cut-off.

Gains are binary. A target counts at cut-off k if its rank, the mean rank of its tie, is at most
k, and if it is among its user's k best-ranked targets: a tie of more than k targets cannot fill
a list of k more than once. A cut-off of ``None`` looks at the whole ranking.

Functions return one value for each row of the outcome, NaN where the metric is undefined, or a
single number where it describes all lists together. Lists of sampled candidates are mostly
random items, so what is said about lists is NaN there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dynmm_framework.evaluation.outcome import Outcome

Values = NDArray[np.float64]

FROM_RANKS = frozenset({"hit", "ndcg", "recall", "precision", "map", "mrr", "auc"})
"""Functions of this module that need no lists of items."""


def hit(outcome: Outcome, k: int | None) -> Values:
    """1 for users with a target within the best k, else 0."""
    return (outcome.best_ranks <= _limit(k)).astype(np.float64)


def ndcg(outcome: Outcome, k: int | None) -> Values:
    """Discounted gain Σ 1 / log2(rank + 1) over that of the best order of min(targets, k)."""
    gains = outcome.sum(_counted(outcome, k) / np.log2(outcome.ranks + 1))
    most = int(min(_limit(k), outcome.n_targets.max(initial=1)))
    ideal = np.cumsum(1 / np.log2(np.arange(2, most + 2)))
    best: Values = ideal[np.minimum(outcome.n_targets, most) - 1]
    return gains / best


def recall(outcome: Outcome, k: int | None) -> Values:
    """Share of a user's targets within the best k."""
    return outcome.sum(_counted(outcome, k)) / outcome.n_targets


def precision(outcome: Outcome, k: int | None) -> Values:
    """Share of the best k that are targets; of all ranked items without a cut-off."""
    return outcome.sum(_counted(outcome, k)) / (outcome.n_ranked if k is None else k)


def map(outcome: Outcome, k: int | None) -> Values:  # named as in the literature
    """Average precision: Σ precision at each target within the best k, over all targets.

    The denominator is the number of targets, as in trec_eval's ``map_cut``, also if it is
    larger than k.
    """
    precisions = outcome.ordinals / outcome.ranks
    return outcome.sum(_counted(outcome, k) * precisions) / outcome.n_targets


def mrr(outcome: Outcome, k: int | None) -> Values:
    """Reciprocal rank of the best target; 0 beyond the cut-off if there is one."""
    return np.where(outcome.best_ranks <= _limit(k), 1 / outcome.best_ranks, 0.0)


def auc(outcome: Outcome, k: int | None) -> Values:
    """Probability that a target is ranked above an item that is none, a tie counting half.

    Takes no cut-off. NaN for users whose ranked items are all targets.
    """
    targets = outcome.n_targets
    others = outcome.n_ranked - targets
    above = outcome.sum(outcome.ranks) - targets * (targets + 1) / 2
    known = others > 0
    return np.where(known, 1 - above / np.where(known, targets * others, 1), np.nan)


def coverage(outcome: Outcome, k: int | None) -> float:
    """Share of the ranked items, those of the catalogue or a pool, in at least one list of k."""
    if outcome.sampled or not len(outcome):
        return np.nan
    return float((_recommended(outcome, k) > 0).mean())


def gini(outcome: Outcome, k: int | None) -> float:
    """Gini coefficient of how often each ranked item is listed among the best k.

    0 if all ranked items are listed equally often; near 1 if few items fill all lists.
    """
    counts = np.sort(_recommended(outcome, k))
    n, total = len(counts), counts.sum()
    if outcome.sampled or total == 0:
        return np.nan
    return float(((2 * np.arange(1, n + 1) - n - 1) * counts).sum() / (n * total))


def novelty(outcome: Outcome, k: int | None) -> Values:
    """Mean self-information -log2 p of the listed items, in bits.

    p is an item's share of the training interactions, each item counted once more than it occurs.
    """
    smoothed = outcome.item_counts + 1.0
    return _mean_over_list(outcome, k, -np.log2(smoothed / smoothed.sum()))


def popularity_bias(outcome: Outcome, k: int | None) -> float:
    """Popularity of what is recommended over the popularity of what users chose themselves.

    The mean over users of the mean training count of their k listed items, over the mean over
    users of the mean training count of their history (the group average popularities of
    Abdollahpouri et al., 2019). 1 is unbiased; above 1, users get more popular items than they
    chose. Users with an empty history or list are left out.
    """
    counts = outcome.item_counts.astype(np.float64)
    listed = _mean_over_list(outcome, k, counts)
    histories = outcome.histories
    chosen = np.bincount(histories.rows, counts[histories.items], len(histories))
    known = (histories.lengths > 0) & ~np.isnan(listed)
    before = (chosen[known] / histories.lengths[known]).sum()
    return float(listed[known].sum() / before) if before > 0 else np.nan


def diversity(outcome: Outcome, k: int | None) -> Values:
    """Intra-list diversity: 1 - the mean similarity of pairs among a user's k listed items.

    The similarity of two items is the cosine of their sets of categories, |A ∩ B| / √(|A| |B|).
    Items without categories are left out; users with fewer than two others get NaN.
    """
    categories = outcome.categories
    if categories is None or outcome.sampled:
        return np.full(len(outcome), np.nan)
    n_categories = categories.n_categories
    weights = 1 / np.sqrt(np.maximum(np.diff(categories.offsets), 1))
    out = np.full(len(outcome), np.nan)
    lists = outcome.lists(k)
    for start in range(0, len(outcome), 8192):  # bounds the expansion to (user, category) pairs
        rows, columns = np.nonzero(lists[start : start + 8192] >= 0)
        items = lists[start : start + 8192][rows, columns]
        sizes = categories.offsets[items + 1] - categories.offsets[items]
        listed = np.bincount(rows[sizes > 0], minlength=len(lists[start : start + 8192]))
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        ids = categories.ids[np.repeat(categories.offsets[items], sizes) + within]
        # The squared norm of the sum of unit vectors is their number plus twice the cosines.
        keys, places = np.unique(np.repeat(rows, sizes) * n_categories + ids, return_inverse=True)
        sums = np.bincount(places, np.repeat(weights[items], sizes), len(keys))
        squares = np.bincount(keys // n_categories, sums**2, len(listed))
        known = listed > 1
        pairs = listed[known] * (listed[known] - 1)
        out[start : start + 8192][known] = 1 - (squares[known] - listed[known]) / pairs
    return out


def _limit(k: int | None) -> float:
    return np.inf if k is None else k


def _counted(outcome: Outcome, k: int | None) -> Values:
    """1 for targets that count at the cut-off, else 0; ``(n_targets,)``."""
    limit = _limit(k)
    return ((outcome.ranks <= limit) & (outcome.ordinals <= limit)).astype(np.float64)


def _recommended(outcome: Outcome, k: int | None) -> NDArray[np.int64]:
    """Number of lists of k that each ranked item appears in, ``(n_items,)`` or of the pool."""
    lists = outcome.lists(k)
    counts = np.bincount(lists[lists >= 0], minlength=outcome.n_items)
    return counts if outcome.pool is None else counts[outcome.pool]


def _mean_over_list(outcome: Outcome, k: int | None, values: Values) -> Values:
    """Mean of a value of items over each row's list; NaN for empty lists and sampled ones."""
    lists = outcome.lists(k)
    present = lists >= 0
    sizes = present.sum(axis=1)
    sums = np.where(present, values[lists], 0.0).sum(axis=1)
    if outcome.sampled:
        return np.full(len(outcome), np.nan)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), np.nan)
