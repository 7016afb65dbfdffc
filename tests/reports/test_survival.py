"""Survival against a worked example and scipy."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from reports import survival

# Freireich et al. (1963), weeks of remission of 21 patients on 6-mercaptopurine; a plus in the paper is censored.
WEEKS = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
PLUS = [0, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1]


def test_worked_example():
    times, shares = survival.survival(WEEKS, PLUS)
    found = dict(zip(times, shares, strict=True))
    expected = {6: 0.857, 7: 0.807, 9: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448, 35: 0.448}
    assert {time: found[time] for time in expected} == pytest.approx(expected, abs=6e-4)
    assert survival.median_time(WEEKS, PLUS) == 23.0
    assert survival.restricted_mean(WEEKS, PLUS, 35.0) == pytest.approx(23.29, abs=5e-3)  # as R's survfit prints it


def test_an_event_is_before_what_is_censored_at_the_same_time():
    times, shares = survival.survival([3.0, 3.0], [True, False])
    assert (times.tolist(), shares.tolist()) == ([3.0], [0.5])


def test_without_censoring_it_is_the_empirical_distribution():
    x = np.random.default_rng(0).exponential(size=9)
    times, shares = survival.survival(x, np.zeros(9))
    assert shares == pytest.approx(scipy_stats.ecdf(x).sf.evaluate(times))
    assert survival.restricted_mean(x, np.zeros(9), x.max()) == pytest.approx(x.mean())
    assert survival.median_time(x, np.zeros(9)) == np.median(x)


@pytest.mark.parametrize("end", [0.0, 0.5, 1.0, 2.0])
def test_watched_to_the_end_the_area_is_the_mean_of_what_is_cut(end):
    x = np.array([0.2, 0.6, 0.6, 1.5, 2.0, 2.0])
    assert survival.restricted_mean(x, [0, 0, 0, 0, 1, 1], end) == pytest.approx(np.minimum(x, end).mean())


def test_half_of_an_even_number_is_enough_for_the_median():
    assert survival.median_time([1.0, 2.0, 9.0, 9.0], [0, 0, 1, 1]) == 2.0
    assert math.isnan(survival.median_time([1.0, 9.0, 9.0], [0, 1, 1]))


def test_nothing_was_watched():
    times, shares = survival.survival([], [])
    assert len(times) == len(shares) == 0
    assert math.isnan(survival.median_time([], [])) and math.isnan(survival.restricted_mean([], [], 1.0))
