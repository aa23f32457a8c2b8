"""Is one recommender better than another, or lucky? Paired statistics over users.

Users are the units: a test asks whether the difference would be there for other users like these.
Seeds are blocks: a user's values are averaged over the seeds of training before anything is
tested, so that a second seed makes each user's value steadier but never counts as a second user.
How far seeds scatter is reported by their means, not tested: three runs decide nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynmm_framework.errors import DataError

FEWEST_USERS = 6
"""With fewer pairs no sign pattern reaches p < .05 in a two-sided Wilcoxon test."""

RESAMPLES = 2000
_CELLS = 1 << 21
"""Elements of one piece of resampled values; bounds memory."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A paired comparison of recommender a with recommender b on the same users.

    Attributes:
        mean_a: Mean over users of a's values, averaged over seeds.
        mean_b: The same of b.
        difference: ``mean_a - mean_b``.
        ci_low: Lower end of the bootstrap 95 % interval of the difference, over users.
        ci_high: Upper end.
        t_p: Two-sided p-value of the paired t-test.
        wilcoxon_p: Two-sided p-value of the Wilcoxon signed-rank test.
        cohens_dz: Mean of the differences over their standard deviation.
        n: Number of users, those without a value for a or b left out.
        seed_means_a: Mean over these users for each seed of a.
        seed_means_b: The same of b.
        note: Why a value is NaN; empty if none is.
    """

    mean_a: float
    mean_b: float
    difference: float
    ci_low: float
    ci_high: float
    t_p: float
    wilcoxon_p: float
    cohens_dz: float
    n: int
    seed_means_a: tuple[float, ...]
    seed_means_b: tuple[float, ...]
    note: str = ""


def compare(
    a: Sequence[ArrayLike],
    b: Sequence[ArrayLike],
    *,
    users_a: ArrayLike | None = None,
    users_b: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compares two recommenders by a metric's values per user.

    Zero differences stay in the t-test. The Wilcoxon test follows Pratt: they are ranked with the
    others and then dropped, so that many unchanged users weaken it, as they should.

    Args:
        a: Values of each user, one array ``(n,)`` for each seed; NaN where undefined.
        b: The same users' values for the other recommender; any number of seeds.
        users_a: Ids of a's users, ``(n,)``, to make sure that they are the same as b's.
        users_b: Ids of b's users.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        The comparison. If all differences are zero the p-values are 1. With fewer than
        :data:`FEWEST_USERS` users p-values are NaN.

    Raises:
        DataError: If the two do not have the same users.
    """
    first, second = _stack(a), _stack(b)
    _check_users(first.shape[1], second.shape[1], users_a, users_b)
    known = ~(np.isnan(first).any(axis=0) | np.isnan(second).any(axis=0))
    first, second = first[:, known], second[:, known]
    n = int(known.sum())
    if n == 0:
        return _nothing(len(first), len(second))
    mean_a, mean_b = first.mean(axis=0), second.mean(axis=0)
    differences = mean_a - mean_b
    t_p, wilcoxon_p, note = _tests(differences)
    low, high = bootstrap_ci(differences, resamples=resamples, seed=seed)
    return Comparison(
        mean_a=float(mean_a.mean()),
        mean_b=float(mean_b.mean()),
        difference=float(differences.mean()),
        ci_low=low,
        ci_high=high,
        t_p=t_p,
        wilcoxon_p=wilcoxon_p,
        cohens_dz=_effect(differences),
        n=n,
        seed_means_a=tuple(first.mean(axis=1).tolist()),
        seed_means_b=tuple(second.mean(axis=1).tolist()),
        note=note,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for their number, step-down after Holm (1979).

    Args:
        p_values: Raw p-values of one family of comparisons; NaN ones are not part of it.

    Returns:
        Adjusted p-values in the same order, NaN where the raw one is.
    """
    raw = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(raw.shape, np.nan)
    order = np.argsort(raw)[: int((~np.isnan(raw)).sum())]  # NaN sorts last
    steps = raw[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


def bootstrap_ci(
    values: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns a percentile bootstrap interval of the mean over users.

    Args:
        values: One value for each user; NaN ones are left out.
        confidence: Probability mass of the interval.
        resamples: Number of resamples, each as large as the sample.
        seed: Equal seeds give equal intervals.

    Returns:
        Lower and upper end; NaN if there are fewer than two values.
    """
    sample = np.asarray(values, dtype=np.float64)
    sample = sample[~np.isnan(sample)]
    if len(sample) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    n = len(sample)
    distinct, counts = np.unique(sample, return_counts=True)
    means = np.empty(resamples)
    # Few distinct values, as hits have: to draw how often each occurs is the same as to draw
    # users, and much less work.
    few = len(distinct) * 20 < n
    step = max(1, _CELLS // (len(distinct) if few else n))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        if few:
            drawn = rng.multinomial(n, counts / n, size) @ distinct / n
        else:
            drawn = sample[rng.integers(0, n, (size, n), dtype=np.int32)].mean(axis=1)
        means[start : start + size] = drawn
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _nothing(n_a: int, n_b: int) -> Comparison:
    nan = float("nan")
    return Comparison(
        mean_a=nan,
        mean_b=nan,
        difference=nan,
        ci_low=nan,
        ci_high=nan,
        t_p=nan,
        wilcoxon_p=nan,
        cohens_dz=nan,
        n=0,
        seed_means_a=(nan,) * n_a,
        seed_means_b=(nan,) * n_b,
        note="no user has a value for both",
    )


def _stack(seeds: Sequence[ArrayLike]) -> Values:
    arrays = [np.asarray(values, dtype=np.float64) for values in seeds]
    if not arrays:
        raise ValueError("no seed to compare: pass one array of values for each seed")
    if len({array.shape for array in arrays}) > 1:
        counts = ", ".join(f"{array.size:,}" for array in arrays)
        raise DataError(
            f"the seeds of one recommender have different numbers of users: {counts}",
            hint="Compare seeds of one run: they share split and users.",
        )
    return np.stack(arrays)


def _check_users(n_a: int, n_b: int, users_a: ArrayLike | None, users_b: ArrayLike | None) -> None:
    hint = "Paired tests need the same data, filters, split, seed and evaluate.max_users."
    if n_a != n_b:
        raise DataError(
            f"the recommenders were evaluated on different users: {n_a:,} and {n_b:,} of them",
            hint=hint,
        )
    if users_a is None or users_b is None:
        return
    first, second = np.asarray(users_a), np.asarray(users_b)
    if not np.array_equal(first, second):
        common = len(np.intersect1d(first, second))
        what = (
            "the users of the two recommenders are in different order"
            if common == len(first)
            else f"the recommenders were evaluated on different users: only {common:,} of"
            f" {len(first):,} are the same"
        )
        raise DataError(what, hint=hint)


def _tests(differences: Values) -> tuple[float, float, str]:
    """Returns p-values of the t-test and of Wilcoxon's, and why one is NaN."""
    from scipy import stats

    n = len(differences)
    if n < FEWEST_USERS:
        note = f"{n} users are too few for a test; {FEWEST_USERS} are the least"
        return float("nan"), float("nan"), note
    if not differences.any():
        return 1.0, 1.0, ""
    with warnings.catch_warnings():
        # Of ties and zeros, which make the p-value asymptotic: that is known and documented.
        warnings.simplefilter("ignore")
        wilcoxon_p = float(stats.wilcoxon(differences, zero_method="pratt").pvalue)
        t_p = float(stats.ttest_1samp(differences, 0.0).pvalue)
    if _constant(differences):
        return float("nan"), wilcoxon_p, "every user differs by the same amount: no t-test"
    return t_p, wilcoxon_p, ""


def _effect(differences: Values) -> float:
    if len(differences) < 2:
        return float("nan")
    if not differences.any():
        return 0.0
    if _constant(differences):
        return float("nan")
    return float(differences.mean() / differences.std(ddof=1))


def _constant(differences: Values) -> bool:
    """Whether what varies is rounding only."""
    return bool(np.ptp(differences) <= 1e-12 * np.abs(differences).max())
