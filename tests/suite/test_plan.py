from collections import Counter
from dataclasses import replace

import pytest

from optimizers import Categorical, Float
from studies import REGISTRY
from suite.config import Arm, Budget, Schedule
from suite.errors import UsageError
from suite.plan import (
    calibration_of,
    calibrations,
    cost_key,
    expand,
    extension_of,
    extension_size,
    race_runs,
    resolve_search_space,
    tuning_runs,
)
from suite.study import Race, Tuning
from suite.workloads import find
from tests.suite import tiny
from tests.suite.test_study import SECONDS, STEPS, make_study


def told(runs):
    return [(run.purpose, run.arm.name, run.trial if run.purpose == "tune" else run.seed) for run in runs]


def test_all_runs_know_the_version_of_the_data(monkeypatch):
    monkeypatch.setattr("suite.plan.runs.workloads.data_version", lambda workload: f"{workload} of today")
    study = REGISTRY["digits"]
    assert {run.data_version for run in expand(study)} == {f"{study.workload} of today"}


def test_calibrations_come_first_and_the_arms_take_turns():
    assert told(expand(make_study())) == [
        ("calibrate", "sgd", 0),
        ("calibrate", "fisher", 0),
        ("tune", "sgd", 0),
        ("tune", "fisher", 0),
        ("tune", "sgd", 1),
        ("tune", "fisher", 1),
        ("tune", "sgd", 2),
        ("tune", "fisher", 2),
        ("calibrate", "sgd", 0),
        ("calibrate", "fisher", 0),
        ("race", "sgd", 1),
        ("race", "fisher", 1),
        ("race", "sgd", 2),
        ("race", "fisher", 2),
    ]


def live(kind="wall_clock", **rest):
    return Budget(kind=kind, amount=4, mode="live", **rest)


CALIBRATED = {
    "seconds": (SECONDS, ["sgd", "fisher"]),
    "of the reference": (Budget(kind="wall_clock_of", amount=2, reference="fisher"), ["sgd", "fisher"]),
    "live": (live(), []),
    "live, of the reference": (live("wall_clock_of", reference="fisher"), ["fisher"]),
    "steps": (STEPS, []),
    "epochs": (Budget(kind="epochs", amount=2), []),
}


@pytest.mark.parametrize(("budget", "expected"), CALIBRATED.values(), ids=CALIBRATED)
def test_what_a_budget_needs_to_have_measured(budget, expected):
    runs = expand(make_study(tune=None, race=Race(budget=budget)))
    assert [run.arm.name for run in runs if run.purpose == "calibrate"] == expected


@pytest.mark.parametrize("num_workers", [1, 2])
def test_no_run_is_planned_twice(num_workers):
    """With one worker, the race's steps cost what the sweep's do."""
    counts = Counter(run.run_id for run in expand(make_study(race=Race(budget=SECONDS, num_workers=num_workers))))
    assert set(counts.values()) == {1}


FISHER = tiny.plan(arm=tiny.arm("adafisher"), purpose="race", budget=SECONDS)
SAME_COST = {
    "lr": {"arm": tiny.arm("adafisher", lr=0.5)},
    "damping": {"arm": tiny.arm("adafisher", damping=0.5)},
    "search space": {"arm": replace(FISHER.arm, search_space={"lr": Float(low=0.1, high=1)})},
    "seed": {"seed": 9},
    "schedule": {"schedule": Schedule(name="step", warmup_frac=0.1)},
    "budget": {"budget": Budget(kind="wall_clock", amount=99)},
    "trial": {"trial": 7, "sampler": "sobol", "source": "sampled", "purpose": "tune"},
    "stop at target": {"stop_at_target": True},
}
OTHER_COST = {
    "numerics": {"arm": tiny.arm("adafisher", numerics="released")},
    "interval": {"arm": tiny.arm("adafisher", update_interval=5)},
    "optimizer": {"arm": Arm(name="adafisher", optimizer="adam")},
    "workload": {"workload": "tests.suite.tiny:NORMED"},
    "workers": {"num_workers": 2},
    "threads": {"num_threads": 2},
    "batch": {"batch_size": 32},
    "sync_batchnorm": {"sync_batchnorm": True},
}


@pytest.mark.parametrize("changes", SAME_COST.values(), ids=SAME_COST)
def test_what_a_step_does_not_cost(changes):
    assert calibration_of(replace(FISHER, **changes)).run_id == calibration_of(FISHER).run_id


@pytest.mark.parametrize("changes", OTHER_COST.values(), ids=OTHER_COST)
def test_what_a_step_costs(changes):
    assert calibration_of(replace(FISHER, **changes)).run_id != calibration_of(FISHER).run_id


def test_each_cost_is_measured_once():
    runs = [replace(FISHER, seed=seed) for seed in (1, 2, 3)]
    assert len(calibrations(runs)) == 1


def test_a_sweep_searches_what_the_arm_does_not_fix():
    arm = Arm(name="a", optimizer="adafisher", fixed={"gamma": 0.8})
    run = expand(make_study(arms=(arm,), race=None, tune=Tuning(budget=STEPS)))[0]
    assert list(run.arm.search_space) == ["lr", "damping"]


