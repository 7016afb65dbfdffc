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


def on_grid(noise):
    """Accuracies of 270 test samples whose seeds vary by about one sample, of a net that gets 96 % of them right."""
    return np.minimum(np.round(270 * (0.96 + 0.004 * noise)), 270) / 270


NOISE = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy tails": lambda rng, shape: rng.standard_t(3, size=shape),
}
METRICS = {"any number": lambda noise: noise, "accuracy of 270 samples": on_grid}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_equal_arms_are_rarely_resolved(num_seeds, noise, metric):
    rng = np.random.default_rng(num_seeds)
    wrong = 0
    for _ in range(1000):
        scores = metric(noise(rng, (num_seeds, 4)) + noise(rng, (num_seeds, 1)))  # of an arm's own, and the seed's
        wrong += any(test.resolved for test in stats.paired_tests(pd.DataFrame(scores)))
    assert wrong <= 65


def two_arms(rng):
    """Five seeds of two arms that differ by three times the standard deviation of an arm over its seeds."""
    return pd.DataFrame(rng.normal(size=(5, 2)) + [3.0, 0.0])


def test_a_difference_of_three_seed_stds_is_mostly_resolved():
    # nothing is shared by the seeds here, so that the differences spread by sqrt(2) seed stds: the harder reading
    rng = np.random.default_rng(0)
    found = np.mean([stats.paired_tests(two_arms(rng))[0].resolved for _ in range(1000)])
    assert found >= 0.85
    assert found == pytest.approx(stats.power_of_paired_test(3 / math.sqrt(2), 5), abs=0.025)  # 3 standard errors


def test_comparisons_decide_as_the_tests_do():
    rng = np.random.default_rng(1)
    for table in (pd.DataFrame(rng.normal(size=(5, 4)) + [2.0, 1.0, 0.0, 0.0], columns=list("abcd")) for _ in range(9)):
        table.iloc[0, 3] = math.nan
        tests, pairs = stats.paired_tests(table, exclude="c"), stats.compare_all(table, exclude="c")
        for name in ("first", "second", "p_value", "p_holm", "excluded", "resolved"):
            found = [[getattr(one, name) for one in both] for both in (tests, pairs)]
            np.testing.assert_array_equal(*found)
        assert [pair.n for pair in pairs] == [5, 5, 4, 5, 4, 4]


def test_pairs_are_tested_as_scipy_and_holm_do():
    table = pd.DataFrame({"a": [0.97, 0.98, 0.99], "b": [0.91, 0.93, 0.92], "c": [0.95, 0.93, 0.96]})
    tests = stats.paired_tests(table)
    expected = [scipy_stats.ttest_rel(table[one], table[other]).pvalue for one, other in combinations(table, 2)]
    assert [(test.first, test.second) for test in tests] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [test.p_value for test in tests] == pytest.approx(expected)
    assert [test.p_holm for test in tests] == stats.holm([test.p_value for test in tests])
    assert tests[0].differences == pytest.approx([0.06, 0.05, 0.07])


def test_an_infinite_loss_is_not_tested():
    table = pd.DataFrame({"a": [math.inf, *[1.0] * 6], "b": [1.0] * 7})
    [pair] = stats.paired_tests(table)
    assert math.isnan(pair.p_value) and not pair.resolved


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], (math.nan, math.nan)), ([2.0], (2.0, math.nan)), ([0.1 + 0.2, 0.3], (0.3, 0.0))],
    ids=["none", "one", "equal up to round-off"],
)
def test_mean_and_std_at_the_edges(values, expected):
    assert stats.mean_and_std(np.array(values)) == pytest.approx(expected, nan_ok=True)


def test_mean_and_std_are_numpys():
    x = np.array([0.1, 0.4, 0.7, 1.0])
    assert stats.mean_and_std(x) == pytest.approx((np.mean(x), np.std(x, ddof=1)))


def test_basin_width_in_decades():
    lrs, scores = [1e-4, 1e-3, 1e-2, 1e-1, 1.0], [0.5, 0.97, 0.98, 0.97, math.nan]
    assert stats.basin_width(lrs, scores) == pytest.approx(2.0)
    assert stats.basin_width(lrs, [5.0, 1.015, 1.0, 1.5, math.nan], sign=-1) == pytest.approx(1.0)
    assert math.isnan(stats.basin_width(lrs, [math.nan] * 5))


