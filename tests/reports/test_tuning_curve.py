import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from reports.tuning_curve import expected_best, median_best, tuning_curve

SCORES = [0.91, 0.5, 0.97, 0.88, 0.93, 0.97]


def draws(scores, k):
    """The best of every draw of k; -inf where all are lost."""
    values = np.nan_to_num(scores, nan=-np.inf)
    return [max(draw) for draw in combinations(values, k)]


@pytest.mark.parametrize("k", range(1, 7))
def test_lines_are_those_of_all_draws(k):
    assert expected_best(SCORES, k) == pytest.approx(np.mean(draws(SCORES, k)))
    assert median_best(SCORES, k) == np.quantile(draws(SCORES, k), 0.5, method="inverted_cdf")


@pytest.mark.parametrize("k", range(1, 7))
def test_lower_is_better_is_the_mirror(k):
    losses = [-score for score in SCORES]
    assert expected_best(losses, k, sign=-1) == pytest.approx(-expected_best(SCORES, k))
    assert median_best(losses, k, sign=-1) == -median_best(SCORES, k)


def test_a_lost_trial_is_worse_than_any_number():
    scores = [math.nan, 0.9, math.nan, 0.8]
    assert [math.isnan(expected_best(scores, k)) for k in (1, 2, 3, 4)] == [True, True, False, False]
    assert expected_best(scores, 3) == pytest.approx(np.mean(draws(scores, 3)))
    assert math.isnan(median_best(scores, 1))  # half of the draws are lost
    assert [median_best(scores, k) for k in (2, 3, 4)] == [0.8, 0.9, 0.9]
    assert all(math.isnan(median_best([math.nan] * 3, k)) for k in (1, 2, 3))


def test_the_band_is_kolmogorovs_band_of_the_scores():
    # n = 10: the exact two-sided 95 % width is 0.40925 (Miller, 1956, Table 1); a half of the best of one is at 0.5
    curve = tuning_curve(np.arange(1.0, 11.0)).set_index("k")
    assert scipy_stats.kstwo.ppf(0.95, 10) == pytest.approx(0.40925, abs=1e-5)
    assert (curve.loc[1, "low"], curve.loc[1, "median"], curve.loc[1, "high"]) == (1.0, 5.0, 10.0)
    assert (curve.loc[2, "low"], curve.loc[2, "high"]) == (3.0, math.inf)  # 0.7071 - 0.4093 = 0.298: the third
    assert curve.loc[10, "low"] == 6.0  # 0.9330 - 0.4093 = 0.524


def test_where_the_trials_say_nothing_the_band_is_open():
    curve = tuning_curve([0.9])
    assert curve[["low", "high"]].to_numpy().tolist() == [[-math.inf, math.inf]]
    losses = tuning_curve([0.9], sign=-1)
    assert losses[["low", "high"]].to_numpy().tolist() == [[math.inf, -math.inf]]
    lost = tuning_curve([math.nan] * 5 + [0.9] * 5)
    assert lost["low"].iloc[0] == -math.inf and lost["median"].isna().iloc[0]
    assert tuning_curve([]).empty


@pytest.mark.parametrize("sign", [1, -1])
def test_the_line_lies_in_its_band(sign):
    curve = tuning_curve(np.random.default_rng(0).normal(size=40), sign=sign)
    assert (sign * curve["median"] >= sign * curve["low"]).all()
    assert (sign * curve["median"] <= sign * curve["high"]).all()


@pytest.mark.parametrize("n", [8, 40])
def test_bands_cover_the_whole_curve_as_often_as_they_say(n):
    rng = np.random.default_rng(n)
    true = scipy_stats.norm.ppf(0.5 ** (1 / np.arange(1, n + 1)))
    curves = [tuning_curve(rng.normal(size=n)) for _ in range(400)]
    held = np.mean([((c["low"] <= true) & (true <= c["high"])).all() for c in curves])
    assert 0.93 <= held  # the curve meets the band of F at n places only, so that more than 95 % hold it
    wide = [tuning_curve(rng.normal(size=n), alpha=0.8) for _ in range(200)]
    assert np.mean([((c["low"] <= true) & (true <= c["high"])).all() for c in wide]) < 0.95