UNSEARCHABLE = {
    "all is fixed": (Arm(name="a", optimizer="sgd", fixed={"lr": 0.1, "momentum": 0.9}), "nothing to search"),
    "no such hyperparameter": (Arm(name="a", optimizer="sgd", search_space={"beta": Float(low=0, high=1)}), "beta"),
    "none such to fix": (Arm(name="a", optimizer="sgd", fixed={"beta": 0.5}), "beta"),
    "no such optimizer": (Arm(name="a", optimizer="sgdd"), "sgdd"),
}


@pytest.mark.parametrize(("arm", "message"), UNSEARCHABLE.values(), ids=UNSEARCHABLE)
def test_an_arm_that_cannot_be_searched(arm, message):
    with pytest.raises(UsageError, match=f"arm 'a'.*{message}"):
        expand(make_study(arms=(arm,)))


def test_a_race_after_a_sweep_runs_the_winner_and_alone_the_fixed_values():
    assert {run.source for run in expand(make_study()) if run.purpose == "race"} == {"winner"}
    assert {run.source for run in expand(make_study(tune=None)) if run.purpose == "race"} == {"fixed"}


INTERVALS = Categorical(choices=(1, 10))
SEARCHED = {"lr": Float(low=1e-3, high=1e-1, log=True), "update_interval": INTERVALS}
WITH_INTERVALS = Arm(name="fisher", optimizer="adafisher", search_space=SEARCHED)


def test_each_searched_interval_is_a_cost_of_its_own():
    study = make_study(arms=(tiny.arm("sgd"), WITH_INTERVALS), race=Race(budget=SECONDS, seeds=(1,), num_workers=2))
    runs = expand(study)
    costs = [(run.num_workers, run.arm.name, dict(run.arm.fixed)) for run in runs if run.purpose == "calibrate"]
    fishers = [
        ("fisher update_interval=1", {"update_interval": 1}),
        ("fisher update_interval=10", {"update_interval": 10}),
    ]
    each = [("sgd", {}), *fishers]
    assert costs == [(workers, *cost) for workers in (1, 2) for cost in each]
    for run in runs:
        if run.purpose in {"tune", "race"} and run.arm.name == "fisher":
            assert cost_key(run, {"lr": 0.1, "update_interval": 10}) == "fisher update_interval=10"
            assert calibration_of(run, {"update_interval": 10}).run_id in {r.run_id for r in runs}


def test_a_default_race_costs_what_the_arm_costs():
    study = make_study(tune=Tuning(budget=SECONDS), race=Race(budget=SECONDS, sources=("winner", "default")))
    races = race_runs(study)
    assert [run.label for run in races[:4]] == ["sgd", "sgd (default)", "fisher", "fisher (default)"]
    assert len({run.run_id for run in races}) == len(races) == 12
    assert len(calibrations(races)) == 2


def test_an_extension_is_half_of_the_sweep_and_leaves_what_was_planned():
    study = make_study(tune=Tuning(budget=STEPS, num_trials=5))
    assert extension_size(study.tune) == 3
    assert [extension_of(study.tune, trial) for trial in (0, 4, 5, 7, 8, 10, 11)] == [0, 0, 1, 1, 2, 2, 3]
    first, second = tuning_runs(study), tuning_runs(study, 2)
    assert [run.run_id for run in first] == [run.run_id for run in second[: len(first)]]
    assert {run.trial for run in second} == set(range(11))


def test_a_transfer_tunes_on_both_workloads_and_races_on_one():
    tune = Tuning(budget=STEPS, num_trials=2, transfer_from="iris")
    study = make_study(tune=tune, race=Race(budget=STEPS, sources=("transferred", "winner")))
    trials = tuning_runs(study)
    assert [run.workload for run in trials] == ["iris"] * 4 + ["tests.suite.tiny:MLP"] * 4
    assert {run.batch_size for run in trials if run.workload == "iris"} == {find("iris").batch_size}
    assert {run.workload for run in race_runs(study)} == {"tests.suite.tiny:MLP"}


def test_a_named_space_is_searched_less_what_is_fixed():
    arm = Arm(name="a", optimizer="adafisher", fixed={"gamma": 0.8})
    assert list(resolve_search_space(arm, "paper-cnn")) == ["lr", "damping"]
    with pytest.raises(UsageError, match="arm 'a': adafisher has no search space 'vast'; known: default"):
        resolve_search_space(arm, "vast")


def test_an_empty_space_is_refused():
    with pytest.raises(UsageError, match="arm 'a' has nothing to search: all of an empty space is fixed"):
        resolve_search_space(Arm(name="a", optimizer="sgd", search_space={}))


PLANNED = {
    "pruner": {"pruner": "asha"},
    "sampler": {"sampler": "random"},
    "threads": {"num_threads": 2},
    "workers": {"num_workers": 2},
    "gpus": {"gpus_per_worker": 0.5},
}


@pytest.mark.parametrize("changes", PLANNED.values(), ids=PLANNED)
def test_a_trial_knows_how_it_is_done(changes):
    [(name, value)] = changes.items()
    plain, changed = (tuning_runs(make_study(tune=Tuning(budget=SECONDS, **c)))[0] for c in ({}, changes))
    assert getattr(changed, name) == value
    assert changed.run_id != plain.run_id
