"""The statistics of times until an event that not every run lives to see: pure functions of numbers."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from reports.stats import Floats


def survival(times: ArrayLike, is_censored: ArrayLike) -> tuple[Floats, Floats]:
    """Return the Kaplan-Meier estimate of the share without an event after each time (Kaplan and Meier, 1958).

    Args:
        times: Of the event, or until when there was none; finite, in any unit.
        is_censored: Whether a time is of the second kind.

    Returns:
        Times, ascending and each once, and shares in [0, 1]; both empty without times.
    """
    x, censored = np.asarray(times, dtype=np.float64), np.asarray(is_censored, dtype=bool)
    if not len(x):
        return x, x
    found = stats.ecdf(stats.CensoredData.right_censored(x, censored)).sf
    return np.asarray(found.quantiles, dtype=np.float64), np.asarray(found.probabilities, dtype=np.float64)


def median_time(times: ArrayLike, is_censored: ArrayLike) -> float:
    """Return the first time after which at most half are without an event; NaN if there is none."""
    x, shares = survival(times, is_censored)
    return float(x[np.argmax(shares <= 0.5)]) if (shares <= 0.5).any() else math.nan


def restricted_mean(times: ArrayLike, is_censored: ArrayLike, end: float) -> float:
    """Return the mean of min(time, end): the area under the curve of :func:`survival` up to the end.

    Royston and Parmar (2013), "Restricted mean survival time". Where nothing was censored before the end it is the
    plain mean. Where the last time is censored and lies before the end, its share is carried on.

    Args:
        times: As in :func:`survival`.
        is_censored: Likewise.
        end: Where the curve is cut, >= 0 and finite.

    Returns:
        In the unit of the times; NaN without times.
    """
    x, shares = survival(times, is_censored)
    if not len(x):
        return math.nan
    edges = np.minimum([0.0, *x, math.inf], end)
    return float(np.diff(edges) @ [1.0, *shares])
