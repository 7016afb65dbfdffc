import re
from dataclasses import replace
from datetime import timedelta
from os import terminal_size

import pytest

from suite.execution.live import COLUMNS, LOG_EVERY_S, Log, Terminal, duration, is_over, stage, table
from tests.suite import tiny
from tests.suite.rows import START, planned_row


def trials(arm="sgd", num=4, **changes):
    arm = replace(tiny.arm(), name=arm)
    return [tiny.plan(purpose="tune", trial=k, arm=arm, source="sampled", **changes) for k in range(num)]


def races(num=2, **changes):
    return [tiny.plan(purpose="race", seed=k, source="winner", **changes) for k in range(num)]


def row(run, start=0.0, seconds=2.0, **changes):
    times = {"started_at": START + timedelta(seconds=start), "finished_at": START + timedelta(seconds=start + seconds)}
    return planned_row(run, arm=run.label, train_time_s=seconds, metric_goal="maximize", **times) | changes


def by_id(runs_or_rows):
    return {item["run_id"] if isinstance(item, dict) else item.run_id: item for item in runs_or_rows}


def show(planned, rows, purpose="tune"):
    return table(by_id(planned), by_id(rows), purpose)


def cells(line):
    return re.split(r"\s{2,}", line.strip())


def test_a_line_for_each_arm():
    a, b = trials("a", 12), trials("adafisher", 12)
    statuses = ["completed", "completed", "diverged", "failed", "out_of_memory", "pruned", "target_reached"]
    metrics = [0.5, 0.75, None, None, None, 0.99, 0.625]
    rows = [
        row(run, start, status=status, val_metric=metric)
        for start, (run, status, metric) in enumerate(zip(a, statuses, metrics, strict=False))
    ]
    lines = [
        "tune on tests.suite.tiny:MLP: validation accuracy, higher is better",
        "arm        runs    best  trained  diverged  failed  pruned  left",
        "a          7/12  0.7500     14 s         1       2       1   6 s",  # 5 of 2 s, of which 14 s took 8
        "adafisher  0/12       —      0 s         0       0       0     —",
    ]
    assert show([*a, *b], rows) == lines


def test_a_metric_that_falls_is_best_at_its_lowest():
    runs = trials()
    rows = [
        row(run, val_metric=value, metric_goal="minimize") for run, value in zip(runs, (3.0, 2.0, 2.5), strict=False)
    ]
    lines = show(runs, rows)
    assert lines[0].endswith("validation accuracy, lower is better")
    assert cells(lines[2])[2] == "2.0000"


def test_a_large_metric_stays_narrow():
    runs = trials()
    assert cells(show(runs, [row(runs[0], val_metric=123456.0)])[2])[2] == "1.23e+05"


def test_without_a_validation_split_nothing_is_best():
    runs = races()
    assert cells(show(runs, [row(runs[0], val_metric=None)], "race")[2])[1:3] == ["1/2", "—"]


def test_a_run_that_took_no_time_to_train_is_counted():
    runs = trials()
    assert cells(show(runs, [row(runs[0], seconds=0.0) | {"train_time_s": None, "status": "failed"}])[2])[3] == "0 s"


def test_other_rows_do_not_count():
    runs = trials()
    stray = row(tiny.plan(seed=99))
    assert show(runs, [stray]) == show(runs, [])


def test_an_arm_is_told_by_where_its_hyperparameters_come_from():
    runs = [*races(), *[replace(run, source="default") for run in races()]]
    lines = show(runs, [row(runs[0]), row(runs[2])], "race")
    assert [line.split("  ")[0] for line in lines[2:]] == ["sgd", "sgd (default)"]
    assert [cells(line)[1] for line in lines[2:]] == ["1/2", "1/2"]


def test_workloads_are_told_apart_under_one_head():
    mlp, normed = trials(), trials(workload="tests.suite.tiny:NORMED", num=2)
    order = [run for pair in zip(mlp, [*normed, *normed], strict=True) for run in pair]
    lines = show(order, [row(normed[1])])
    assert lines[0] == "tune on tests.suite.tiny:MLP"
    assert cells(lines[1]) == list(COLUMNS)
    assert cells(lines[2])[:2] == ["sgd", "0/4"]
    assert lines[3] == "tune on tests.suite.tiny:NORMED: validation accuracy, higher is better"
    assert cells(lines[4])[:2] == ["sgd", "1/2"]
    assert len(lines) == 5


@pytest.mark.parametrize(("length", "shown"), [(24, 24), (25, 24), (80, 24)])
def test_a_long_name_is_cut(length, shown):
    runs = trials("a" * length, num=999)
    lines = show(runs, [row(run, seconds=4000, val_metric=123456.0) for run in runs[:100]])
    assert lines[2].split()[0] == ("a" * length if length == shown else "a" * (shown - 1) + "…")
    assert max(map(len, lines)) <= 100
    assert len({len(line) for line in lines[1:]}) == 1


