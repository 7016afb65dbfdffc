import pytest

from suite.config import Budget
from suite.execution.progress import HEARTBEAT_S, Progress, describe, duration
from tests.suite import tiny
from tests.suite.rows import planned_row, run_row

SECONDS = Budget(kind="wall_clock", amount=4)


class FakeStore:
    def __init__(self):
        self.rows = {}

    def unfolded(self):
        return list(self.rows)

    def read_run(self, run_id, attempt):
        return self.rows[run_id, attempt]

    def finish(self, run, **changes):
        self.rows[run.run_id, 1] = planned_row(run, **changes)


def plans(num, **changes):
    return [tiny.plan(purpose="race", seed=seed, budget=SECONDS, **changes) for seed in range(num)]


@pytest.fixture
def store():
    return FakeStore()


@pytest.fixture
def now():
    return tiny.FakeClock()


def start(store, now, planned, finished=()):
    said = []
    return Progress(planned, finished, store, said.append, now), said


def test_a_line_for_each_new_run(store, now):
    runs = plans(30)
    progress, said = start(store, now, runs)
    store.finish(runs[0], val_metric=0.5)
    progress.look()
    progress.look()
    store.finish(runs[1], status="diverged", val_metric=None)
    progress.look()
    assert said == [
        "[ 1/30] race      sgd                seed 0   validation accuracy 0.5000 after 2.0 s",
        "[ 2/30] race      sgd                seed 1   diverged",
    ]


def test_only_what_is_planned_and_new_is_told(store, now):
    runs = plans(3)
    store.finish(runs[0])
    progress, said = start(store, now, runs, {runs[0].run_id: {}})
    store.finish(tiny.plan(seed=99))
    progress.look()
    assert said == []
    store.finish(runs[1])
    progress.look()
    assert [line.split()[0] for line in said] == ["[2/3]"]


def test_what_is_finished_of_other_plans_does_not_count(store, now):
    """A store may hold runs of an earlier choice of seeds or arms."""
    runs = plans(3)
    progress, said = start(store, now, runs, {"of another plan": {}, "and another": {}, runs[0].run_id: {}})
    store.finish(runs[1])
    progress.look()
    assert [line.split()[0] for line in said] == ["[2/3]"]


def test_the_rest_is_forecast_after_a_tenth(store, now):
    runs = plans(20)
    progress, said = start(store, now, runs)
    for run in runs[:4]:
        now.advance(10)
        store.finish(run)
        progress.look()
    assert ["left" in line for line in said] == [False, False, True, True]
    assert said[2].endswith("   about 3 min left")  # 17 runs of 10 s
    assert said[3].endswith("   about 3 min left")


def test_a_forecast_weighs_runs_by_their_seconds(store, now):
    short, long = plans(2, num_threads=1), [tiny.plan(seed=9, budget=Budget(kind="wall_clock", amount=32))]
    progress, said = start(store, now, [*short, *long])
    now.advance(10)
    for run in short:
        store.finish(run)
    progress.look()
    assert said[-1].endswith("   about 40 s left")


def test_a_forecast_knows_only_what_was_done_since_the_start(store, now):
    runs = plans(4)
    progress, said = start(store, now, runs, {run.run_id for run in runs[:2]})
    now.advance(10)
    store.finish(runs[2])
    progress.look()
    assert said[0].startswith("[3/4]")
    assert said[0].endswith("   about 10 s left")


def test_nothing_is_forecast_when_all_is_done(store, now):
    runs = plans(1)
    progress, said = start(store, now, runs)
    now.advance(10)
    store.finish(runs[0])
    progress.look()
    assert "left" not in said[0]


def test_silence_is_broken_now_and_then(store, now):
    progress, said = start(store, now, plans(3))
    for _ in range(5):
        now.advance(HEARTBEAT_S / 2 + 1)
        progress.look()
    assert said == ["[0/3] still at work"] * 2


def test_a_line_puts_off_the_heartbeat(store, now):
    runs = plans(3)
    progress, said = start(store, now, runs)
    now.advance(HEARTBEAT_S - 1)
    store.finish(runs[0])
    progress.look()
    now.advance(HEARTBEAT_S - 1)
    progress.look()
    assert len(said) == 1


def test_the_last_look_is_at_the_end(store, now):
    runs = plans(1)
    progress, said = start(store, now, runs)
    with progress:
        store.finish(runs[0])
    assert len(said) == 1


LINES = {
    "trial": (run_row(trial=7), "tune      sgd                trial 7  validation accuracy 0.7500 after 2.0 s"),
    "seed": (
        run_row(purpose="race", trial=None, seed=3),
        "race      sgd                seed 3   validation accuracy 0.7500 after 2.0 s",
    ),
    "input-bound": (
        run_row(purpose="race", trial=None, seed=3, data_time_s=0.5),
        "race      sgd                seed 3   validation accuracy 0.7500 after 2.0 s, "
        "input-bound: 25% of it waiting for data",
    ),
    "not input-bound": (
        run_row(purpose="race", trial=None, seed=3, data_time_s=0.1),
        "race      sgd                seed 3   validation accuracy 0.7500 after 2.0 s",
    ),
    "failed": (
        run_row(status="failed", val_metric=None, train_time_s=None),
        "tune      sgd                trial 0  failed",
    ),
    "calibration": (
        run_row(purpose="calibrate", trial=None, step_s=0.002, step_s_low=0.0015, step_s_high=0.0025),
        "calibrate sgd                2.00 ms a step (95 % interval 1.50-2.50)",
    ),
    "no validation": (
        run_row(purpose="race", trial=None, val_metric=None),
        "race      sgd                seed 0   completed",
    ),
}


@pytest.mark.parametrize(("row", "line"), LINES.values(), ids=LINES)
def test_a_finished_run_in_a_line(row, line):
    assert describe(row) == line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (600, "10 min"), (5399, "90 min"), (5400, "1.5 h"), (36000, "10.0 h")],
)
def test_a_duration_as_people_say_it(seconds, text):
    assert duration(seconds) == text