def test_divergence_rate_leaves_failed_runs_out():
    assert stats.divergence_rate(["diverged", "completed", "failed"]) == 0.5
    assert math.isnan(stats.divergence_rate(["failed"]))


def test_spikes_are_counted_against_the_median_of_the_samples_before():
    losses = [2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.1, 1.0, 1.9, 1.0]  # the last five are judged, and one is above twice 1.0
    assert stats.spike_rate(losses) == pytest.approx(0.2)
    assert stats.spike_rate(losses, ratio=1.5) == pytest.approx(0.4)
    assert stats.spike_rate([*losses[:7], math.nan, math.inf, *losses[7:]]) == pytest.approx(0.2)


def test_the_window_of_a_spike_is_nine_samples():
    assert stats.spike_rate([9.0] * 5 + [1.0] * 8 + [2.5]) == pytest.approx(1 / 9)  # of 9, 8 are 1.0: the 9.0s are past
    assert stats.spike_rate([9.0] * 5 + [1.0] * 4 + [2.5]) == 0.0  # the median of 9 is still 9.0


def test_noise_of_a_loss_near_zero_is_no_spike():
    assert stats.spike_rate([2.0, *[0.001] * 6, 0.07, 0.081]) == pytest.approx(0.25)  # the floor: twice 2 % of 2.0


def test_too_few_losses_have_no_spike_rate():
    assert math.isnan(stats.spike_rate([1.0] * 5)) and math.isnan(stats.spike_rate([]))
    assert stats.spike_rate([1.0] * 6) == 0.0


def test_a_seed_that_is_still_missing_is_no_loss():
    table = pd.DataFrame({"a": [0.9, 0.8, math.nan], "b": [0.7, 0.85, 0.6]})
    (missing,), (lost,) = stats.compare_all(table), stats.compare_all(table, exclude=["a"])
    assert missing.p_improvement == pytest.approx(5 / 6)  # of two seeds against three
    assert lost.p_improvement == pytest.approx(5 / 9)  # the third one lost


def test_differences_of_one_sample_on_every_seed_are_equal():
    a, b = [0.9802, 0.9703, 0.9614], [0.9801, 0.9702, 0.9613]  # of 10,000 images
    assert stats.paired_p_value(stats.paired_differences(a, b)) == 0.25
    (pair,) = stats.compare_all(pd.DataFrame({"a": a, "b": b}))
    assert (pair.p_value, pair.resolved, pair.seeds_needed) == (0.25, False, 6)


def test_differences_within_the_grain_are_one_and_may_be_none():
    times = [3.0, 3.0, 2.0], [2.0, 2.0 + 1e-4, 1.0]
    assert stats.paired_differences(*times, grain=0.5) == pytest.approx([0.99996667] * 3)
    assert stats.paired_p_value(stats.paired_differences(*times)) < 1e-6  # what the t-test takes for certainty
    assert stats.paired_differences([1.0, 1.2], [0.9, 1.0], grain=0.5).tolist() == [0.0, 0.0]
    assert stats.paired_differences([1.0, math.nan, 3.0], [0.0, 1.0, 1.0]).tolist() == [1.0, 2.0]


def test_equal_arms_are_rarely_resolved_by_times_on_a_grid():
    rng = np.random.default_rng(1)
    grains = {0: 1.0, 1: 1.001, 2: 1.002, 3: 1.003}  # charged seconds between two evaluations
    names = {str(arm): grain for arm, grain in grains.items()}
    for spread in (0.2, 0.5, 2.0):
        wrong = 0
        for _ in range(500):
            true = 5.5 + spread * rng.normal(size=(3, 4)) + spread * rng.normal(size=(3, 1))
            seen = pd.DataFrame({name: np.ceil(true[:, int(name)] / grain) * grain for name, grain in names.items()})
            wrong += any(test.resolved for test in stats.paired_tests(seen, grains=names))
        assert wrong <= 0.065 * 500, spread
