import threading
import time
from dataclasses import replace

import pytest

from suite.config import Budget
from suite.execution import progress as module
from suite.execution.live import LOG_EVERY_S, Log, Terminal
from suite.execution.progress import HEARTBEAT_S, Progress, describe, screen
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
    said, rows = [], {run.run_id: planned_row(run) for run in finished}
    return Progress(planned, rows, store, said.append, now, shown_on=Log(said.append, now)), said


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
    progress, said = start(store, now, runs, runs[:1])
    store.finish(tiny.plan(seed=99))
    progress.look()
    assert said == []
    store.finish(runs[1])
    progress.look()
    assert [line.split()[0] for line in said] == ["[2/3]"]


def test_what_is_finished_of_other_plans_does_not_count(store, now):
    """A store may hold runs of an earlier choice of seeds or arms."""
    runs = plans(3)
    progress, said = start(store, now, runs, [*plans(9, num_threads=2), runs[0]])
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
    short, budget = plans(2), Budget(kind="wall_clock", amount=32)
    progress, said = start(store, now, [*short, tiny.plan(purpose="race", seed=9, budget=budget)])
    now.advance(10)
    for run in short:
        store.finish(run)
    progress.look()
    assert said[-1].endswith("   about 40 s left")


def test_a_forecast_knows_only_what_was_done_since_the_start(store, now):
    runs = plans(4)
    progress, said = start(store, now, runs, runs[:2])
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
    assert [line.split()[0] for line in said] == ["[1/1]", "race", "arm", "sgd"]


def test_a_work_without_news_has_no_table(store, now):
    progress, said = start(store, now, plans(3))
    with progress:
        pass
    assert said == []


def test_a_run_that_is_done_again_is_due_until_then(store, now):
    """A race whose winner has changed: its caller leaves the old row out."""
    runs = plans(2)
    store.finish(runs[0])
    progress, said = start(store, now, runs, runs[1:])
    store.rows[runs[0].run_id, 2] = planned_row(runs[0], attempt=2)
    progress.look()
    assert [line.split()[0] for line in said] == ["[2/2]"]


def test_the_plan_may_grow(store, now):
    runs = plans(4)
    progress, said = start(store, now, runs[:2])
    store.finish(runs[0])
    store.finish(runs[3])  # before it is planned
    progress.look()
    progress.plan(runs)
    store.finish(runs[1])
    progress.look()
    assert [line.split()[0] for line in said] == ["[1/2]", "[3/4]"]


def test_rows_of_trials_are_handed_on(store, now):
    trials, races = [replace(run, purpose="tune") for run in plans(3)], plans(1)
    progress, _ = start(store, now, [*trials, *races])
    store.finish(trials[0])
    progress.look()
    followed = []
    progress.follow(followed.append)
    for run in (*trials[1:], *races, tiny.plan(purpose="tune", seed=99)):
        store.finish(run)
    progress.look()
    progress.look()
    assert [row["run_id"] for row in followed] == [run.run_id for run in trials[1:]]


def test_a_follower_may_speak(store, now):
    trials = [replace(run, purpose="tune") for run in plans(2)]
    progress, said = start(store, now, trials)
    progress.follow(lambda row: progress.say(f"followed {row['seed']}"))
    store.finish(trials[0])
    progress.look()
    assert said[1:] == ["followed 0"]


def test_what_else_is_said_puts_off_the_heartbeat(store, now):
    progress, said = start(store, now, plans(3))
    now.advance(HEARTBEAT_S - 1)
    progress.say("racing")
    now.advance(HEARTBEAT_S - 1)
    progress.look()
    assert said == ["racing"]


def test_each_stage_ends_with_its_table(store, now):
    trials, races = [replace(run, purpose="tune") for run in plans(2)], plans(2)
    progress, said = start(store, now, [*trials, *races])
    with progress:
        for run in [*trials, *races]:
            store.finish(run)
            progress.look()
    titles = [(position, line.split()[0]) for position, line in enumerate(said) if ": validation accuracy" in line]
    assert titles == [(2, "tune"), (7, "race")]
    assert [line.split()[1] for line in (said[4], said[9])] == ["2/2", "2/2"]


def test_a_stage_that_comes_back_goes_on(store, now):
    """A sweep that has extended itself, after its race was in sight."""
    trials, races = [replace(run, purpose="tune") for run in plans(3)], plans(2)
    progress, said = start(store, now, [*trials[:2], *races], trials[:1])
    with progress:
        store.finish(trials[1])
        progress.look()
        progress.plan([*trials, *races])
        store.finish(trials[2])
        progress.look()
    counts = [line.split()[1] for line in said if line.startswith("sgd")]
    assert counts == ["2/2", "3/3", "0/2"]


def test_a_log_has_a_table_now_and_then(store, now):
    runs = plans(4)
    progress, said = start(store, now, runs)
    for run in runs[:3]:
        now.advance(LOG_EVERY_S / 2)
        store.finish(run)
        progress.look()
    assert [line.split()[0] for line in said] == ["[1/4]", "[2/4]", "race", "arm", "sgd", "[3/4]"]


def test_on_a_terminal_the_table_is_drawn_at_once_and_left_whole(store, now):
    runs, said = plans(2), []
    with Progress(runs, {}, store, said.append, now, shown_on=Terminal(said.append)) as progress:
        assert len(said) == 1
        assert said[0].startswith("race on ")
        now.advance(HEARTBEAT_S + 1)
        progress.look()
        assert len(said) == 1  # no heartbeat: the table is in sight
        progress.say("racing")
        store.finish(runs[0])
    assert said[1].startswith("\x1b[3A\x1b[Jracing\nrace on ")
    assert said[-1].startswith("\x1b[3A\x1b[Jrace on ")
    assert said[-1].splitlines()[-1].split()[:2] == ["sgd", "1/2"]


def test_lines_from_two_threads_do_not_mix(store, now):
    runs, at_work, overlaps = plans(20), [], []

    def say(_):
        overlaps.extend(at_work)
        at_work.append(threading.current_thread())
        time.sleep(1e-3)
        at_work.clear()

    progress = Progress(runs, {}, store, say, now, shown_on=Log(say, now))
    for run in runs:
        store.finish(run)
    looking = threading.Thread(target=progress.look)
    looking.start()
    for _ in range(20):
        progress.say("line")
    looking.join()
    assert overlaps == []


@pytest.mark.parametrize(
    ("is_terminal", "name", "kind"),
    [(True, "xterm", Terminal), (True, "dumb", Log), (True, None, Log), (False, "xterm", Log)],
)
def test_where_the_table_is_shown(monkeypatch, is_terminal, name, kind):
    monkeypatch.setattr(module.sys.stdout, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.delenv("TERM", raising=False)
    if name is not None:
        monkeypatch.setenv("TERM", name)
    assert isinstance(screen(print), kind)


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
