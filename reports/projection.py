r"""A model of how a step scales, fitted to what was measured, and what it says of more workers than there were.

A step of an arm computes on its part of the batch, and exchanges what it has to in a ring (Patarasuk and Yuan 2009,
"Bandwidth optimal all-reduce algorithms for clusters of workstations"): each collective passes 2(K - 1) messages, one
after another, and a worker sends its payload 2(K - 1)/K times.

.. math:: t(K, B) = a + b \frac{B}{K} + n \cdot 2 (K - 1) \cdot L + m \frac{2 (K - 1)}{K} \cdot \frac{1}{W}

a and b are an arm's own, the latency L and the bandwidth W are shared by all; collectives n and bytes m a step were
counted. All are non-negative, and fitted to relative errors. Communication that hides behind the backward pass is not
in the model: the fit takes it for bandwidth.

Several sets of parameters may agree with what was measured: with one and two workers alone nothing tells an arm's
latency from its bandwidth, nor, with one batch, either from computing. So every figure comes with its range over *all*
sets that agree with the 95 % intervals of the measurements, or with a measurement as well as the best fit does. It is
identified only where that range is narrow.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize

from reports import text
from reports.frames import Frames, remembered
from reports.scaling import Key, Point, groups, points
from reports.stats import Floats

PROJECTED = (4, 8, 16, 32, 64)  # workers
MIN_CUT = 0.10  # by which more workers have to shorten a step
MIN_EFFICIENCY = 0.50
MAX_RANGE = 0.25  # between the ends of a figure's range, relative to the upper one, for it to be identified
ROUND_OFF = 1e-6  # relative; what the solver of the ranges can tell apart


@dataclass(frozen=True, slots=True)
class Range:
    """A figure with all that agrees with the measurements.

    Args:
        value: Of the best fit.
        low: The least.
        high: The most.
    """

    value: float
    low: float
    high: float

    @property
    def is_identified(self) -> bool:
        """Whether the measurements say what it is."""
        return math.isfinite(self.high) and self.high - self.low <= MAX_RANGE * self.high

    def __str__(self) -> str:
        if self.low == math.inf:
            return "none"
        low, value, high = (text.number(each) for each in (self.low, self.value, self.high))
        span = f"{low} to {high}" if math.isfinite(self.high) else f"{low} or more"
        return f"{value} ({span})" if self.is_identified else f"not identifiable ({span})"


@dataclass(frozen=True, slots=True)
class Projection:
    """A step with so many workers, by the model.

    Args:
        key: Workload, arm, threads a worker.
        num_workers: K.
        batch_size: Over all workers: strong scaling.
        seconds: Of a step.
        speedup: Over one worker, by the model too; of the best fit.
        efficiency: Speedup over K; of the best fit.
    """

    key: Key
    num_workers: int
    batch_size: int
    seconds: Range
    speedup: float
    efficiency: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Where an arm stops paying.

    Args:
        key: Workload, arm, threads a worker.
        batch_size: Over all workers.
        saturated: The fewest workers of which twice as many cut the step by 10 % at most; infinite if it always pays.
        inefficient: The fewest workers with an efficiency below 50 %; infinite if there are none.
    """

    key: Key
    batch_size: int
    saturated: Range
    inefficient: Range


