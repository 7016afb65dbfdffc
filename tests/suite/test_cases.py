"""Races whose runs differ by more than arm and seed: cases, placebos, controls, pretrainings, profiles."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from optimizers import REGISTRY
from suite.config import Arm, Budget, Schedule
from suite.errors import UsageError
from suite.plan import calibrations, cost_key, expand, place_of, placebo_point, pretrainings, profiles, race_runs
from suite.study import Case, Pretraining, Race, Study, Tuning

STEPS = Budget(kind="steps", amount=10)
SECONDS = Budget(kind="wall_clock", amount=4)
SGD = Arm(name="sgd", optimizer="sgd", fixed={"lr": 0.2})
RELEASED = Arm(
    name="released", optimizer="adafisher_released", fixed={"lr": 2e-3, "damping": 1e-2, "weight_decay": 0.5}
)
ROTATIONS = Pretraining(workload="digits_rotation", arm=SGD, budget=STEPS)


def study(*cases, arms=(SGD, RELEASED), tune=None, **race):
    race = Race(**{"budget": STEPS, "seeds": (1, 2), **race}, cases=cases)
    return Study(name="s", question="?", workload="digits", arms=arms, batch_size=64, tune=tune, race=race)


def test_seeds_come_before_cases_and_cases_before_arms():
    runs = race_runs(study(Case(name="a"), Case(name="b")))
    assert [(run.seed, run.case, run.label) for run in runs] == [
        (seed, case, arm) for seed in (1, 2) for case in ("a", "b") for arm in ("sgd", "released")
    ]
    assert len({run.run_id for run in runs}) == 8


FIELDS = {
    "workload": ("digits_mlp", "digits_mlp"),
    "batch_size": (32, 32),
    "budget": (SECONDS, SECONDS),
    "schedule": (Schedule(name="step"), Schedule(name="step")),
    "num_workers": (2, 2),
    "num_threads": (2, 2),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_case_changes_what_it_names_and_nothing_else(field):
    given, expected = FIELDS[field]
    [plain, *_], [changed, *_] = race_runs(study(Case(name="c"))), race_runs(study(Case(name="c", **{field: given})))
    assert getattr(changed, field) == expected != getattr(plain, field)
    assert replace(changed, **{field: getattr(plain, field)}) == plain


def test_a_case_on_another_workload_has_that_ones_batch_size():
    [run, *_] = race_runs(study(Case(name="c", workload="iris")))
    assert (run.workload, run.batch_size) == ("iris", 30)
    [run, *_] = race_runs(study(Case(name="c", workload="iris", batch_size=15)))
    assert run.batch_size == 15


def test_a_case_may_have_seeds_of_its_own():
    runs = race_runs(study(Case(name="a"), Case(name="b", seeds=(2, 7), pretraining=ROTATIONS)))
    assert [(run.seed, run.case) for run in runs if run.arm.name == "sgd"] == [
        (1, "a"),
        (2, "a"),
        (2, "b"),
        (7, "b"),
    ]
    pretrained = study(Case(name="b", seeds=(2, 7), pretraining=ROTATIONS))
    assert [run.seed for run in pretrainings(pretrained)] == [2, 7]


def test_hyperparameters_of_a_case_are_for_the_arms_that_have_them():
    def lrs_and_dampings(case):
        return {run.arm.name: run.arm.fixed for run in race_runs(study(case))}

    assert lrs_and_dampings(Case(name="c", hyperparameters={"lr": 0.5})) == {
        "sgd": {"lr": 0.5},
        "released": {**RELEASED.fixed, "lr": 0.5},
    }
    assert lrs_and_dampings(Case(name="c", multiplied={"lr": 10.0}))["sgd"] == {"lr": 2.0}
    multiplied = lrs_and_dampings(Case(name="c", multiplied={"damping": 10.0}))
    assert multiplied == {"released": {**RELEASED.fixed, "damping": 0.1}}, "SGD has no damping: it does not race"


def test_what_is_not_fixed_is_multiplied_from_its_default():
    [run, *_] = race_runs(study(Case(name="c", multiplied={"momentum": 0.5})))
    assert run.arm.fixed == {"lr": 0.2, "momentum": 0.45}


def test_the_arms_of_a_case_may_have_hyperparameters_of_their_own():
    runs = race_runs(study(Case(name="c", arms={"released": {"lr": 0.1}}, hyperparameters={"weight_decay": 0.0})))
    assert {run.arm.name: run.arm.fixed for run in runs} == {
        "released": {"lr": 0.1, "damping": 1e-2, "weight_decay": 0.0}
    }


def test_a_placebo_takes_the_heavy_ball_steps_of_its_arm():
    runs = race_runs(study(placebos=True))
    [placebo] = [run for run in runs if run.source == "placebo" and run.seed == 1]
    assert (placebo.label, placebo.arm.optimizer) == ("released (placebo)", "sgd")
    assert placebo.arm.fixed == {"lr": pytest.approx(2e-3 * (1 - 0.9) / 1e-2), "momentum": 0.9, "weight_decay": 0.5}
    assert Counter(run.label for run in runs) == {"sgd": 2, "released": 2, "released (placebo)": 2}


def test_the_steps_of_a_placebo_are_those_of_a_constant_fisher_diagonal():
    """With F = λ: θ - α m̂ / λ; once the bias of m is forgotten, the twin takes the same steps."""
    config = REGISTRY["adafisher_released"].configure(**RELEASED.fixed)
    twin = REGISTRY["sgd"].configure(**placebo_point(RELEASED))
    generator = torch.Generator().manual_seed(0)
    theta = torch.nn.Parameter(torch.randn(5, generator=generator, dtype=torch.float64))
    optimizer = REGISTRY["sgd"].build(torch.nn.ParameterList([theta]), twin)
    m = torch.zeros(5, dtype=torch.float64)
    mine = theta.detach().clone()
    for _ in range(50):
        grad = torch.randn(5, generator=generator, dtype=torch.float64)
        m = config.beta * m + (1 - config.beta) * (grad + config.weight_decay * mine)
        mine = mine - config.lr * m / config.damping  # without the correction of the bias, which fades
        theta.grad = grad
        optimizer.step()
    torch.testing.assert_close(theta.detach(), mine)


def test_there_is_no_placebo_of_decoupled_decay():
    arm = replace(RELEASED, fixed={"decoupled_weight_decay": True})
    with pytest.raises(UsageError, match="the placebo of arm 'released': decoupled_weight_decay must be False"):
        race_runs(study(arms=(arm,), placebos=True))


def test_the_placebo_of_a_tuned_arm_waits_for_the_winner():
    runs = race_runs(
        study(tune=Tuning(budget=STEPS), arms=(Arm(name="r", optimizer="adafisher_released"),), placebos=True)
    )
    assert {run.source: dict(run.arm.fixed) for run in runs} == {"winner": {}, "placebo": {}}
    assert {run.source: run.arm.optimizer for run in runs} == {"winner": "adafisher_released", "placebo": "sgd"}


def test_a_control_is_its_arm_once_more():
    arm, control = (run for run in race_runs(study(control="sgd", seeds=(1,))) if run.arm.name == "sgd")
    assert (arm.label, control.label) == ("sgd", "sgd (control)")
    assert replace(control, source="fixed") == arm
    assert control.run_id != arm.run_id


def test_a_pretraining_comes_before_the_runs_that_begin_with_its_weights():
    pretrained = study(Case(name="random"), Case(name="pretrained", pretraining=ROTATIONS))
    runs = expand(pretrained)
    assert [run.purpose for run in runs] == ["pretrain"] * 2 + ["race"] * 8
    by_seed = {run.seed: run.run_id for run in pretrainings(pretrained)}
    assert {(run.case, run.seed, run.initial_weights) for run in race_runs(pretrained)} == {
        ("random", 1, None),
        ("random", 2, None),
        ("pretrained", 1, by_seed[1]),
        ("pretrained", 2, by_seed[2]),
    }
    assert {run.workload for run in pretrainings(pretrained)} == {"digits_rotation"}


def test_each_cost_is_calibrated_once_and_a_placebo_has_its_own():
    runs = race_runs(
        study(
            Case(name="4 s", budget=SECONDS),
            Case(name="8 s", budget=Budget(kind="wall_clock", amount=8)),
            Case(name="two", budget=SECONDS, num_workers=2),
            placebos=True,
            control="sgd",
        )
    )
    measured = calibrations(runs)
    assert Counter(run.arm.name for run in measured) == {"sgd": 2, "released": 2, "released (placebo)": 2}
    keys = {(place_of(run), run.arm.name) for run in measured}
    assert {(place_of(run), cost_key(run, {})) for run in runs} == keys


def test_each_entry_is_profiled_once_in_each_place():
    declared = study(Case(name="a"), Case(name="b"), Case(name="c", batch_size=32), profile=True, control="sgd")
    found = profiles(declared, race_runs(declared))
    assert [(run.case, run.label) for run in found] == [
        (case, label) for case in ("a", "c") for label in ("sgd", "sgd (control)", "released")
    ]
    assert {run.purpose for run in found} == {"profile"}
    assert profiles(study(), race_runs(study())) == []


REFUSED = {
    "two names": (lambda: study(Case(name="a"), Case(name="a")), "different names"),
    "no name": (lambda: study(Case(name="")), "different names"),
    "arm": (lambda: study(Case(name="a", arms={"adam": {}})), "unknown arm 'adam'"),
    "control": (lambda: study(control="adam"), "unknown arm 'adam'"),
    "reference": (
        lambda: study(Case(name="a", budget=Budget(kind="wall_clock_of", amount=1, reference="adam"))),
        "unknown reference arm 'adam'",
    ),
    "isolation": (lambda: study(isolation="room"), "unknown isolation 'room'"),
    "value": (lambda: race_runs(study(Case(name="a", hyperparameters={"lr": -1.0}))), "arm 'sgd': lr must be"),
    "no number": (
        lambda: race_runs(study(Case(name="a", multiplied={"nesterov": 2.0}))),
        "multiplies nesterov of arm 'sgd', which is False",
    ),
    "searched": (
        lambda: race_runs(
            study(
                Case(name="a", hyperparameters={"lr": 1.0}),
                tune=Tuning(budget=STEPS),
                arms=(Arm(name="sgd", optimizer="sgd"),),
            )
        ),
        "the case 'a' sets lr, which arm 'sgd' searches",
    ),
    "two costs": (
        lambda: calibrations(
            race_runs(
                study(
                    Case(name="a", arms={"released": {"update_interval": 10}}),
                    Case(name="b", arms={"released": {"update_interval": 100}}),
                    budget=SECONDS,
                )
            )
        ),
        "arm 'released' has 2 costs under the same conditions",
    ),
    "absent reference": (
        lambda: race_runs(
            study(Case(name="a", arms={"sgd": {}}, budget=Budget(kind="wall_clock_of", amount=1, reference="released")))
        ),
        "the budget of the case 'a' is the time of 'released', which does not race in it",
    ),
    "placebo of a tuned arm": (
        lambda: race_runs(
            study(
                Case(name="a", hyperparameters={"weight_decay": 0.1}),
                tune=Tuning(budget=STEPS),
                arms=(Arm(name="r", optimizer="adafisher_released"),),
                placebos=True,
            )
        ),
        "the case 'a' changes arm 'r', whose placebo follows its sweep",
    ),
    "pretraining as long as another": (
        lambda: replace(ROTATIONS, budget=Budget(kind="wall_clock_of", amount=1, reference="sgd", mode="live")),
        "a pretraining's budget",
    ),
    "calibrated pretraining": (lambda: replace(ROTATIONS, budget=SECONDS), "a pretraining's budget"),
}


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_planned_is_refused(build, message):
    with pytest.raises(UsageError, match=message):
        build()
