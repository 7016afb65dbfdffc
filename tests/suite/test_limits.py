import json
from pathlib import Path

import pytest
import torch

from suite.training.clock import TrainClock
from suite.training.limits import LiveLimit, StepLimit
from suite.training.workers import Workers
from tests import gloo
from tests.suite.tiny import FakeClock

BUDGET_S = 10.0


def test_a_number_of_steps():
    limit = StepLimit(4)
    assert [limit.frac_used(step) for step in range(6)] == [0, 0.25, 0.5, 0.75, None, None]


def live_fracs(step_s, workers, start_s=0.0):
    """Train under a live limit with steps of these seconds, the last of them again and again."""
    now = FakeClock()
    clock = TrainClock(torch.device("cpu"), now)
    clock.train_s = start_s
    limit = LiveLimit(BUDGET_S, clock, workers)
    clock.resume()
    fracs = []
    while (frac := limit.frac_used(len(fracs))) is not None:
        now.advance(step_s[min(len(fracs), len(step_s) - 1)])
        clock.lap()
        fracs.append(frac)
    return fracs, clock.train_s


LIVE = {
    "even": ([2.0], 0.0, [0, 0.2, 0.4, 0.6, 0.8], 10.0),
    "one too many": ([4.0], 0.0, [0, 0.4, 0.8], 12.0),
    "one long step": ([50.0], 0.0, [0], 50.0),
    "goes on": ([2.0], 5.0, [0.5, 0.7, 0.9], 11.0),
    "was over": ([2.0], 10.0, [], 10.0),
}


@pytest.mark.parametrize(("step_s", "start_s", "fracs", "end_s"), LIVE.values(), ids=LIVE)
def test_alone_the_clock_is_read_before_each_step(step_s, start_s, fracs, end_s):
    assert live_fracs(step_s, Workers(), start_s) == (pytest.approx(fracs), end_s)


# Seconds of each step on rank 0, whose clock decides, and on rank 1.
CLOCKS = {"quicker": ([1.0], [3.0]), "slower": ([3.0], [1.0]), "uneven": ([1.0, 2.0, 1.0, 7.0, 0.5], [0.25])}


def race_two_clocks(rank, folder):
    workers = Workers.join()
    told = {name: live_fracs(step_s[rank], workers) for name, step_s in CLOCKS.items()}
    told["goes on"] = live_fracs([1.0], workers, start_s=7.0)
    Path(folder, f"{rank}.json").write_text(json.dumps(told))


@pytest.mark.dist
def test_two_workers_stop_together_on_rank_0s_clock(tmp_path):
    gloo.spawn(race_two_clocks, tmp_path)
    zero, one = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert set(zero) == {*CLOCKS, "goes on"}
    for name, (fracs, train_s) in zero.items():
        assert one[name][0] == fracs, name
        assert all(0 <= frac < 1 for frac in fracs), name
        step_s = [1.0] if name == "goes on" else CLOCKS[name][0]
        taken = [step_s[min(step, len(step_s) - 1)] for step in range(len(fracs))]
        assert train_s >= BUDGET_S > train_s - sum(taken[-2:]), name  # at most two steps late
    assert zero["quicker"][0] == [0, 0, *(step / 10 for step in range(1, 10))]
    assert zero["goes on"][0] == [0.7, 0.7, 0.8, 0.9]
