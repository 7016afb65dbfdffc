import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from reports import stats


def test_t_interval_is_scipys_below_ten_values():
    x = [0.95, 0.97, 0.96]
    estimate = stats.estimate(x)
    low, high = scipy_stats.t.interval(0.95, 2, loc=np.mean(x), scale=scipy_stats.sem(x))
    assert (estimate.mean, estimate.std, estimate.n) == (pytest.approx(0.96), pytest.approx(0.01), 3)
    assert (estimate.low, estimate.high) == pytest.approx((low, high))


def test_interval_is_the_seeded_bootstrap_from_ten_values():
    x = np.random.default_rng(1).exponential(size=12)
    expected = scipy_stats.bootstrap((x,), np.mean, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    estimate = stats.estimate(x)
    assert (estimate.low, estimate.high) == tuple(expected)
    assert estimate == stats.estimate(x)


@pytest.mark.parametrize("n", [2, 12])
def test_identical_values_have_an_interval_of_no_width(n):
    estimate = stats.estimate([0.1 + 0.2] * n)
    assert (estimate.std, estimate.low, estimate.high) == (0.0, estimate.mean, estimate.mean)


def test_one_value_has_no_interval_and_none_has_no_mean():
    one, none = stats.estimate([0.9]), stats.estimate([math.nan])
    assert one.mean == 0.9
    assert all(map(math.isnan, (one.std, one.low, one.high, none.mean, none.std)))
    assert (one.n, none.n) == (1, 0)


def test_paired_p_is_scipys():
    a, b = [0.95, 0.97, 0.96], [0.94, 0.95, 0.955]
    assert stats.paired_p_value(np.subtract(a, b)) == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [([0.0, 0.0, 0.0], 1.0), ([0.01] * 3, 0.25), ([0.3 - 0.2, 0.4 - 0.3, 0.5 - 0.4], 0.25), ([0.01] * 6, 2**-5)],
    ids=["none", "constant", "constant up to round-off", "constant over six seeds"],
)
def test_p_without_variance(differences, expected):
    assert stats.paired_p_value(differences) == expected


def test_p_of_one_pair_is_nan():
    assert math.isnan(stats.paired_p_value([0.1]))


def test_holm_worked_example():
    # Holm (1979) with m = 4: factors 4, 3, 2, 1 in order of p, made monotone
    corrected = stats.holm([0.01, 0.04, math.nan, 0.03, 0.005])
    assert corrected[:2] + corrected[3:] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert math.isnan(corrected[2])


def test_power_of_a_textbook_case():
    # Cohen (1988): d = 0.5, two-sided alpha 0.05, power 0.8 needs 34 pairs
    assert stats.seeds_needed(0.5, 1.0) == 34
    assert stats.power_of_paired_test(0.5, 34) == pytest.approx(0.8078, abs=1e-3)


def test_power_against_simulation():
    rng = np.random.default_rng(0)
    draws = rng.normal(2.0, 1.0, size=(20_000, 5))
    rate = (scipy_stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
    assert stats.power_of_paired_test(2.0, 5) == pytest.approx(rate, abs=0.01)  # 3 standard errors


@pytest.mark.parametrize("n", [2, 3, 5, 30])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
def test_detectable_difference_has_the_power(n, alpha):
    difference = stats.detectable_difference(0.01, n, alpha=alpha)
    assert stats.power_of_paired_test(difference / 0.01, n, alpha=alpha) == pytest.approx(0.8, abs=1e-6)


def test_detectable_difference_is_undefined_without_variance_or_pairs():
    assert math.isnan(stats.detectable_difference(0.0, 3))
    assert math.isnan(stats.detectable_difference(0.1, 1))


@pytest.mark.parametrize(
    ("difference", "std", "expected"),
    [(0.0, 1.0, None), (math.nan, 1.0, None), (1e-4, 1.0, None), (0.01, 0.0, 6), (0.01, math.nan, None)],
    ids=["no difference", "unknown", "too many", "constant difference", "one seed"],
)
def test_seeds_needed_at_the_edges(difference, std, expected):
    assert stats.seeds_needed(difference, std) == expected


def test_probability_of_improvement_is_mann_whitney():
    a, b = [0.9, 0.8, 0.7], [0.75, 0.8]
    u = scipy_stats.mannwhitneyu(a, b).statistic
    assert stats.probability_of_improvement(a, b) == pytest.approx(u / 6)
    assert stats.probability_of_improvement(a, b, sign=-1) == pytest.approx(1 - u / 6)


def test_a_lost_run_never_improves():
    assert stats.probability_of_improvement([math.nan, 0.9], [0.8, 0.7]) == 0.5
    assert stats.probability_of_improvement([math.nan], [math.nan]) == 0.5


def test_comparisons_use_common_seeds_and_correct_over_tested_pairs():
    table = pd.DataFrame({
        "a": [0.97, 0.98, 0.99, math.nan],
        "b": [0.91, 0.93, 0.92, 0.95],
        "c": [0.5, math.nan, math.nan, 0.7],
    })
    ab, ac, bc = stats.compare_all(table, exclude=["c"])
    assert (ab.n, ab.difference) == (3, pytest.approx(0.06))
    assert ab.p_holm == ab.p_value  # the only tested pair
    assert ab.resolved
    assert ac.excluded and bc.excluded and not (ac.resolved or bc.resolved)
    assert math.isnan(ac.p_holm) and ac.seeds_needed is None


def test_one_seed_resolves_nothing():
    (pair,) = stats.compare_all(pd.DataFrame({"a": [0.9], "b": [0.1]}))
    assert not pair.resolved and not pair.excluded and math.isnan(pair.p_holm)


def resolved_pairs(arms):
    """The decision of a table, arms being a column each."""
    pairs = combinations(arms.T, 2)
    return [p < stats.ALPHA for p in stats.holm([stats.paired_p_value(a - b) for a, b in pairs])]


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_equal_arms_are_rarely_resolved(num_seeds):
    rng = np.random.default_rng(num_seeds)
    wrong = [any(resolved_pairs(rng.normal(size=(num_seeds, 4)))) for _ in range(1000)]
    assert np.mean(wrong) <= 0.065


def test_a_large_difference_is_mostly_resolved():
    rng = np.random.default_rng(0)
    found = [any(resolved_pairs(rng.normal(size=(5, 2)) + [0.0, 3.0])) for _ in range(1000)]
    assert np.mean(found) >= 0.85


def test_basin_width_in_decades():
    lrs, scores = [1e-4, 1e-3, 1e-2, 1e-1, 1.0], [0.5, 0.97, 0.98, 0.97, math.nan]
    assert stats.basin_width(lrs, scores) == pytest.approx(2.0)
    assert stats.basin_width(lrs, [5.0, 1.015, 1.0, 1.5, math.nan], sign=-1) == pytest.approx(1.0)
    assert math.isnan(stats.basin_width(lrs, [math.nan] * 5))


def test_divergence_rate_leaves_failed_runs_out():
    assert stats.divergence_rate(["diverged", "completed", "failed"]) == 0.5
    assert math.isnan(stats.divergence_rate(["failed"]))