@dataclass(frozen=True)
class Model:
    """The model, fitted.

    Args:
        points: That it was fitted to.
        left_out: Points without the count of what they exchanged.
    """

    points: tuple[Point, ...]
    left_out: tuple[Point, ...] = ()

    @cached_property
    def keys(self) -> list[Key]:
        """The arms, in the order of their parameters."""
        return sorted({point.key for point in self.points})

    @cached_property
    def _rows(self) -> Floats:
        """The design, a row a point, each divided by what was measured."""
        rows = [self._row(p.key, p.num_workers, p.batch_size, p.collectives, p.num_bytes) / p.mean for p in self.points]
        return np.array(rows).reshape(len(rows), 2 * len(self.keys) + 2)

    @cached_property
    def _scales(self) -> Floats:
        """What each parameter is multiplied by, so that all have the same size."""
        largest: Floats = np.abs(self._rows).max(axis=0, initial=0.0)
        return np.where(largest > 0, largest, 1.0)

    @cached_property
    def _solution(self) -> Floats:
        """The scaled parameters that fit best."""
        if not self.points:
            return np.zeros(2)
        solution: Floats = optimize.nnls(self._rows / self._scales, np.ones(len(self.points)))[0]
        return solution

    @cached_property
    def errors(self) -> Floats:
        """Relative error of the fit at each point, signed."""
        errors: Floats = self._rows / self._scales @ self._solution - 1
        return errors

    def compute(self, key: Key) -> tuple[Range, Range]:
        """Return the seconds a of any step of an arm, and b of a sample."""
        index = 2 * self.keys.index(key)
        unit = np.eye(2 * len(self.keys) + 2)
        return self._range(unit[index]), self._range(unit[index + 1])

    @property
    def latency(self) -> Range:
        """L, seconds a message."""
        return self._range(np.eye(2 * len(self.keys) + 2)[-2])

    @property
    def bandwidth(self) -> Range:
        """W, bytes a second; infinite where bytes cost nothing."""
        per_byte = self._range(np.eye(2 * len(self.keys) + 2)[-1])
        value, high, low = (
            1 / each if each > 0 else math.inf for each in (per_byte.value, per_byte.low, per_byte.high)
        )
        return Range(value, low, high)

    def seconds(self, key: Key, num_workers: int, batch_size: int) -> Range:
        """Return the seconds of a step.

        Args:
            key: An arm of the model.
            num_workers: K.
            batch_size: Over all workers.

        Returns:
            With all that agrees with the measurements; unbounded where what it exchanges was never counted.
        """
        return self._range(self.step(key, num_workers, batch_size))

    def step(self, key: Key, num_workers: int, batch_size: int) -> Floats:
        """Return what each parameter counts for in a step, by what was counted with the most workers.

        Args:
            key: An arm of the model.
            num_workers: K.
            batch_size: Over all workers.

        Returns:
            A number a parameter; NaN for those of what was never counted.
        """
        counted = [p for p in self.points if p.key == key and p.num_workers > 1]
        most = max(counted, key=lambda p: p.num_workers, default=None)
        n, m = (most.collectives, most.num_bytes) if most else (math.nan, math.nan)
        return self._row(key, num_workers, batch_size, n, m)

    def extremes(self, row: Floats) -> tuple[float, float, float]:
        """Return a linear function of the parameters: of the best fit, and its ends over all that agree.

        Args:
            row: What each parameter counts for.

        Returns:
            Of the best fit, the least and the most.
        """
        if np.isnan(row).any():
            return math.nan, -math.inf, math.inf
        goal, design = row / self._scales, self._rows / self._scales
        allowed = np.array([max(abs(e), p.error / p.mean) for e, p in zip(self.errors, self.points, strict=True)])
        size = float(np.abs(goal).max(initial=0.0)) or 1.0
        bounds = np.concatenate([1 + allowed + ROUND_OFF, -(1 - allowed - ROUND_OFF)])
        ends = []
        for sign in (1, -1):
            found = optimize.linprog(sign * goal / size, A_ub=np.concatenate([design, -design]), b_ub=bounds)
            ends.append(sign * float(found.fun or 0.0) * size if found.success else -sign * math.inf)
        value = float(goal @ self._solution)
        return value, min(ends[0], value), max(ends[1], value)

    def _row(self, key: Key, num_workers: int, batch_size: int, collectives: float, num_bytes: float) -> Floats:
        """Return what each parameter counts for in a step."""
        row = np.zeros(2 * len(self.keys) + 2)
        index = 2 * self.keys.index(key)
        row[index : index + 2] = 1.0, batch_size / num_workers
        messages = 2 * (num_workers - 1)
        if messages:  # else there is nobody to talk to, whatever was counted
            row[-2:] = collectives * messages, num_bytes * messages / num_workers
        return row

    def _range(self, row: Floats) -> Range:
        """Return a linear function of the parameters that is never negative."""
        value, low, high = self.extremes(row)
        return Range(value, max(low, 0.0), high)


