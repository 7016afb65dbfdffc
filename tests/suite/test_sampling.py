import json
import math
from dataclasses import replace

import pytest
from optuna.trial import TrialState

from optimizers import Categorical, Float
from suite.config import Arm
from suite.errors import UsageError
from suite.execution.sampling import (
    ModelProposer,
    PlannedProposer,
    check_sampler,
    distributions,
    frozen_trial,
    outcome,
    percent_used,
    planned_points,
    proposer,
)
from tests.suite import tiny
from tests.suite.rows import planned_row, run_row

SPACES = {
    "one": {"lr": Float(low=1e-4, high=1e-1, log=True)},
    "two": {"lr": Float(low=1e-4, high=1e-1, log=True), "momentum": Float(low=0.0, high=0.99)},
    "mixed": {
        "lr": Float(low=1e-4, high=1e-1, log=True),
        "gamma": Float(low=-1.0, high=1.0),
        "layers": Categorical(choices=("paper", "all")),
    },
    "choices": {
        "layers": Categorical(choices=("paper", "all", "none")),
        "nesterov": Categorical(choices=(True, False)),
    },
}
LR = SPACES["one"]


def is_inside(point, space):
    def holds(atom, value):
        return value in atom.choices if isinstance(atom, Categorical) else atom.low <= value <= atom.high

    return list(point) == list(space) and all(holds(space[name], value) for name, value in point.items())


@pytest.mark.parametrize("sampler", ["sobol", "random"])
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_planned_point_depends_on_its_number_alone(space, sampler):
    points = planned_points(sampler, space, 7, 12)
    assert len(points) == 12
    assert all(is_inside(point, space) for point in points)
    assert planned_points(sampler, space, 8, 12) != points
    for k in (0, 1, 5, 12):
        assert planned_points(sampler, space, 7, k) == points[:k]


GRID = {"lr": Categorical(choices=(0.1, 0.2, 0.3)), "layers": Categorical(choices=("paper", "all"))}


def test_a_grid_is_walked_in_a_random_order_that_depends_on_the_seed_alone():
    points = planned_points("grid", GRID, 7, 6)
    assert {(point["lr"], point["layers"]) for point in points} == {
        (lr, x) for lr in (0.1, 0.2, 0.3) for x in ("paper", "all")
    }
    assert planned_points("grid", GRID, 7, 4) == points[:4]
    assert planned_points("grid", GRID, 8, 6) != points


def test_a_grid_needs_choices_and_enough_of_them():
    check_sampler("grid", GRID, 6)
    check_sampler("random", LR, 100)
    with pytest.raises(UsageError, match="grid of lr, layers has 6 points, but 7 trials are planned"):
        check_sampler("grid", GRID, 7)
    with pytest.raises(UsageError, match="needs a set of choices for each hyperparameter, but lr is a range"):
        check_sampler("grid", LR, 1)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_sobol_points_are_inside_and_differ_by_seed(space):
    points = planned_points("sobol", space, 7, 16)
    assert all(is_inside(point, space) for point in points)
    assert planned_points("sobol", space, 8, 16) != points


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_sobol_points_are_even_on_the_scale_of_their_dimension(seed):
    """Of the first 2^k points of a scrambled Sobol sequence, each 2^k-th part of each dimension holds one."""
    points = planned_points("sobol", SPACES["mixed"], seed, 16)
    logs = [(math.log10(point["lr"]) + 4) / 3 for point in points]
    plain = [(point["gamma"] + 1) / 2 for point in points]
    for values in (logs, plain):
        for num in (2, 8, 16):
            assert sorted(int(value * num) for value in values[:num]) == list(range(num))
    assert {point["layers"] for point in points} == {"paper", "all"}


def trials(sampler, num=12, space=LR):
    arm = Arm(name="a", optimizer="sgd", search_space=space)
    return [tiny.plan(arm=arm, purpose="tune", source="sampled", sampler=sampler, trial=k) for k in range(num)]


def propose_with(plans, rows=()):
    return proposer(plans, plans[0].arm.search_space, tiny.MLP, rows)


def finished_row(run, lr, **changes):
    return planned_row(run, hyperparameters=json.dumps({"lr": lr, "momentum": 0.9}), val_metric=lr, **changes)


@pytest.mark.parametrize(
    ("sampler", "kind"),
    [
        *((name, PlannedProposer) for name in ("sobol", "random")),
        *((name, ModelProposer) for name in ("tpe", "gp")),
    ],
)
def test_the_sampler_of_a_plan(sampler, kind):
    assert isinstance(propose_with(trials(sampler), []), kind)


def test_sobol_proposes_its_points_in_any_order_and_whatever_was_done():
    fresh, resumed = (propose_with(trials("sobol"), rows) for rows in ([], [finished_row(trials("sobol")[0], 0.01)]))
    points = [fresh.propose(k) for k in range(12)]
    resumed.observe(0, None)
    assert [resumed.propose(k) for k in reversed(range(12))] == points[::-1]
    more = propose_with(trials("sobol", 20), [])
    assert [more.propose(k) for k in range(12)] == points


