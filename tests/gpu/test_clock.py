"""The training clock on CUDA charges what the device does, not what it takes to queue it."""

import time

import pytest
import torch

from suite.training.clock import TrainClock
from tests.gpu.needs import cuda

pytestmark = cuda

SIZE, NUM_PRODUCTS = 8192, 12  # 1e12 operations each: tens of milliseconds a product at the least, on any device
LIKE = 0.25  # by which part two measurements of the same queue may differ: clocks rise and fall


@pytest.fixture
def work(device):
    """Queue a second of work or so, and return without waiting."""
    matrix = torch.randn(SIZE, SIZE, device=device)
    out = torch.empty_like(matrix)

    def queue():
        for _ in range(NUM_PRODUCTS):
            torch.mm(matrix, matrix, out=out)

    queue()
    torch.cuda.synchronize()
    return queue


def seconds(work):
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    queued = time.perf_counter() - start
    torch.cuda.synchronize()
    return queued, time.perf_counter() - start


def test_a_step_is_charged_until_its_last_kernel_has_ended(device, work):
    queued, whole = seconds(work)
    assert queued < whole / 5, "the work is to outlast its queueing"
    clock = TrainClock(device)
    clock.resume()
    start = time.perf_counter()
    work()
    assert clock.lap("first") == []  # it is not known to have ended
    assert time.perf_counter() - start < whole / 2, "a lap may not wait for its own step"
    work()
    [(note, first)] = clock.lap("second")
    [(last, second)] = clock.pause()
    assert (note, last) == ("first", "second")
    assert first == pytest.approx(whole, rel=LIKE)
    assert second == pytest.approx(whole, rel=LIKE)
    assert clock.train_s == first + second


def test_what_is_queued_while_the_clock_stands_is_not_charged(device, work):
    _, whole = seconds(work)
    clock = TrainClock(device)
    clock.resume()
    work()
    clock.lap()
    clock.pause()
    with clock.account("eval"):
        work()
        work()
    clock.resume()
    clock.lap()
    clock.pause()
    assert clock.train_s == pytest.approx(whole, rel=LIKE)
    assert clock.spent["eval"] == pytest.approx(2 * whole, rel=LIKE)
