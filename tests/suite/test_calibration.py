import math
from dataclasses import dataclass, replace

import pytest
import torch

from suite.training import calibration
from suite.training.calibration import MAX_ROUNDS, MIN_ROUNDS, PLAIN_STEPS, REFRESH_STEPS, calibrate, median_interval
from suite.training.clock import TrainClock
from suite.training.workers import Workers
from tests.suite import tiny

PLAIN_S, REFRESH_S, WHOLE_REFRESH_S = SECONDS = (2.0, 10.0, 50.0)
MIN_PLAIN_STEPS, MIN_REFRESH_STEPS = 20, 3  # as the design asks


def coverage(n, rank):
    """Return the probability that the median lies between the order statistics ``rank`` and ``n - 1 - rank``."""
    return 1 - 2 * sum(math.comb(n, k) for k in range(rank + 1)) / 2**n


@pytest.mark.parametrize(
    ("n", "lower"),
    [
        (1, 0),
        (5, 0),
        (12, 2),  # P(3 <= B(12, 1/2) <= 9) = 0.961
        (30, 9),  # 0.957
        (100, 40),  # 0.943, and 39 would be 0.965: the normal approximation
    ],
)
def test_the_interval_of_a_median(n, lower):
    values = [float(value) for value in range(n)]
    assert median_interval(values[::-1]) == (values[lower], values[n - 1 - lower])
    if n >= MIN_ROUNDS:
        assert coverage(n, lower) > 0.94
        assert coverage(n, lower + 1) < 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What the fake optimizer below costs, and how often it refreshes."""

    intervals: tuple[int, ...]
    now: tiny.FakeClock
    slow_every: int = 10**9


class Timed(torch.optim.SGD):
    """An optimizer whose steps take exactly as long as they should."""

    def __init__(self, model, timing):
        super().__init__(model.parameters(), lr=0.1)
        self.timing, self.num_steps, self.refreshes = timing, 0, []
        if timing.intervals:
            self.refresh_intervals, self.refreshed = timing.intervals, 0
            self.schedule_refresh = self.refreshes.append

    def step(self, closure=None):
        self.num_steps += 1
        level = self.refreshes[-1] if self.refreshes else 0
        slowness = 1000 if self.num_steps % self.timing.slow_every == 0 else 1
        self.timing.now.advance(slowness * SECONDS[level])
        assert self.param_groups[0]["lr"] == 0.0  # no step moves the model out of the regime that is measured
        return super().step(closure)


@pytest.fixture
def now(monkeypatch):
    now = tiny.FakeClock()
    monkeypatch.setattr(calibration, "TrainClock", lambda device: TrainClock(device, now))
    return now


def timed_task(now, intervals, **rest):
    task = tiny.task()
    return replace(task, spec=replace(task.spec, build=Timed), config=Timing(intervals=intervals, now=now, **rest))


PLAIN, REFRESH = MIN_ROUNDS * PLAIN_STEPS, MIN_ROUNDS * REFRESH_STEPS
EXPECTED = {
    # intervals: seconds a step, of a plain one, of a refresh, steps timed
    "never": ((), PLAIN_S, PLAIN_S, None, PLAIN),
    "always": ((1,), REFRESH_S, None, REFRESH_S, PLAIN),
    "each fourth": ((4,), (3 * PLAIN_S + REFRESH_S) / 4, PLAIN_S, REFRESH_S, PLAIN + REFRESH),
    "each hundredth": ((100,), (99 * PLAIN_S + REFRESH_S) / 100, PLAIN_S, REFRESH_S, PLAIN + REFRESH),
    "at two levels": (
        (4, 20),
        (15 * PLAIN_S + 4 * REFRESH_S + WHOLE_REFRESH_S) / 20,
        PLAIN_S,
        (4 * REFRESH_S + WHOLE_REFRESH_S) / 5,
        PLAIN + 2 * REFRESH,
    ),
    "two levels at once": ((4, 4), (3 * PLAIN_S + WHOLE_REFRESH_S) / 4, PLAIN_S, WHOLE_REFRESH_S, PLAIN + REFRESH),
}


@pytest.mark.parametrize(("intervals", "step_s", "plain_s", "refresh_s", "num"), EXPECTED.values(), ids=EXPECTED)
def test_steps_are_combined_by_frequency(now, intervals, step_s, plain_s, refresh_s, num):
    [measured] = calibrate([timed_task(now, intervals)], Workers())
    assert measured.step_s == measured.step_s_low == measured.step_s_high == pytest.approx(step_s)
    assert (measured.plain_step_s, measured.num_timed_steps) == (plain_s, num)
    assert measured.refresh_step_s == (refresh_s and pytest.approx(refresh_s))


def test_the_arms_are_measured_together_and_apart(now):
    measured = calibrate([timed_task(now, intervals) for intervals in ((), (1,), (4,))], Workers())
    assert [one.step_s for one in measured] == pytest.approx([2, 10, 4])


def test_a_few_disturbed_steps_do_not_move_the_median(now):
    [measured] = calibrate([timed_task(now, (), slow_every=41)], Workers())  # once in seven rounds or so
    assert measured.step_s == measured.plain_step_s == PLAIN_S


def test_quick_steps_are_timed_more_often(now, monkeypatch):
    monkeypatch.setattr(calibration, "SECONDS_PER_ARM", 20 * PLAIN_STEPS * PLAIN_S)
    [measured] = calibrate([timed_task(now, ())], Workers())
    assert measured.num_timed_steps == 20 * PLAIN_STEPS
    monkeypatch.setattr(calibration, "SECONDS_PER_ARM", 1e6)
    [measured] = calibrate([timed_task(now, ())], Workers())
    assert measured.num_timed_steps == MAX_ROUNDS * PLAIN_STEPS


def test_enough_steps_of_each_kind():
    assert MIN_ROUNDS * PLAIN_STEPS >= MIN_PLAIN_STEPS
    assert MIN_ROUNDS * REFRESH_STEPS >= MIN_REFRESH_STEPS


@pytest.mark.parametrize("optimizer", ["sgd", "adafisher", "adafisher_released"])
def test_the_real_ones_on_the_real_clock(optimizer, monkeypatch):
    monkeypatch.setattr(calibration, "SECONDS_PER_ARM", 0.05)
    [measured] = calibrate([tiny.task(optimizer)], Workers())
    assert 0 < measured.step_s_low <= measured.step_s <= measured.step_s_high
    has_kinds = (measured.plain_step_s is not None, measured.refresh_step_s is not None)
    assert has_kinds == {"sgd": (True, False), "adafisher": (False, True)}.get(optimizer, (True, True))
    assert measured.num_timed_steps >= MIN_PLAIN_STEPS