@remembered
def fit(frames: Frames) -> Model:
    """Fit the model to the steps of a study, whose machines are all alike.

    Args:
        frames: Of a whole study.

    Returns:
        The model.
    """
    found = points(frames)
    kept = tuple(p for p in found if math.isfinite(p.collectives) and math.isfinite(p.num_bytes))
    return Model(kept, tuple(p for p in found if not any(p is each for each in kept)))


def projections(model: Model, workers: Sequence[int] = PROJECTED) -> list[Projection]:
    """Return the steps of more workers under strong scaling.

    Args:
        model: Fitted.
        workers: How many.

    Returns:
        A row an arm, batch size and number of workers.
    """
    return [_projected(model, key, k, batch) for key, batch in _batches(model) for k in workers]


def stops(model: Model, most: int = PROJECTED[-1]) -> list[Stop]:
    """Return from how many workers on an arm stops paying under strong scaling.

    Args:
        model: Fitted.
        most: Workers looked at.

    Returns:
        A row an arm and batch size.
    """
    return [_stop(model, key, batch, most) for key, batch in _batches(model)]


def cautions(model: Model) -> Iterator[str]:
    """Yield what the model does not know.

    Args:
        model: Fitted.

    Yields:
        A sentence each.
    """
    if model.left_out:
        names = sorted({point.key[1] for point in model.left_out})
        yield f"What {text.listing(names)} exchanged was not counted: left out of the model."
    counts = sorted({point.num_workers for point in model.points})
    if not counts:
        yield "Nothing was measured: there is no model."
    elif len([count for count in counts if count > 1]) < 2:
        yield (
            f"Measured with {text.listing(map(str, counts))} workers alone: that communication grows as in a ring is "
            "assumed, not seen."
        )
    for name, figure in (("latency", model.latency), ("bandwidth", model.bandwidth)):
        if not figure.is_identified:
            yield f"The {name} is not identifiable from these points."


def _batches(model: Model) -> list[tuple[Key, int]]:
    """Return the batches of each arm that were measured with several numbers of workers; else those of the fewest."""
    found: list[tuple[Key, int]] = []
    for key in model.keys:
        own = [point for point in model.points if point.key == key]
        fewest = min(point.num_workers for point in own)
        strong = [group[0].batch_size for group in groups(own, "strong")]
        found += [(key, batch) for batch in strong or [p.batch_size for p in own if p.num_workers == fewest]]
    return found


def _projected(model: Model, key: Key, num_workers: int, batch_size: int) -> Projection:
    """Return a step of more workers."""
    seconds = model.seconds(key, num_workers, batch_size)
    speedup = model.seconds(key, 1, batch_size).value / seconds.value if seconds.value else math.nan
    return Projection(key, num_workers, batch_size, seconds, speedup, speedup / num_workers)


def _stop(model: Model, key: Key, batch: int, most: int) -> Stop:
    """Return where an arm stops paying; both are a matter of the sign of a linear function of the parameters."""
    step = {k: model.step(key, k, batch) for k in range(1, 2 * most + 1)}
    saturated = (step[2 * k] - (1 - MIN_CUT) * step[k] for k in range(1, most + 1))
    inefficient = (MIN_EFFICIENCY * k * step[k] - step[1] for k in range(1, most + 1))
    return Stop(key, batch, _first_positive(model, saturated), _first_positive(model, inefficient))


def _first_positive(model: Model, rows: Iterator[Floats]) -> Range:
    """Return the number, from 1, of the first function that is positive; infinite for none."""
    value = low = math.inf
    for number, row in enumerate(rows, 1):
        best, least, most = model.extremes(row)
        low = number if most > 0 and low == math.inf else low
        value = number if best > 0 and value == math.inf else value
        if least > 0:
            return Range(value, low, number)
    return Range(value, low, math.inf)
