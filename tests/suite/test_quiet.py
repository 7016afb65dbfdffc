"""Waiting for a quiet machine."""

import pytest

from suite.execution.quiet import PATIENCE_S, WINDOW_S, wait_until_quiet
from tests.suite.tiny import FakeClock


def machine(loads):
    """Return the busy time, clock and sleep of a machine whose cores are so busy in one window after another."""
    clock, busy, loads = FakeClock(), [0.0], iter(loads)

    def sleep(seconds):
        clock.advance(seconds)
        busy[0] += next(loads) * seconds

    return (lambda: busy[0]), clock, sleep


CASES = {  # busy cores in each window, whether it became quiet, seconds waited
    "quiet": ([0.05], True, WINDOW_S),
    "quiet after a while": ([2.0, 1.1, 0.05], True, 3 * WINDOW_S),
    "never quiet": ([1.0] * 100, False, PATIENCE_S),
}


@pytest.mark.parametrize(("loads", "becomes_quiet", "waited"), CASES.values(), ids=CASES)
def test_it_waits_until_the_cores_are_idle(loads, becomes_quiet, waited):
    busy_time, clock, sleep = machine(loads)
    started = clock.time
    assert wait_until_quiet(busy_time, clock, sleep) is becomes_quiet
    assert clock.time - started == pytest.approx(waited)


def test_it_does_not_wait_where_it_cannot_know():
    assert wait_until_quiet(lambda: None, FakeClock(), lambda _: pytest.fail("it slept")) is False
