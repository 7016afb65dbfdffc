import json
from dataclasses import replace

import pytest

from optimizers import Categorical, Float
from suite.config import Arm
from suite.errors import UsageError
from suite.execution import selection as module
from suite.execution.selection import (
    Winner,
    best_point,
    due,
    num_extensions,
    outdated,
    whole_space,
    window,
    winners,
)
from suite.plan import expand, race_runs, tuning_runs
from suite.study import Race, Tuning
from tests.suite import tiny
from tests.suite.rows import planned_row
from tests.suite.test_conduct import LRS, STEPS, finished, make_study, raced, result


def test_what_is_due_is_the_plan_less_what_is_done_in_order():
    runs = expand(make_study())
    rows = {run.run_id: {} for run in runs[1::2]} | {"of another plan": {}}
    assert due(runs, rows) == runs[::2]
    assert due(runs, {}) == runs


SGD_TRIALS = [run for run in tuning_runs(make_study()) if run.arm.name == "sgd"]
BESTS = {
    # metric, loss, status of each trial; the winner
    "metric": ([(0.5,), (0.9,), (0.7,)], 1),
    "tie: lower loss": ([(0.9, 0.3), (0.9, 0.1), (0.9, 0.2)], 1),
    "tie: earlier trial": ([(0.5, 0.1), (0.9, 0.2), (0.9, 0.2)], 1),
    "diverged": ([(0.5,), (None, None, "diverged"), (0.4,)], 0),
    "failed": ([(0.5,), (0.9, 0.1, "failed"), (0.6,)], 2),
    "target reached": ([(0.5,), (0.6,), (0.96, 0.1, "target_reached")], 2),
    "none": ([(None, None, "diverged")] * 3, None),
}


@pytest.mark.parametrize(("results", "winner"), BESTS.values(), ids=BESTS)
def test_the_best_trial(results, winner):
    point = best_point(SGD_TRIALS, finished(SGD_TRIALS, results))
    assert point == (None if winner is None else {"lr": LRS[winner], "momentum": 0.5})


def test_the_best_trial_of_a_metric_to_minimize(monkeypatch):
    workload = replace(tiny.MLP, metric_goal="minimize")
    monkeypatch.setattr(module.workloads, "find", lambda _: workload)
    assert best_point(SGD_TRIALS, finished(SGD_TRIALS, [(0.5,), (0.2,), (0.7,)]))["lr"] == LRS[1]


def test_the_winners_of_all_arms():
    study = make_study()
    rows = {}
    for run in tuning_runs(study):
        rows[run.run_id] = result(run, 0.1 * run.trial, 1.0, "completed" if run.arm.name == "sgd" else "diverged")
    assert {arm: winner.point for (arm, _), winner in winners(study, rows).items()} == {
        "sgd": {"lr": LRS[2], "momentum": 0.5},
        "adam": None,
    }


def test_without_a_sweep_the_arms_values_win():
    assert winners(make_study(tune=None), {}) == {(arm, "fixed"): Winner({}, {}) for arm in ("sgd", "adam")}


def test_no_winner_before_all_trials_are_done():
    study = make_study()
    rows = {run.run_id: result(run) for run in tuning_runs(study)[:-1]}
    with pytest.raises(UsageError, match="arm 'adam' has no winner yet: 1 of 3 trials are missing.*--given adam.lr"):
        winners(study, rows)


def test_a_race_is_outdated_once_another_point_wins():
    study = make_study(tune=Tuning(budget=STEPS, num_trials=3))
    shorter = make_study(tune=Tuning(budget=STEPS, num_trials=2))
    races = race_runs(study)
    assert races == race_runs(shorter)  # how long the sweep is does not change what a race is
    rows = {run.run_id: result(run, 0.5) for run in tuning_runs(shorter)} | {run.run_id: raced(run) for run in races}
    assert outdated(shorter, races, rows) == []
    assert outdated(study, races, rows) == []  # not known before the third trials are done
    rows |= {run.run_id: result(run, 0.6 if run.arm.name == "sgd" else 0.4) for run in tuning_runs(study)[-2:]}
    assert outdated(study, races, rows) == [run for run in races if run.arm.name == "sgd"]


def test_what_failed_is_due_again_where_it_is_to_be_retried():
    runs = tuning_runs(make_study())
    rows = {run.run_id: {"status": "failed" if run.trial == 1 else "completed"} for run in runs}
    assert due(runs, rows) == []
    assert due(runs, rows, ("failed", "out_of_memory")) == [run for run in runs if run.trial == 1]


