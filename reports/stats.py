"""The statistics of the reports: pure functions of numbers; they know neither frames nor arms' meaning.

Conventions: a NaN is a value that is not there (a lost or missing run); ``sign`` is +1 where higher is better and -1
where lower is. Seeds are paired: every arm starts from the same initialization and sees the same data order.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

ALPHA = 0.05
POWER = 0.8
BOOTSTRAP_FROM = 10  # values; below, Student's t: the bootstrap's intervals are too short for few values
MAX_SEEDS = 10_000
BASIN_TOLERANCE = 0.02
SPIKE_RATIO, SPIKE_FLOOR = 2.0, 0.02
SPIKE_WINDOW, MIN_SPIKE_WINDOW = 9, 5  # samples
_ROUND_OFF = 1e-12  # relative; the standard deviation of equal floats is about 1e-16 of their size, not always zero

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Mean ± std over n values with a 95 % interval of the mean; NaN where too few values define it."""

    mean: float
    std: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class PairTest:
    """The paired test of two arms in a table.

    Args:
        first: Name of an arm.
        second: Name of the other.
        differences: Of first - second, one a common seed.
        p_value: Of the two-sided test; NaN if excluded, or below two common seeds.
        p_holm: Corrected over all tested pairs of the table.
        excluded: Whether the pair was not tested because it was asked not to be.
    """

    first: str
    second: str
    differences: Floats
    p_value: float
    p_holm: float
    excluded: bool

    @property
    def resolved(self) -> bool:
        """Whether noise does not explain the difference."""
        return self.p_holm < ALPHA


@dataclass(frozen=True, slots=True)
class Comparison:
    """The paired comparison of two arms over their common seeds.

    Args:
        first: Name of an arm.
        second: Name of the other.
        n: Common seeds.
        difference: Mean of first - second.
        p_value: Of the two-sided test; NaN if excluded, or below two common seeds.
        p_holm: Corrected over all tested pairs of the table.
        excluded: Whether the pair was not tested because one of its arms lost runs.
        resolved: Whether ``p_holm < 0.05``.
        detectable: Smallest difference that had an 80 % chance to be resolved in this table.
        seeds_needed: Seeds for an 80 % chance to resolve the seen difference; None if none or over 10,000.
        p_improvement: Probability that a random seed of first beats a random seed of second; shown, never decides.
    """

    first: str
    second: str
    n: int
    difference: float
    p_value: float
    p_holm: float
    excluded: bool
    resolved: bool
    detectable: float
    seeds_needed: int | None
    p_improvement: float


def estimate(values: ArrayLike) -> Estimate:
    """Return mean, std (n-1) and the 95 % interval of the mean: Student's t below 10 values, BCa bootstrap from 10.

    Args:
        values: NaN and infinities are left out.

    Returns:
        All NaN for no value; std and interval NaN for one.
    """
    x = _finite(values)
    n = len(x)
    mean, std = mean_and_std(x)
    if not std > 0:
        low = high = mean if std == 0 else math.nan
    elif n < BOOTSTRAP_FROM:
        half = float(stats.t.ppf(1 - ALPHA / 2, n - 1)) * std / math.sqrt(n)
        low, high = mean - half, mean + half
    else:
        interval = stats.bootstrap((x,), np.mean, method="BCa", rng=np.random.default_rng(0)).confidence_interval
        low, high = float(interval.low), float(interval.high)
    return Estimate(mean, std, low, high, n)


def mean_and_std(x: Floats) -> tuple[float, float]:
    """Return mean and std (n-1) of finite values; NaN where undefined, std exactly 0 for equal values."""
    if not len(x):
        return math.nan, math.nan
    std = math.nan if len(x) == 1 else 0.0 if _is_constant(x) else float(x.std(ddof=1))
    return float(x.mean()), std


def paired_differences(first: ArrayLike, second: ArrayLike, *, grain: float = 0.0) -> Floats:
    """Return first - second over the seeds that both have, without a spread that nobody measured.

    Accuracies that differ by one sample on every seed differ by 1e-4 up to round-off, and times to a target are known
    to an evaluation: such differences are equal, and the t-test would take the rest for a variance.

    Args:
        first: Values by seed; NaN where there is none.
        second: Likewise, in the same order.
        grain: What the values are known to.

    Returns:
        All the same where they lie within the grain, or the round-off of the values, and zero where that may be zero.
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (first, second))
    kept = ~np.isnan(a) & ~np.isnan(b)
    d = (a - b)[kept]
    if not len(d) or not np.isfinite(d).all():
        return d
    dust = max(grain, _ROUND_OFF * float(np.abs([a[kept], b[kept]]).max()))
    if np.ptp(d) > dust:
        return d
    return np.full(len(d), 0.0 if abs(d.mean()) <= dust else d.mean())


def paired_p_value(differences: ArrayLike) -> float:
    """Return the two-sided p of the paired t-test, from the differences.

    Equal differences leave no variance to estimate. All zero: p = 1. All the same but not zero: the t statistic is
    infinite and its p = 0 would claim certainty from two seeds, while coarse metrics produce such ties easily; we take
    the exact sign-flip test instead, p = 2^(1-n), so that such a difference is resolved from six seeds on, not before.

    Args:
        differences: One a common seed.

    Returns:
        NaN for fewer than two, or if one is infinite.
    """
    d = np.asarray(differences, dtype=np.float64)
    n = len(d)
    if n < 2 or not np.isfinite(d).all():
        return math.nan
    if _is_constant(d):
        return 1.0 if d[0] == 0 else 2.0 ** (1 - n)
    t = d.mean() / (d.std(ddof=1) / math.sqrt(n))
    return float(2 * special.stdtr(n - 1, -abs(t)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down corrected p-values (Holm, 1979); NaN stay NaN and do not count as tests."""
    p = np.asarray(p_values, dtype=np.float64)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested])]
    corrected = np.full(len(p), np.nan)
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return [float(value) for value in corrected]


