"""Tables by value, on a few rows."""

from reports import tables
from tests.reports.synthetic import frames_of, race_of, run


def test_where_the_time_went():
    times = {"train_time_s": 10.0, "eval_time_s": 1.0, "checkpoint_time_s": 0.5, "warmup_time_s": 0.25}
    runs = race_of({"sgd": [0.9, 0.9]}, **times, data_time_s=0.4, total_time_s=12.0)
    table = tables.time_spent(frames_of(runs=runs))
    assert table.rows == (("sgd", "race", "10 s", "4 %", "1 s", "500 ms", "250 ms", "12 s"),)


def test_a_run_that_never_trained_has_no_times():
    assert tables.time_spent(frames_of(runs=[run("a", status="failed")])).rows == ()


def test_further_metrics_are_those_of_the_last_evaluation_of_the_race():
    runs = [*race_of({"sgd": [0.9, 0.9]}), run("t", purpose="tune", arm="sgd")]
    metrics = [
        {"run_id": run_id, "attempt": 1, "step": step, "name": name, "value": value}
        for run_id, step, name, value in [
            ("sgd0", 10, "test_top5_accuracy", 0.1),
            ("sgd0", 20, "test_top5_accuracy", 0.5),
            ("sgd1", 20, "test_top5_accuracy", 0.7),
            ("sgd1", 20, "val_top5_accuracy", 0.2),
            ("sgd1", 20, "preconditioner_spread", 3.0),
            ("t", 20, "test_top5_accuracy", 0.0),
        ]
    ]
    table = tables.further_metrics(frames_of(runs=runs, metrics=metrics))
    assert table.rows == (("sgd", "top5 accuracy", "0.6", "0.1414", "2"),)


def test_without_further_metrics_there_is_no_row():
    assert tables.further_metrics(frames_of(runs=race_of({"sgd": [0.9]}))).rows == ()