def test_a_race_says_what_its_tuning_cost():
    study = make_study(race=Race(budget=STEPS, sources=("winner", "default")))
    rows = {run.run_id: result(run) | {"train_time_s": 2.0 + run.trial} for run in tuning_runs(study)}
    chosen = winners(study, rows)
    assert chosen["sgd", "winner"].cost == {"num_tuning_trials": 3, "tuning_time_s": 9.0}
    assert chosen["sgd", "default"] == Winner({}, {"num_tuning_trials": 0, "tuning_time_s": 0.0})


def test_a_transferred_winner_is_that_of_the_other_workload():
    tune = Tuning(budget=STEPS, num_trials=3, transfer_from="tests.suite.tiny:EASY")
    study = make_study(tune=tune, race=Race(budget=STEPS, sources=("winner", "transferred")))
    rows = {
        run.run_id: result(run, 0.9 if (run.trial == 2) == (run.workload == study.workload) else 0.1)
        for run in tuning_runs(study)
    }
    chosen = winners(study, rows)
    assert chosen["sgd", "winner"].point["lr"] == LRS[2]
    assert chosen["sgd", "transferred"].point["lr"] == LRS[0]


LOG = Float(low=1e-3, high=1e-1, log=True)
PLAIN = Float(low=0.0, high=0.8)


def swept(*points, max_extensions=2, space=None):
    """Return a sweep, its planned trials, and rows of as many as there are points (lr, momentum, metric)."""
    arm = Arm(name="sgd", optimizer="sgd", search_space=space or {"lr": LOG, "momentum": PLAIN})
    tune = Tuning(budget=STEPS, num_trials=4, max_extensions=max_extensions)
    study = make_study(arms=(arm,), tune=tune, race=None)
    runs = tuning_runs(study, max_extensions)
    rows = {}
    for run, (lr, momentum, metric) in zip(runs, points, strict=False):
        values = json.dumps({"lr": lr, "momentum": momentum})
        rows[run.run_id] = planned_row(run, hyperparameters=values, val_metric=metric)
    return study, runs, rows


INSIDE = [(0.01, 0.4, 0.9), (0.02, 0.1, 0.5), (0.003, 0.7, 0.6), (0.05, 0.3, 0.7)]
AT_HIGH_LR = [*INSIDE[:3], (0.09, 0.4, 0.95)]


def test_a_best_trial_inside_ends_the_sweep():
    study, _, rows = swept(*INSIDE)
    assert num_extensions(study, rows) == 0


def test_a_best_trial_on_an_edge_moves_the_range_beyond_it():
    study, runs, rows = swept(*AT_HIGH_LR)
    assert num_extensions(study, rows) == 1
    space = window(study.tune, runs, 1, rows)
    assert space == {"lr": Float(low=0.01, high=1.0, log=True), "momentum": PLAIN}
    assert whole_space(study.tune, runs, 1, rows)["lr"] == Float(low=1e-3, high=1.0, log=True)
    assert whole_space(study.tune, runs, 0, rows) == runs[0].arm.search_space


def test_no_extension_before_the_sweep_is_done_nor_beyond_the_limit():
    study, _, rows = swept(*AT_HIGH_LR)
    assert num_extensions(study, dict(list(rows.items())[:-1])) == 0
    study, _, rows = swept(*AT_HIGH_LR, max_extensions=0)
    assert num_extensions(study, rows) == 0


def test_an_extension_that_finds_the_best_inside_is_the_last():
    study, _, rows = swept(*AT_HIGH_LR, (0.3, 0.4, 0.97), (0.05, 0.4, 0.2))
    assert num_extensions(study, rows) == 1


def test_an_extension_may_find_the_best_on_the_next_edge():
    study, runs, rows = swept(*AT_HIGH_LR, (0.95, 0.4, 0.97), (0.05, 0.4, 0.2))
    assert num_extensions(study, rows) == 2
    assert window(study.tune, runs, 2, rows)["lr"] == Float(low=0.0316227766017, high=31.6227766017, log=True)


def test_a_range_is_not_moved_to_where_the_optimizer_takes_no_value():
    space = {"lr": LOG, "momentum": Float(low=0.0, high=0.99)}
    study, _, rows = swept(*INSIDE[:3], (0.01, 0.98, 0.95), space=space)
    assert num_extensions(study, rows) == 0


def test_a_set_of_choices_is_not_extended():
    space = {"lr": Categorical(choices=(0.01, 0.02, 0.03)), "momentum": PLAIN}
    study, _, rows = swept(*[(0.03, 0.4, 0.5)] * 4, space=space)
    assert num_extensions(study, rows) == 0


def test_a_sweep_without_a_completed_trial_is_not_extended():
    study, _, rows = swept(*AT_HIGH_LR)
    assert num_extensions(study, {run_id: row | {"status": "diverged"} for run_id, row in rows.items()}) == 0