def power_of_paired_test(effect: float, n: int, *, alpha: float = ALPHA) -> float:
    """Return the power of the two-sided paired t-test in the right direction, from the noncentral t distribution.

    The other tail, resolving the wrong sign, is no success; it is negligible where the power matters, and scipy's
    noncentral t is NaN there for large effects.

    Args:
        effect: True difference over the std of the differences.
        n: Pairs, >= 2.
        alpha: Level of the test.

    Returns:
        Probability of p < alpha with the right sign.
    """
    critical = stats.t.ppf(1 - alpha / 2, n - 1)
    shift = abs(effect) * math.sqrt(n)
    return float(stats.nct.sf(critical, n - 1, shift))


def detectable_difference(std: float, n: int, *, alpha: float = ALPHA) -> float:
    """Return the smallest true difference that n pairs resolve with 80 % probability.

    Args:
        std: Standard deviation of the paired differences, in the metric's unit.
        n: Pairs.
        alpha: Level of the test.

    Returns:
        In the metric's unit; NaN where std or n do not define it (n < 2, or no variance).
    """
    return _detectable_effect(n, alpha) * std if n >= 2 and std > 0 else math.nan


@cache  # the same for every pair of a table
def _detectable_effect(n: int, alpha: float) -> float:
    """Return the effect, in standard deviations, that n >= 2 pairs resolve with 80 % probability."""
    upper = 1.0
    while power_of_paired_test(upper, n, alpha=alpha) < POWER:
        upper *= 2
    effect = optimize.brentq(lambda e: power_of_paired_test(e, n, alpha=alpha) - POWER, 0.0, upper, xtol=1e-9)
    return float(effect)


def seeds_needed(difference: float, std: float, *, alpha: float = ALPHA) -> int | None:
    """Return how many paired seeds resolve a difference with 80 % probability, were it and the std the true ones.

    Args:
        difference: Mean paired difference.
        std: Standard deviation of the paired differences; if zero, the rule of :func:`paired_p_value` decides.
        alpha: Level of the test.

    Returns:
        At least 2; None if there is no difference, or more than ``MAX_SEEDS`` are needed.
    """
    if not math.isfinite(difference) or difference == 0 or math.isnan(std):
        return None
    if std == 0:
        return math.floor(1 - math.log2(alpha)) + 1
    sizes = range(2, MAX_SEEDS + 1)
    index = bisect_left(sizes, POWER, key=lambda n: power_of_paired_test(difference / std, n, alpha=alpha))
    return sizes[index] if index < len(sizes) else None


def probability_of_improvement(first: ArrayLike, second: ArrayLike, *, sign: int = 1) -> float:
    """Return P(first better than second) over all pairs of their values, ties half (Agarwal et al., 2021, rliable).

    Args:
        first: One a seed; NaN (a lost run) is worse than any number.
        second: Likewise.
        sign: +1 if higher is better, -1 if lower is.

    Returns:
        In [0, 1]; NaN if a side is empty.
    """
    a, b = (np.nan_to_num(sign * np.asarray(x, dtype=np.float64), nan=-np.inf) for x in (first, second))
    if not len(a) or not len(b):
        return math.nan
    return float(np.mean((a[:, None] > b[None, :]) + 0.5 * (a[:, None] == b[None, :])))


def paired_tests(
    values: pd.DataFrame, *, exclude: Iterable[str] = (), grains: Mapping[str, float] | None = None
) -> list[PairTest]:
    """Test every pair of arms by :func:`paired_p_value`, corrected by :func:`holm`: what decides in every table.

    Args:
        values: A row a seed, a column an arm; NaN where a run is lost or missing.
        exclude: Arms whose pairs are not tested.
        grains: What the values of an arm are known to; a pair's is the coarser one.

    Returns:
        One an unordered pair, ``first`` being the earlier column.
    """
    known_to = grains or {}
    excluded, columns = set(exclude), {str(arm): column.to_numpy(np.float64) for arm, column in values.items()}
    pairs = list(combinations(columns, 2))
    differences = [
        paired_differences(columns[a], columns[b], grain=max(known_to.get(a, 0.0), known_to.get(b, 0.0)))
        for a, b in pairs
    ]
    is_out = [bool(excluded & {*pair}) for pair in pairs]
    p_values = [math.nan if out else paired_p_value(d) for d, out in zip(differences, is_out, strict=True)]
    found = zip(pairs, differences, p_values, holm(p_values), is_out, strict=True)
    return [PairTest(*pair, d, p_value=p, p_holm=p_holm, excluded=out) for pair, d, p, p_holm, out in found]


