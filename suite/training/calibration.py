"""What a step costs: measured once per cost key, alone on the machine, the arms taking turns.

All arms of a stage are measured together, a few steps each in turn, round after round: what drifts meanwhile falls on
all of them alike. Plain steps and those of each level that an optimizer refreshes at are timed apart and combined by
how often each comes.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from optimizers import Refreshing, level_shares
from suite.training import memory
from suite.training.assembly import Assembly, Task, batches_of
from suite.training.clock import TrainClock
from suite.training.workers import Workers

PLAIN_STEPS = 5  # of each kind in a round
REFRESH_STEPS = 1
MIN_ROUNDS, MAX_ROUNDS = 12, 100  # >= 60 plain and >= 12 refresh steps
SECONDS_PER_ARM = 2.5  # rounds go on until an arm had this long, if its steps are quick


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What a step of an arm costs.

    Args:
        step_s: Seconds per step, plain and refresh combined by frequency: the median over the rounds.
        step_s_low: Lower end of the median's 95 % interval (order statistics, no distribution assumed).
        step_s_high: Its upper end.
        plain_step_s: Seconds of a plain step, median over the rounds; ``None`` if every step refreshes.
        refresh_step_s: Seconds of a refresh step, of all levels combined by frequency, median over the rounds; ``None``
            if there are none.
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
        arm: Its label.
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
        In the order of the tasks; the time of a round's steps is the maximum over the workers.

    Raises:
        CalibrationError: If an arm cannot take a step.
    """  # noqa: DOC502
    memory.keep_freed_memory()
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
        self._arm = task.run.label
        with blame(self._arm):
            self._assembly = Assembly(task, workers)
        self._batches = batches_of(task, workers)
        self._clock = TrainClock(task.device)
        self._step = 0
        optimizer = self._assembly.optimizer
        self._refreshing = optimizer if isinstance(optimizer, Refreshing) else None
        self._shares = level_shares(self._refreshing.refresh_intervals if self._refreshing else ())
        self._most_frequent = min(self._shares)
        self.forget()

    def forget(self) -> None:
        self._means: dict[int, list[float]] = {level: [] for level in self._shares}  # mean seconds of a round's steps
        self._num_timed_steps = 0

    def take_turn(self) -> float:
        """Time a few steps of each level that this arm has, and return their seconds."""
        self._time(1, self._most_frequent)  # finds the caches full of the arm before: not kept
        total = 0.0
        for level, means in self._means.items():
            num_steps = PLAIN_STEPS if level == self._most_frequent else REFRESH_STEPS
            seconds = self._time(num_steps, level)
            means.append(seconds / num_steps)
            self._num_timed_steps += num_steps
            total += seconds
        return total

    def _time(self, num_steps: int, level: int) -> float:
        """Take steps, and return their seconds together."""
        before = self._clock.train_s
        self._clock.resume()
        for _ in range(num_steps):
            if self._refreshing:
                self._refreshing.schedule_refresh(level)
            with blame(self._arm):
                self._assembly.step(self._step, self._batches.at(self._step), 0.0)
            self._step += 1
            self._clock.lap()
        self._clock.pause()
        return self._clock.train_s - before

    def result(self, workers: Workers) -> Calibration:
        means = {level: workers.maximum(means) for level, means in self._means.items()}
        refreshing = self._combined({level: each for level, each in means.items() if level > 0})
        steps = self._combined(means)
        low, high = median_interval(steps)
        return Calibration(
            step_s=statistics.median(steps),
            step_s_low=low,
            step_s_high=high,
            plain_step_s=statistics.median(means[0]) if 0 in means else None,
            refresh_step_s=statistics.median(refreshing) if refreshing else None,
            num_timed_steps=self._num_timed_steps,
        )

    def _combined(self, means: Mapping[int, Sequence[float]]) -> list[float]:
        """Return what a step of some levels costs on average, by round."""
        whole = sum(self._shares[level] for level in means)
        weighted = [[self._shares[level] / whole * each for each in rounds] for level, rounds in means.items()]
        return [sum(parts) for parts in zip(*weighted, strict=True)]


@contextmanager
def blame(arm: str) -> Iterator[None]:
    """Say which arm an error comes from, as a :class:`CalibrationError`."""
    try:
        yield
    except Exception as error:
        raise CalibrationError(arm) from error


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
