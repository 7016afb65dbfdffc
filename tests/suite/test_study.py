from collections import Counter
from dataclasses import replace

import pytest

from optimizers import Float
from studies import REGISTRY
from suite.config import Arm, Budget, Schedule
from suite.errors import UsageError
from suite.study import Race, Study, Tuning, calibration_of, calibrations, expand, override
from tests.suite import tiny

SECONDS = Budget(kind="wall_clock", amount=4)
STEPS = Budget(kind="steps", amount=10)


def make_study(**changes):
    fields = {
        "name": "tiny",
        "question": "Which?",
        "workload": "tests.suite.tiny:MLP",
        "arms": (Arm(name="sgd", optimizer="sgd"), Arm(name="fisher", optimizer="adafisher")),
        "batch_size": 16,
        "tune": Tuning(budget=SECONDS, num_trials=3),
        "race": Race(budget=SECONDS, seeds=(1, 2), num_workers=2),
    }
    return Study(**{**fields, **changes})


def told(runs):
    return [(run.purpose, run.arm.name, run.trial if run.purpose == "tune" else run.seed) for run in runs]


def test_all_runs_know_the_version_of_the_data(monkeypatch):
    monkeypatch.setattr("suite.study.data_version", lambda workload: f"{workload} of today")
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


BROKEN = {
    "sweep without validation": ({"splits": "paper"}, "needs splits='standard', but got 'paper'"),
    "seed of the sweep": ({"race": Race(budget=SECONDS, seeds=(0, 1))}, "fresh"),
    "arms twice": ({"arms": (tiny.arm("sgd"), tiny.arm("sgd"))}, "different names"),
    "no arms": ({"arms": ()}, "at least one arm"),
    "nothing to do": ({"tune": None, "race": None}, "neither"),
    "no such reference": (
        {"tune": Tuning(budget=Budget(kind="wall_clock_of", amount=1, reference="kfac"))},
        "unknown reference arm 'kfac'; known: fisher, sgd",
    ),
}


@pytest.mark.parametrize(("changes", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_study_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        make_study(**changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tuning(budget=STEPS, num_trials=0), "num_trials"),
        (lambda: Tuning(budget=STEPS, sampler="random"), "unknown sampler 'random'; known: gp, sobol, tpe"),
        (lambda: Race(budget=STEPS, seeds=()), "at least one seed"),
        (lambda: Race(budget=STEPS, seeds=(1, 1)), "each once"),
    ],
    ids=["no trials", "sampler", "no seeds", "seeds twice"],
)
def test_a_broken_part_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_the_scales_of_a_study():
    study = make_study(paper={"batch_size": 256})
    assert study.at_scale("quick") is study
    assert study.at_scale("paper").batch_size == 256


@pytest.mark.parametrize(
    ("paper", "scale", "known"),
    [(None, "paper", "known: quick"), (None, "huge", "known: quick"), ({}, "huge", "known: paper, quick")],
)
def test_an_unknown_scale_is_refused(paper, scale, known):
    with pytest.raises(UsageError, match=f"{scale}.*{known}$"):
        make_study(paper=paper).at_scale(scale)


OVERRIDES = [
    ("race.seeds=4,5", lambda study: study.race.seeds, (4, 5)),
    ("race.budget=2min", lambda study: study.race.budget, Budget(kind="wall_clock", amount=120)),
    ("race.num_workers=1", lambda study: study.race.num_workers, 1),
    ("tune.num_trials=7", lambda study: study.tune.num_trials, 7),
    ("tune.sampler=gp", lambda study: study.tune.sampler, "gp"),
    ("tune.budget.amount=9", lambda study: study.tune.budget.amount, 9),
    ("schedule.warmup_frac=0.1", lambda study: study.schedule.warmup_frac, 0.1),
    ("batch_size=32", lambda study: study.batch_size, 32),
    ("splits=standard", lambda study: study.splits, "standard"),
    ("stop_at_target=TRUE", lambda study: study.stop_at_target, True),
    ("sync_batchnorm=false", lambda study: study.sync_batchnorm, False),
    ("question=a=b", lambda study: study.question, "a=b"),
    ("arms=fisher", lambda study: [arm.optimizer for arm in study.arms], ["adafisher"]),
    ("arms=fisher, adam", lambda study: [arm.name for arm in study.arms], ["fisher", "adam"]),
    ("batch_size", UsageError, "field=value"),
    ("batch_sise=32", UsageError, "unknown field 'batch_sise'; known: arms, batch_size"),
    ("=32", UsageError, "unknown field"),
    ("paper=1", UsageError, "unknown field 'paper'"),
    ("batch_size=many", UsageError, "'batch_size' is a int, but got 'many'"),
    ("batch_size=1.5", UsageError, "'batch_size'"),
    ("batch_size.x=1", UsageError, "has no parts"),
    ("stop_at_target=yes", UsageError, "'stop_at_target' is a bool, but got 'yes'"),
    ("tune=sobol", UsageError, "as a whole"),
    ("schedule=cosine", UsageError, "as a whole"),
    ("tune.num_trials=0", UsageError, "num_trials must be >= 1"),
    ("tune.trials=3", UsageError, "unknown field 'trials'; known: budget"),
    ("tune.sampler=random", UsageError, "unknown sampler"),
    ("tune.budget=soon", UsageError, "a budget reads like"),
    ("tune.budget.kind=hours", UsageError, "budget kind"),
    ("race.seeds=0,1", UsageError, "fresh"),
    ("race.seeds=", UsageError, "'seeds'"),
    ("race.seeds=one", UsageError, "'seeds'"),
    ("schedule.warmup_frac=2", UsageError, "warmup_frac"),
    ("arms=kfacc", UsageError, "unknown arm 'kfacc'; known: adafactor, adafisher"),
    ("arms=sgd,sgd", UsageError, "different names"),
    ("arms=", UsageError, "unknown arm"),
]


@pytest.mark.parametrize(("assignment", "look", "expected"), OVERRIDES, ids=[text for text, *_ in OVERRIDES])
def test_overrides(assignment, look, expected):
    if look is UsageError:
        with pytest.raises(UsageError, match=expected):
            override(make_study(), assignment)
    else:
        assert look(override(make_study(), assignment)) == expected


def test_an_override_leaves_the_study_and_the_rest_as_they_are():
    study = make_study()
    changed = override(study, "tune.num_trials=7")
    assert study == make_study()
    assert replace(changed, tune=replace(changed.tune, num_trials=3)) == study


def test_a_part_that_the_study_lacks_cannot_be_set():
    with pytest.raises(UsageError, match="'race' has no parts"):
        override(make_study(race=None), "race.seeds=1")
