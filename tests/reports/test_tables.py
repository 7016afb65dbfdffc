"""Tables by value, on a few rows."""

from reports import tables
from reports.race import race
from reports.sweep import sweep
from tests.reports.searches import SPACE, entries, pruned, searched
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


def test_the_leaderboard_says_what_the_tuning_took():
    table = tables.leaderboard(race(frames_of(runs=entries({"a": [0.9, 0.91], "a (default)": [0.8, 0.81]}))))
    assert table.columns[-1] == "Tuned with"
    assert [(row[0], row[-1]) for row in table.rows] == [("a", "12 trials, 30 s"), ("a (default)", "nothing")]
    assert table.note.startswith("“(default)”: with the optimizer's own default values")


def test_the_leaderboard_of_results_that_do_not_say_it_has_no_such_column():
    table = tables.leaderboard(race(frames_of(runs=race_of({"a": [0.9, 0.91]}))))
    assert table.columns[-1] == "Runs that count" and table.note.startswith("Mean ±")


def test_winners_count_what_did_not_run_to_its_end():
    good, early, lost = searched("sgd", [({"lr": 0.08, "momentum": 0.5}, 0.8), ({"lr": 0.02}, None), ({"lr": 1}, None)])
    good["hyperparameters"] = '{"lr": 0.08, "momentum": 0.5, "nesterov": false}'
    table = tables.winners(sweep(frames_of(runs=[good, pruned(early, 0.99), lost])), "accuracy")
    cells = ("sgd", "0", "0.8", "lr = 0.08, momentum = 0.5", "0", "3 (1 lost, 1 stopped early)", "33 %", "9 s")
    assert table.rows == (cells,)


def test_what_was_searched():
    space = SPACE | {"layers": {"choices": ["paper", "dense"]}}
    searches = sweep(frames_of(runs=searched("sgd", [({"lr": 0.08, "momentum": 0.5, "layers": "paper"}, 0.8)], space)))
    assert tables.searched(searches).rows == (
        ("sgd", "lr", "0.0001", "0.1", "logarithmic", "0.08 (on the upper edge)"),
        ("sgd", "momentum", "0", "0.99", "linear", "0.5"),
        ("sgd", "layers", "–", "–", "paper, dense", "paper"),
    )
