"""Statistics against scipy, statsmodels and simulation."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from dynmm_framework.errors import DataError
from dynmm_framework.evaluation import significance
from dynmm_framework.evaluation.significance import bootstrap_ci, compare, holm


@pytest.mark.parametrize("n", [1, 2, 9])
def test_holm_is_that_of_statsmodels(n: int) -> None:
    p_values = (np.random.default_rng(n).random(n) ** 4).round(2)  # small, some of them equal
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(holm(p_values.tolist()), expected, atol=1e-12)


def test_holm_leaves_undefined_comparisons_out() -> None:
    found = holm([0.01, math.nan, 0.04])
    assert found[0] == pytest.approx(0.02)
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(0.04)
    assert holm([]) == []


def test_compare_is_the_tests_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(300), rng.random(300) - 0.03
    b[:60] = a[:60]  # users for whom nothing changes
    found = compare([a], [b])
    assert found.t_p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert found.wilcoxon_p == pytest.approx(stats.wilcoxon(a, b, zero_method="pratt").pvalue)
    assert found.difference == pytest.approx((a - b).mean())
    assert (found.mean_a, found.mean_b) == (pytest.approx(a.mean()), pytest.approx(b.mean()))
    assert found.cohens_dz == pytest.approx((a - b).mean() / (a - b).std(ddof=1))
    assert found.ci_low < found.difference < found.ci_high
    assert (found.n, found.note) == (300, "")


def test_the_other_way_round_only_signs_change() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(50), rng.random(50)
    one, other = compare([a], [b]), compare([b], [a])
    assert one.difference == pytest.approx(-other.difference)
    assert one.cohens_dz == pytest.approx(-other.cohens_dz)
    assert one.t_p == pytest.approx(other.t_p)
    assert one.wilcoxon_p == pytest.approx(other.wilcoxon_p)


def test_seeds_are_averaged_within_users_and_are_no_further_users() -> None:
    rng = np.random.default_rng(2)
    user = rng.random(80)
    a = [user + 0.1 * rng.standard_normal(80) for _ in range(3)]
    b = [user - 0.02]
    found = compare(a, b)
    single = compare([np.mean(a, axis=0)], b)
    assert found.n == 80
    assert found.t_p == single.t_p
    assert found.seed_means_a == pytest.approx([one.mean() for one in a])
    assert found.seed_means_b == pytest.approx([b[0].mean()])
    repeated = compare(b * 5, [user])
    assert repeated.t_p == compare(b, [user]).t_p or math.isnan(repeated.t_p)


def test_no_difference_at_all_is_p_1() -> None:
    a = np.random.default_rng(0).random(40)
    found = compare([a], [a.copy()])
    assert (found.t_p, found.wilcoxon_p, found.cohens_dz, found.difference) == (1, 1, 0, 0)
    assert (found.ci_low, found.ci_high) == (0, 0)


def test_the_same_difference_for_everybody_has_no_t_test() -> None:
    a = np.random.default_rng(0).random(40)
    found = compare([a], [a - 0.25])
    assert math.isnan(found.t_p)
    assert math.isnan(found.cohens_dz)
    assert found.wilcoxon_p < 1e-6
    assert found.note == "every user differs by the same amount: no t-test"


@pytest.mark.parametrize("n", [1, 2, 5])
def test_too_few_users_have_no_p_value(n: int) -> None:
    found = compare([np.arange(n) + 1.0], [np.zeros(n)])
    assert math.isnan(found.t_p)
    assert math.isnan(found.wilcoxon_p)
    assert found.difference == (n + 1) / 2
    assert found.note == f"{n} users are too few for a test; 6 are the least"


def test_users_without_a_value_are_left_out() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random(30), rng.random(30)
    missing = a.copy()
    missing[4] = np.nan
    expected = compare([np.delete(a, 4)], [np.delete(b, 4)])
    assert compare([missing, a], [b, b]).n == 29
    assert compare([missing], [b]) == expected
    nothing = compare([np.full(3, np.nan)], [np.ones(3)])
    assert (nothing.n, nothing.note) == (0, "no user has a value for both")


def test_other_users_are_refused() -> None:
    ones = np.ones(10)
    with pytest.raises(DataError, match="evaluated on different users: 10 and 9 of them"):
        compare([ones], [ones[:9]])
    with pytest.raises(DataError, match="only 8 of 10 are the same"):
        compare([ones], [ones], users_a=np.arange(10), users_b=np.arange(2, 12))
    with pytest.raises(DataError, match="in different order"):
        compare([ones], [ones], users_a=np.arange(10), users_b=np.arange(10)[::-1])
    with pytest.raises(DataError, match="different numbers of users: 10, 9"):
        compare([ones, ones[:9]], [ones])
    with pytest.raises(ValueError, match="no seed to compare"):
        compare([], [ones])
    same = compare([ones], [ones], users_a=np.arange(10), users_b=np.arange(10))
    assert same.n == 10


@pytest.mark.parametrize("levels", [2, 10_000])
def test_the_bootstrap_interval_is_near_the_normal_one(levels: int) -> None:
    rng = np.random.default_rng(4)
    values = rng.integers(0, levels, 3000) / (levels - 1)
    low, high = bootstrap_ci(values)
    error = 1.96 * values.std() / math.sqrt(3000)
    assert low == pytest.approx(values.mean() - error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + error, abs=0.15 * error)


def test_the_bootstrap_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(300):
        low, high = bootstrap_ci(rng.random(60) < 0.4, resamples=400, seed=trial)
        covered += low <= 0.4 <= high
    assert 0.89 <= covered / 300 <= 0.99


def test_the_bootstrap_depends_on_its_seed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(6).random(500)
    assert bootstrap_ci(values, seed=1) == bootstrap_ci(values, seed=1)
    assert bootstrap_ci(values, seed=1) != bootstrap_ci(values, seed=2)
    whole = bootstrap_ci(values, seed=1)
    monkeypatch.setattr(significance, "_CELLS", 500 * 64)
    assert bootstrap_ci(values, seed=1) == pytest.approx(whole, abs=1e-12)


def test_the_bootstrap_of_too_little_is_undefined() -> None:
    assert all(math.isnan(end) for end in bootstrap_ci([1.0, math.nan]))
    assert bootstrap_ci([1.0, 1.0, math.nan]) == (1.0, 1.0)


def test_statistics_need_no_torch() -> None:
    code = (
        "import sys, dynmm_framework.evaluation.significance, dynmm_framework.evaluation.outcome;"
        "assert not {'torch', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