@pytest.mark.parametrize(
    ("spans", "left"),
    [
        ([], "—"),
        ([(0, 10)], "30 s"),
        ([(0, 10), (10, 10)], "20 s"),  # one after the other
        ([(0, 10), (0, 10)], "10 s"),  # side by side
        ([(0, 10), (1000, 10)], "20 s"),  # a break does not count
        ([(0, 10), (5, 10)], "15 s"),  # 20 s of runs in 15 s
        ([(0, 10), (2, 2)], "10 s"),  # one within the other: 12 s of runs in 10 s
        ([(0, 10)] * 4, "0 s"),
        ([(0, 0)], "0 s"),
    ],
)
def test_what_is_left_is_forecast_from_runs_side_by_side(spans, left):
    runs = trials()
    rows = [row(run, *span) for run, span in zip(runs, spans, strict=False)]
    assert cells(show(runs, rows)[2])[-1] == left


def test_arms_that_run_side_by_side_share_the_machine():
    a, b = trials("a", 3), trials("b", 3)
    lines = show([*a, *b], [row(a[0], 0, 10), row(b[0], 0, 20)])
    assert [cells(line)[-1] for line in lines[2:]] == ["13 s", "27 s"]  # 2 x 10 s and 2 x 20 s, 1.5 at once


def test_the_stage_that_goes_on():
    tune, race = trials(), races()
    calibration = tiny.plan(purpose="calibrate")
    planned = by_id([calibration, *tune, *race])
    assert stage(planned, {}) == "tune"
    assert stage(planned, by_id([row(run) for run in tune[1:]])) == "tune"
    assert stage(planned, by_id([row(run) for run in tune])) == "race"
    assert is_over(planned, by_id([row(run) for run in tune]), "tune")
    assert stage(planned, by_id([row(run) for run in [*tune, *race]])) == "race"
    assert stage(by_id(tune), by_id([row(run) for run in tune])) == "tune"
    assert stage(by_id([calibration]), {}) is None
    assert stage({}, {}) is None


def test_of_a_stage_that_is_not_planned_there_is_no_table():
    assert show([], []) == []
    assert show(trials(), [], "race") == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (600, "10 min"), (5399, "90 min"), (5400, "1.5 h"), (36000, "10.0 h")],
)
def test_a_duration_as_people_say_it(seconds, text):
    assert duration(seconds) == text


class Window:
    """A terminal of some size: prints, moves the cursor up, and clears what is below it."""

    def __init__(self, columns=80, lines=24):
        self.size, self.text, self.num_said = terminal_size((columns, lines)), [], 0

    def __call__(self, text):
        self.num_said += 1
        move = re.match(r"\x1b\[(\d+)A\x1b\[J", text)
        if move:
            assert 0 < int(move[1]) < self.size.lines, "the cursor cannot leave the window"
            del self.text[-int(move[1]) :]
            text = text[move.end() :]
        assert "\x1b" not in text
        self.text += text.split("\n") if text or not move else []


@pytest.fixture
def window():
    return Window()


def terminal(window):
    return Terminal(window, lambda: window.size)


def test_a_table_stays_below_the_lines(window):
    screen = terminal(window)
    screen.show([], ["head", "a 0"])
    assert window.text == ["head", "a 0"]
    screen.show(["run 1", "run 2"], ["head", "a 2"])
    screen.show(["run 3"], ["head", "a 3", "b 0"])
    assert window.text == ["run 1", "run 2", "run 3", "head", "a 3", "b 0"]
    screen.show([], ["head"])
    assert window.text == ["run 1", "run 2", "run 3", "head"]


def test_lines_without_a_table(window):
    screen = terminal(window)
    screen.show(["run 1"], [])
    screen.show(["run 2"], ["head"])
    screen.show(["run 3"], [])
    screen.show([], [])
    screen.close([])
    assert window.text == ["run 1", "run 2", "run 3"]


def test_what_has_not_changed_is_not_drawn_again(window):
    screen = terminal(window)
    for _ in range(3):
        screen.show([], ["head"])
    assert window.num_said == 1


def test_a_closed_table_stays_and_the_next_comes_below(window):
    screen = terminal(window)
    screen.show([], ["tune 1"])
    screen.close(["tune 2"])
    screen.show(["line"], ["race"])
    assert window.text == ["tune 2", "line", "race"]


def test_what_the_window_cannot_hold_is_left_out_until_the_end():
    window = Window(columns=10, lines=5)
    screen = terminal(window)
    long = [f"{k} of many lines" for k in range(9)]
    for _ in range(2):
        screen.show(["line"], long)
    assert window.text == ["line", "line", "0 of man…", "1 of man…", "2 of man…", "… and 6 …"]
    screen.close(long)
    assert window.text == ["line", "line", *long]


def log(now):
    said = []
    return Log(said.append, now), said


def test_a_log_has_a_table_a_minute_after_the_last():
    now = tiny.FakeClock()
    screen, said = log(now)
    screen.show([], ["0"])
    screen.show(["run 1"], ["1"])
    now.advance(LOG_EVERY_S)
    screen.show([], ["1"])
    assert said == ["run 1"]  # no news, no table
    screen.show(["run 2"], ["2", "…"])
    screen.show(["run 3"], ["3", "…"])
    assert said == ["run 1", "run 2", "2", "…", "run 3"]


def test_a_log_ends_with_a_table():
    screen, said = log(tiny.FakeClock())
    screen.show([], ["0"])
    screen.show(["run 1"], ["1"])
    screen.close(["1"])
    screen.close(["1"])
    assert said == ["run 1", "1"]


def test_a_log_has_no_table_where_nothing_was_done():
    screen, said = log(tiny.FakeClock())
    screen.show([], ["0"])
    screen.close(["0"])
    assert said == []