def compare_all(values: pd.DataFrame, *, sign: int = 1, exclude: Iterable[str] = ()) -> list[Comparison]:
    """Compare every pair of arms, Holm-corrected over the pairs that could be tested.

    Powers and seeds are those of a test at level 0.05 / (number of tested pairs), Holm's strictest step.

    Args:
        values: A row a seed, a column an arm; NaN where a run is lost or missing.
        sign: +1 if higher is better, -1 if lower is.
        exclude: Arms that lost runs: the rest of their seeds are a selection, so their pairs are not tested.

    Returns:
        One an unordered pair, ``first`` being the earlier column.
    """
    lost = set(exclude)
    tests = paired_tests(values, exclude=lost)
    known = {
        str(arm): values[arm] if arm in lost else values[arm].dropna() for arm in values
    }  # lost is worst, or missing
    alpha = ALPHA / max(1, sum(math.isfinite(test.p_value) for test in tests))
    comparisons = []
    for test in tests:
        mean, std = mean_and_std(test.differences)
        n, is_tested = len(test.differences), math.isfinite(test.p_value)
        comparisons.append(
            Comparison(
                test.first,
                test.second,
                n=n,
                difference=mean,
                p_value=test.p_value,
                p_holm=test.p_holm,
                excluded=test.excluded,
                resolved=test.resolved,
                detectable=detectable_difference(std, n, alpha=alpha) if is_tested else math.nan,
                seeds_needed=seeds_needed(mean, std, alpha=alpha) if is_tested else None,
                p_improvement=probability_of_improvement(known[test.first], known[test.second], sign=sign),
            )
        )
    return comparisons


def basin_width(lrs: ArrayLike, scores: ArrayLike, *, sign: int = 1, tolerance: float = BASIN_TOLERANCE) -> float:
    """Return the decades of learning rate between the lowest and the highest trial that came close to the best.

    Args:
        lrs: Learning rates, > 0 (damping or γ serve as well).
        scores: Metric of each trial; NaN (a lost trial) is never close.
        sign: +1 if higher is better, -1 if lower is.
        tolerance: Close means worse by at most this fraction of the best score's size.

    Returns:
        Zero for one good trial; NaN for none. Few trials give a lower bound.
    """
    x, y = np.asarray(lrs, dtype=np.float64), sign * np.asarray(scores, dtype=np.float64)
    valid = np.isfinite(x) & (x > 0) & np.isfinite(y)
    if not valid.any():
        return math.nan
    x, y = x[valid], y[valid]
    good = x[y >= y.max() - tolerance * abs(y.max())]
    return float(np.log10(good.max() / good.min()))


def divergence_rate(statuses: Sequence[str]) -> float:
    """Return the share of runs that diverged; failed runs say nothing about stability and are left out."""
    counted = [status for status in statuses if status != "failed"]
    return counted.count("diverged") / len(counted) if counted else math.nan


def spike_rate(losses: ArrayLike, *, ratio: float = SPIKE_RATIO) -> float:
    """Return the share of sampled training losses that are spikes.

    Loss spikes are a sign of instability in Wortsman et al. (2023), "Small-scale proxies for large-scale Transformer
    training instabilities", arXiv 2309.14322; the definition is ours, for few samples: a loss is a spike above
    ``ratio`` times the median of the 9 samples before it. That median counts as at least 2 % of the first loss, so that
    the noise of a loss that is almost zero is none. Each loss with at least 5 samples before it is judged.

    Args:
        losses: In the order of the steps; what is not finite is left out, since it is divergence.
        ratio: How far above the running median a spike begins.

    Returns:
        In [0, 1]; NaN for too few samples to judge any.
    """
    x = pd.Series(_finite(losses))
    before = x.shift().rolling(SPIKE_WINDOW, min_periods=MIN_SPIKE_WINDOW).median().dropna()
    if before.empty:
        return math.nan
    return float((x[before.index] > ratio * before.clip(lower=SPIKE_FLOOR * abs(x.iloc[0]))).mean())


def _finite(values: ArrayLike) -> Floats:
    """Return the finite values as a flat array."""
    x = np.asarray(values, dtype=np.float64).ravel()
    return x[np.isfinite(x)]


def _is_constant(x: Floats) -> bool:
    """Return whether all values are equal up to round-off."""
    return bool(np.ptp(x) <= _ROUND_OFF * np.abs(x).max())
