import pytest
import torch

from suite.training.clock import TrainClock
from tests.suite.tiny import FakeClock

CPU = torch.device("cpu")


@pytest.fixture
def now():
    return FakeClock()


@pytest.fixture
def clock(now):
    return TrainClock(CPU, now)


def test_laps_add_up_and_carry_their_notes(clock, now):
    clock.resume()
    now.advance(2)
    assert clock.lap("first") == [("first", 2)]
    now.advance(3)
    assert clock.lap() == [(None, 3)]
    assert clock.train_s == 5


def test_nothing_is_charged_between_pause_and_resume(clock, now):
    now.advance(1)
    clock.resume()
    now.advance(2)
    clock.lap()
    now.advance(4)
    assert clock.pause() == []
    now.advance(8)
    clock.resume()
    now.advance(16)
    clock.lap()
    assert clock.train_s == 2 + 16


def test_the_wait_for_data_is_part_of_the_step(clock, now):
    clock.resume()
    with clock.waiting_for_data():
        now.advance(2)
    now.advance(3)
    clock.lap()
    assert (clock.train_s, clock.data_s) == (5, 2)


@pytest.mark.parametrize("account", ["eval", "checkpoint", "warmup"])
def test_an_account_is_not_the_budgets(clock, now, account):
    for seconds in (2, 3):
        clock.resume()
        now.advance(1)
        clock.lap()
        clock.pause()
        with clock.account(account):
            now.advance(seconds)
    assert clock.train_s == 2
    assert clock.spent == {"eval": 0, "checkpoint": 0, "warmup": 0} | {account: 5}


def test_a_new_clock_goes_on_from_the_state_of_another(clock, now):
    clock.resume()
    with clock.waiting_for_data():
        now.advance(1)
    clock.lap()
    with clock.account("eval"):
        now.advance(2)
    with clock.account("checkpoint"):
        now.advance(4)
    other = TrainClock(CPU, FakeClock())
    other.load_state_dict(clock.state_dict())
    assert other.state_dict() == clock.state_dict()
    assert (other.train_s, other.data_s, other.spent) == (1, 1, {"eval": 2, "checkpoint": 4, "warmup": 0})


def test_a_state_does_not_change_with_its_clock(clock, now):
    state = clock.state_dict()
    with clock.account("eval"):
        now.advance(2)
    assert state["eval"] == 0


def test_the_default_time_source_is_monotonic():
    clock = TrainClock(CPU)
    clock.resume()
    assert all(clock.lap()[0][1] >= 0 for _ in range(100))
    assert clock.train_s > 0
