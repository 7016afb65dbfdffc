"""What a step costs: measured once per cost key, alone on the machine, the arms taking turns.

All arms of a stage are measured together, a few steps each in turn, round after round: what drifts meanwhile falls on
all of them alike. Plain steps and steps that refresh an optimizer's factors are timed apart and combined by how often
each comes.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from optimizers import Refreshing
from suite.training.assembly import Assembly, Task
from suite.training.batches import Batches
from suite.training.clock import TrainClock
from suite.training.workers import Workers

PLAIN_STEPS = 5  # of each kind in a round
REFRESH_STEPS = 1
MIN_ROUNDS, MAX_ROUNDS = 12, 100  # >= 60 plain and >= 12 refresh steps
SECONDS_PER_ARM = 1.5  # rounds go on until an arm had this long, if its steps are quick


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What a step of an arm costs.

    Args:
        step_s: Seconds per step, plain and refresh combined by frequency: the median over the rounds.
        step_s_low: Lower end of the median's 95 % interval (order statistics, no distribution assumed).
        step_s_high: Its upper end.
        plain_step_s: Median seconds of a plain step; ``None`` if every step refreshes.
        refresh_step_s: Median seconds of a refresh step; ``None`` if there are none.
        num_timed_steps: Steps timed.
    """

    step_s: float
    step_s_low: float
    step_s_high: float
    plain_step_s: float | None
    refresh_step_s: float | None
    num_timed_steps: int


class CalibrationError(RuntimeError):
    """An arm that cannot take a step; the cause says why.

    Args:
        arm: Its name.
    """

    def __init__(self, arm: str) -> None:
        super().__init__(f"arm {arm!r} cannot be calibrated")
        self.arm = arm


def calibrate(tasks: Sequence[Task], workers: Workers) -> list[Calibration]:
    """Measure what a step of each arm costs; a collective call where there are several workers.

    Args:
        tasks: One an arm, all on the same workload, batch size, workers and threads.
        workers: Who trains.

    Returns:
        In the order of the tasks; each step's time is the maximum over the workers.

    Raises:
        CalibrationError: If an arm cannot take a step.
    """  # noqa: DOC502
    subjects = [_Subject(task, workers) for task in tasks]
    [first] = workers.maximum([sum(subject.take_turn() for subject in subjects)])  # the warm-up round, not kept
    num_rounds = max(MIN_ROUNDS, min(MAX_ROUNDS, math.ceil(SECONDS_PER_ARM * len(tasks) / first)))
    for subject in subjects:
        subject.forget()
    for _ in range(num_rounds):
        for subject in subjects:
            subject.take_turn()
    return [subject.result(workers) for subject in subjects]


class _Subject:
    """An arm under measurement."""

    def __init__(self, task: Task, workers: Workers) -> None:
        self._arm = task.run.arm.name
        with _blame(self._arm):
            self._assembly = Assembly(task, workers)
        self._batches = Batches(
            task.data.train, seed=task.run.seed, batch_size=task.run.batch_size, workers=workers, device=task.device
        )
        self._clock = TrainClock(task.device)
        self._step = 0
        optimizer = self._assembly.optimizer
        self._refreshing = optimizer if isinstance(optimizer, Refreshing) else None
        self._interval = self._refreshing.update_interval if self._refreshing else None
        self.forget()

    def forget(self) -> None:
        self._plain: list[list[float]] = []
        self._refresh: list[list[float]] = []

    def take_turn(self) -> float:
        """Time a few steps of each kind that this arm has, and return their seconds."""
        plain = self._time(PLAIN_STEPS, refresh=False) if self._interval != 1 else []
        refresh = (
            self._time(PLAIN_STEPS if self._interval == 1 else REFRESH_STEPS, refresh=True) if self._interval else []
        )
        self._plain.append(plain)
        self._refresh.append(refresh)
        return sum(plain) + sum(refresh)

    def _time(self, num_steps: int, *, refresh: bool) -> list[float]:
        laps: list[tuple[object, float]] = []
        self._clock.resume()
        for _ in range(num_steps):
            if self._refreshing:
                self._refreshing.schedule_refresh(refresh)
            with _blame(self._arm):
                self._assembly.step(self._step, self._batches.at(self._step), 0.0)
            self._step += 1
            laps += self._clock.lap()
        return [seconds for _, seconds in laps + self._clock.pause()]

    def result(self, workers: Workers) -> Calibration:
        plain, refresh = _slowest(self._plain, workers), _slowest(self._refresh, workers)
        share = 1 / self._interval if self._interval else 0.0
        means = [
            (1 - share) * (statistics.fmean(p) if p else 0.0) + share * (statistics.fmean(r) if r else 0.0)
            for p, r in zip(plain, refresh, strict=True)
        ]
        low, high = median_interval(means)
        flat_plain, flat_refresh = [t for r in plain for t in r], [t for r in refresh for t in r]
        return Calibration(
            step_s=statistics.median(means),
            step_s_low=low,
            step_s_high=high,
            plain_step_s=statistics.median(flat_plain) if flat_plain else None,
            refresh_step_s=statistics.median(flat_refresh) if flat_refresh else None,
            num_timed_steps=len(flat_plain) + len(flat_refresh),
        )


@contextmanager
def _blame(arm: str) -> Iterator[None]:
    """Say which arm an error comes from."""
    try:
        yield
    except Exception as error:
        raise CalibrationError(arm) from error


def _slowest(rounds: list[list[float]], workers: Workers) -> list[list[float]]:
    """Return each step's time as its slowest worker saw it."""
    flat = iter(workers.maximum([t for r in rounds for t in r]))
    return [[next(flat) for _ in r] for r in rounds]


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a 95 % interval of the median from order statistics.

    The number of values below the median is binomial(n, 1/2); its normal approximation gives the ranks.

    Args:
        values: At least one.

    Returns:
        Lower and upper end.
    """
    ordered, n = sorted(values), len(values)
    lower = max(0, math.floor((n - 1.96 * math.sqrt(n)) / 2))
    return ordered[lower], ordered[n - 1 - lower]