def test_arms_and_seeds_get_points_of_their_own():
    plans = trials("sobol")
    other_arm = [replace(run, arm=replace(run.arm, name="b")) for run in plans]
    other_seed = [replace(run, seed=4) for run in plans]
    assert len({propose_with(runs, []).propose(0)["lr"] for runs in (plans, other_arm, other_seed)}) == 3


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_model_proposes_inside_the_space_and_leaves_nothing_running(sampler):
    plans = trials(sampler, 16, SPACES["mixed"])
    model = propose_with(plans, [])
    points = {}
    for k in range(0, 14, 2):  # two at a time
        points |= {k: model.propose(k), k + 1: model.propose(k + 1)}
        model.observe(k + 1, None if k == 4 else finished_row(plans[k + 1], 0.5))
        model.observe(k, finished_row(plans[k], 0.1 * k))
    assert all(is_inside(point, SPACES["mixed"]) for point in points.values())
    states = [trial.state for trial in model._study.trials]
    assert states.count(TrialState.FAIL) == 1
    assert states.count(TrialState.COMPLETE) == 13


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_model_learns_from_the_trials_of_earlier_starts(sampler):
    """Where the metric is the learning rate itself, proposals are higher than those of chance."""
    plans = trials(sampler, 40)
    lrs = [10 ** (-4 + 3 * k / 24) for k in range(25)]
    rows = [finished_row(run, lr) for run, lr in zip(plans, lrs, strict=False)]
    model = propose_with(plans, rows)
    assert [trial.state for trial in model._study.trials] == [TrialState.COMPLETE] * 25
    proposed = []
    for k in range(25, 31):
        proposed.append(model.propose(k)["lr"])
        model.observe(k, finished_row(plans[k], proposed[-1]))
    middle = 10**-2.5
    assert sum(lr > middle for lr in proposed) >= 5


def test_a_model_that_starts_again_does_not_repeat_its_first_draws():
    plans = trials("tpe")
    first = propose_with(plans, [])
    lr = first.propose(0)["lr"]
    again = propose_with(plans, [finished_row(plans[0], lr)])
    assert again.propose(1)["lr"] != lr


MINIMIZED = replace(tiny.MLP, metric_goal="minimize", worst_metric=9.0)
OUTCOMES = {
    # row, workload, objective, state
    "completed": ({}, tiny.MLP, 0.75, TrialState.COMPLETE),
    "target reached": ({"status": "target_reached"}, tiny.MLP, 0.75, TrialState.COMPLETE),
    "no validation": ({"val_metric": None}, tiny.MLP, None, TrialState.FAIL),
    "pruned": ({"status": "pruned"}, tiny.MLP, 0.75, TrialState.PRUNED),
    "diverged": ({"status": "diverged", "val_metric": None, "test_metric": None}, tiny.MLP, 0.0, TrialState.COMPLETE),
    "diverged, minimized": ({"status": "diverged", "val_metric": None}, MINIMIZED, 9.0, TrialState.COMPLETE),
    "worse than the worst": ({"val_metric": 1e300}, MINIMIZED, 9.0, TrialState.COMPLETE),
    "failed": ({"status": "failed", "val_metric": None, "test_metric": None}, tiny.MLP, None, TrialState.FAIL),
    "out of memory": ({"status": "out_of_memory", "val_metric": None}, tiny.MLP, None, TrialState.FAIL),
}


@pytest.mark.parametrize(("changes", "workload", "value", "state"), OUTCOMES.values(), ids=OUTCOMES)
def test_what_a_sampler_is_told(changes, workload, value, state):
    used = {"budget": "20 steps", "num_steps": 12, "num_epochs": 1.0, "budget_time_s": 1.0}
    row = run_row(hyperparameters=json.dumps({"lr": 0.01, "momentum": 0.9}), **used, **changes)
    assert outcome(row, workload) == (state, value)
    trial = frozen_trial(row, LR, workload)
    assert (trial.state, trial.value, trial.params) == (state, value, {"lr": 0.01})
    assert trial.intermediate_values == ({60: 0.75} if state == TrialState.PRUNED else {})
    assert trial.distributions == distributions(LR)
    assert trial.user_attrs == {"run_id": "r0", "trial": 0, "status": row["status"]}
    assert (trial.datetime_complete - trial.datetime_start).total_seconds() == 2


USED = {
    "epochs": ({"budget": "4 epochs", "num_epochs": 1.0}, 25),
    "steps": ({"budget": "300 steps", "num_steps": 100}, 33),
    "seconds": ({"budget": "4s, calibrated", "budget_seconds": 4.0, "budget_time_s": 3.0}, 75),
    "seconds of another": ({"budget": "4 epochs of sgd, live", "budget_seconds": 8.0, "budget_time_s": 2.0}, 25),
}


@pytest.mark.parametrize(("changes", "percent"), USED.values(), ids=USED)
def test_how_much_of_its_budget_a_run_has_used(changes, percent):
    row = dict.fromkeys(("num_epochs", "num_steps", "budget_time_s", "budget_seconds"), 0.0)
    assert percent_used(row | changes) == percent


def test_a_pruned_trial_reaches_a_model_as_pruned():
    plans = trials("tpe")
    model = propose_with(plans)
    model.propose(0)
    used = {"budget": "30 steps", "num_steps": 15, "num_epochs": 1.0, "budget_time_s": None, "budget_seconds": None}
    model.observe(0, finished_row(plans[0], 0.5, status="pruned", **used))
    [trial] = model._study.trials
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {50: 0.5})


def test_an_extension_gets_points_of_its_own():
    plans = trials("sobol", 18)
    wider = {"lr": Float(low=1e-2, high=10.0, log=True)}
    first, later = proposer(plans[:12], LR, tiny.MLP, []), proposer(plans[12:], wider, tiny.MLP, [])
    points = [later.propose(k)["lr"] for k in range(12, 18)]
    assert all(1e-2 <= lr <= 10.0 for lr in points)
    assert not {round(lr / 100, 6) for lr in points} & {round(first.propose(k)["lr"], 6) for k in range(12)}
