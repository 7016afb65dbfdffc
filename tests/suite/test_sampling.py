import json
import math
from dataclasses import replace

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from optimizers import Categorical, Float
from suite.config import Arm
from suite.execution import dashboard
from suite.execution.sampling import (
    ModelProposer,
    SobolProposer,
    distributions,
    frozen_trial,
    objective,
    proposer,
    sobol_points,
)
from suite.results import Store
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


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_sobol_point_depends_on_its_number_alone(space):
    points = sobol_points(space, 7, 12)
    assert len(points) == 12
    for k in (0, 1, 5, 12):
        assert sobol_points(space, 7, k) == points[:k]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_sobol_points_are_inside_and_differ_by_seed(space):
    points = sobol_points(space, 7, 16)
    assert all(is_inside(point, space) for point in points)
    assert sobol_points(space, 8, 16) != points


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_sobol_points_are_even_on_the_scale_of_their_dimension(seed):
    """Of the first 2^k points of a scrambled Sobol sequence, each 2^k-th part of each dimension holds one."""
    points = sobol_points(SPACES["mixed"], seed, 16)
    logs = [(math.log10(point["lr"]) + 4) / 3 for point in points]
    plain = [(point["gamma"] + 1) / 2 for point in points]
    for values in (logs, plain):
        for num in (2, 8, 16):
            assert sorted(int(value * num) for value in values[:num]) == list(range(num))
    assert {point["layers"] for point in points} == {"paper", "all"}


def trials(sampler, num=12, space=LR):
    arm = Arm(name="a", optimizer="sgd", search_space=space)
    return [tiny.plan(arm=arm, purpose="tune", source="sampled", sampler=sampler, trial=k) for k in range(num)]


def finished_row(run, lr, **changes):
    return planned_row(run, hyperparameters=json.dumps({"lr": lr, "momentum": 0.9}), val_metric=lr, **changes)


@pytest.mark.parametrize(("sampler", "kind"), [("sobol", SobolProposer), ("tpe", ModelProposer), ("gp", ModelProposer)])
def test_the_sampler_of_a_plan(sampler, kind):
    assert isinstance(proposer(trials(sampler), tiny.MLP, []), kind)


def test_sobol_proposes_its_points_in_any_order_and_whatever_was_done():
    fresh, resumed = (
        proposer(trials("sobol"), tiny.MLP, rows) for rows in ([], [finished_row(trials("sobol")[0], 0.01)])
    )
    points = [fresh.propose(k) for k in range(12)]
    resumed.observe(0, 0.5)
    assert [resumed.propose(k) for k in reversed(range(12))] == points[::-1]
    more = proposer(trials("sobol", 20), tiny.MLP, [])
    assert [more.propose(k) for k in range(12)] == points


def test_arms_and_seeds_get_points_of_their_own():
    plans = trials("sobol")
    other_arm = [replace(run, arm=replace(run.arm, name="b")) for run in plans]
    other_seed = [replace(run, seed=4) for run in plans]
    assert len({proposer(runs, tiny.MLP, []).propose(0)["lr"] for runs in (plans, other_arm, other_seed)}) == 3


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_model_proposes_inside_the_space_and_leaves_nothing_running(sampler):
    plans = trials(sampler, 16, SPACES["mixed"])
    model = proposer(plans, tiny.MLP, [])
    points = {}
    for k in range(0, 14, 2):  # two at a time
        points |= {k: model.propose(k), k + 1: model.propose(k + 1)}
        model.observe(k + 1, None if k == 4 else 0.5)
        model.observe(k, 0.1 * k)
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
    model = proposer(plans, tiny.MLP, rows)
    assert [trial.state for trial in model._study.trials] == [TrialState.COMPLETE] * 25
    proposed = []
    for k in range(25, 31):
        proposed.append(model.propose(k)["lr"])
        model.observe(k, proposed[-1])
    middle = 10**-2.5
    assert sum(lr > middle for lr in proposed) >= 5


def test_a_model_that_starts_again_does_not_repeat_its_first_draws():
    plans = trials("tpe")
    first = proposer(plans, tiny.MLP, [])
    lr = first.propose(0)["lr"]
    again = proposer(plans, tiny.MLP, [finished_row(plans[0], lr)])
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
    row = run_row(hyperparameters=json.dumps({"lr": 0.01, "momentum": 0.9}), **changes)
    assert objective(row, workload) == value
    trial = frozen_trial(row, LR, workload)
    assert (trial.state, trial.value, trial.params) == (state, value, {"lr": 0.01})
    assert trial.distributions == distributions(LR)
    assert trial.user_attrs == {"run_id": "r0", "trial": 0, "status": row["status"]}
    assert (trial.datetime_complete - trial.datetime_start).total_seconds() == 2


def test_the_export_holds_each_finished_trial_and_none_that_runs(tmp_path):
    store = Store(tmp_path, "tiny")
    plans = trials("tpe", 4)
    other = [replace(run, arm=replace(run.arm, name="b")) for run in plans[:2]]
    statuses = ["completed", "diverged", "failed"]
    for run, status in zip(plans[:3], statuses, strict=True):
        value = {"val_metric": 0.5 if status == "completed" else None, "test_metric": None}
        store.write(finished_row(run, 0.01) | {"status": status} | value, {})
    store.write(finished_row(other[1], 0.02), {})
    for _ in range(2):  # the second export replaces the first
        dashboard.export([*plans, *other], store.finished(), store)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / dashboard.FILE)))
    studies = {study.study_name: study for study in optuna.get_all_study_summaries(storage)}
    assert studies.keys() == {"tiny/a", "tiny/b"}
    found = {name: optuna.load_study(study_name=name, storage=storage) for name in studies}
    assert found["tiny/a"].direction.name == "MAXIMIZE"
    states = [trial.state for trial in found["tiny/a"].trials]
    assert states == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL]
    assert [trial.value for trial in found["tiny/a"].trials] == [0.5, 0.0, None]
    assert [trial.params for trial in found["tiny/b"].trials] == [{"lr": 0.02}]
