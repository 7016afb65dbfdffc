import json

import pytest

from optimizers import Categorical, Float
from suite.config import Arm, Budget
from suite.execution.points import Points
from suite.plan import tuning_runs
from suite.study import Tuning
from tests.suite.rows import planned_row
from tests.suite.test_conduct import make_study

STEPS = Budget(kind="steps", amount=10)
ARM = Arm(name="sgd", optimizer="sgd", search_space={"lr": Float(low=1e-3, high=1e-1, log=True)})


def sweep(sampler, max_extensions=0, arm=ARM):
    tune = Tuning(budget=STEPS, num_trials=4, sampler=sampler, max_extensions=max_extensions)
    study = make_study(arms=(arm, Arm(name="other", optimizer=arm.optimizer, search_space=arm.search_space)), tune=tune)
    return tune, tuning_runs(study, max_extensions)


def row(run, lr, metric=0.5):
    return planned_row(run, hyperparameters=json.dumps({"lr": lr}), val_metric=metric)


@pytest.mark.parametrize("sampler", ["sobol", "random"])
def test_points_do_not_hang_on_the_order_nor_on_what_was_done(sampler):
    tune, runs = sweep(sampler)
    fresh = Points(tune, runs, {})
    resumed = Points(tune, runs, {runs[0].run_id: row(runs[0], 0.5)})
    points = [fresh.propose(run) for run in runs]
    assert [resumed.propose(run) for run in reversed(runs)] == points[::-1]
    assert len({point["lr"] for point in points}) == 8  # each arm has its own


@pytest.mark.parametrize("sampler", ["sobol", "grid", "tpe", "gp"])
def test_an_extension_searches_beyond_the_edge(sampler):
    arm = (
        ARM
        if sampler != "grid"
        else Arm(name="sgd", optimizer="sgd", search_space={"lr": Categorical(choices=(0.1, 0.2, 0.3, 0.4))})
    )
    tune, runs = sweep(sampler, max_extensions=1, arm=arm)
    first = [run for run in runs if run.trial < 4]
    rows = {
        run.run_id: row(run, 0.1 if run.trial == 3 else 0.2 if sampler == "grid" else 0.01, run.trial) for run in first
    }
    points = Points(tune, runs, rows)
    later = next(run for run in runs if run.trial == 4)
    space = points.space(later)["lr"]
    if sampler == "grid":
        assert space == arm.search_space["lr"]
        return
    assert space == Float(low=1e-3 if sampler in {"tpe", "gp"} else 1e-2, high=1.0, log=True)
    assert space.low <= points.propose(later)["lr"] <= space.high
    assert points.space(first[0]) == ARM.search_space


def test_points_that_are_asked_for_alone_differ_by_trial():
    tune, runs = sweep("tpe")
    rows = {runs[0].run_id: row(runs[0], 0.05)}
    points = Points(tune, runs, {})
    lrs = [points.propose_alone(run, rows)["lr"] for run in runs[2:]]
    assert len(set(lrs)) == len(lrs)
    assert lrs == [Points(tune, runs, {}).propose_alone(run, rows)["lr"] for run in runs[2:]]


def test_a_model_is_told_of_what_it_proposed_for():
    tune, runs = sweep("tpe")
    points = Points(tune, runs, {})
    lr = points.propose(runs[0])["lr"]
    points.observe(runs[0], row(runs[0], lr))
    points.propose(runs[1])
    points.observe(runs[1], None)
    [model, other] = [points._proposers[part] for part in points._proposers]
    assert [trial.value for trial in model._study.trials] == [0.5]
    assert [trial.state.name for trial in other._study.trials] == ["FAIL"]
