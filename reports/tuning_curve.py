"""How good a search of k trials would have been: the tuning curve of an arm, from the trials of one search.

A trial without a score is worse than any number: it cannot be the best of a search, and it counts as one of the k.
The trials must be exchangeable: drawn at random, or quasi-random, from one space. What a sampler proposed after it had
seen earlier trials (TPE, a Gaussian process) is not.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special, stats

from reports.stats import ALPHA, Floats


class Score(NamedTuple):
    """The sorted scores of a search, higher being better, and the sign that turns them back; -inf is a lost trial."""

    values: Floats
    sign: int

    def at(self, shares: Floats) -> Floats:
        """Return the quantiles of the scores.

        Args:
            shares: Of the trials; above 1 where no trial is high enough.

        Returns:
            The worst score than which so many trials are no better; infinite beyond the best trial, and where only lost
            ones lie so low.
        """
        ranks = np.ceil(shares * len(self.values) - 1e-9).astype(int)  # round-off must not move a rank
        return np.asarray(self.sign * np.append(self.values, np.inf)[np.clip(ranks - 1, 0, len(self.values))])


def tuning_curve(scores: ArrayLike, *, sign: int = 1, alpha: float = ALPHA) -> pd.DataFrame:
    """Return the best score after k trials, for k from 1 to n, with simultaneous confidence bands.

    Lourie, Cho and He (2024), "Show Your Work with Confidence: Confidence Bands for Tuning Curves", arXiv 2311.09480:
    the best of k independent trials has the distribution F^k, so its median is F's quantile at 0.5^(1/k), and a band of
    F gives one of the whole curve, whatever F is. The band of F is that of Dvoretzky, Kiefer and Wolfowitz with
    Kolmogorov's exact width for n instead of Massart's bound; scores with ties only make it wider than it need be.
    The lines are what the n trials at hand say of k of them drawn without replacement: :func:`median_best` and
    :func:`expected_best`.

    Args:
        scores: One a trial; NaN is a lost trial.
        sign: +1 if higher is better, -1 if lower is.
        alpha: The band misses part of the curve with at most this probability.

    Returns:
        Columns k, median, expected, low, high: ``high`` is the better end. NaN in median and expected where a search of
        k trials may have lost them all; low and high are infinite where the trials say nothing.
    """
    ranked = _ranked(scores, sign)
    n = len(ranked.values)
    if not n:
        return pd.DataFrame(columns=["k", "median", "expected", "low", "high"], dtype="float64")
    counts = np.arange(1, n + 1)
    width = float(stats.kstwo.ppf(1 - alpha, n))
    shares = 0.5 ** (1 / counts)
    return pd.DataFrame({
        "k": counts,
        "median": [median_best(scores, int(k), sign=sign) for k in counts],
        "expected": [expected_best(scores, int(k), sign=sign) for k in counts],
        "low": np.where(shares <= width, -sign * np.inf, ranked.at(shares - width)),
        "high": ranked.at(shares + width),
    })


def median_best(scores: ArrayLike, k: int, *, sign: int = 1) -> float:
    """Return the median of the best of k trials drawn from these without replacement.

    Args:
        scores: One a trial; NaN is a lost trial.
        k: From 1 to their number.
        sign: +1 if higher is better, -1 if lower is.

    Returns:
        The worst score than which at least half of the draws are no better; NaN where half of them are all lost.
    """
    ranked = _ranked(scores, sign)
    below = np.cumsum(_weights(len(ranked.values), k))  # share of draws whose best has at most this rank
    value = ranked.values[int(np.argmax(below >= 0.5 - 1e-9))]
    return float(sign * value) if math.isfinite(value) else math.nan


def expected_best(scores: ArrayLike, k: int, *, sign: int = 1) -> float:
    """Return the expected best of k trials drawn from these without replacement.

    The unbiased estimator of Tang et al. (2020), "Showing Your Work Doesn't Always Work", eq. 3: the score of rank i is
    the best of C(i-1, k-1) of the C(n, k) draws.

    Args:
        scores: One a trial; NaN is a lost trial.
        k: From 1 to their number.
        sign: +1 if higher is better, -1 if lower is.

    Returns:
        NaN where k trials may all be lost, which no mean can hold.
    """
    ranked = _ranked(scores, sign)
    weights = _weights(len(ranked.values), k)
    possible = weights > 0
    value = float(weights[possible] @ ranked.values[possible])
    return sign * value if math.isfinite(value) else math.nan


def _ranked(scores: ArrayLike, sign: int) -> Score:
    """Return the scores in ascending order, a lost trial being -inf."""
    values = sign * np.asarray(scores, dtype=np.float64).ravel()
    return Score(np.sort(np.where(np.isfinite(values), values, -np.inf)), sign)


def _weights(n: int, k: int) -> Floats:
    """Return the share of the draws of k of n in which each rank, from 1, is the best."""
    ranks = np.arange(1, n + 1)
    logs = _log_choose(ranks - 1, k - 1) - _log_choose(np.array([n]), k)
    return np.where(ranks >= k, np.exp(logs), 0.0)


def _log_choose(n: "np.ndarray[tuple[int], np.dtype[np.int64]]", k: int) -> Floats:
    """Return the logarithm of n choose k; meaningless below k."""
    kept = np.maximum(n, k)
    return np.asarray(special.gammaln(kept + 1) - special.gammaln(k + 1) - special.gammaln(kept - k + 1))
