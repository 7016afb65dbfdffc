import pytest

from suite.config import Arm, Budget
from suite.errors import UsageError
from suite.study import Race, Study, Tuning
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
        (lambda: Tuning(budget=STEPS, sampler="best"), "unknown sampler 'best'; known: gp, grid, random, sobol, tpe"),
        (lambda: Tuning(budget=STEPS, pruner="some"), "unknown pruner 'some'; known: asha, median, none"),
        (lambda: Tuning(budget=STEPS, max_extensions=-1), "max_extensions must be >= 0"),
        (lambda: Race(budget=STEPS, sources=()), "at least one source"),
        (lambda: Race(budget=STEPS, sources=("best",)), "unknown source 'best'"),
        (lambda: Race(budget=STEPS, seeds=()), "at least one seed"),
        (lambda: Race(budget=STEPS, seeds=(1, 1)), "each once"),
    ],
    ids=["no trials", "sampler", "pruner", "extensions", "no sources", "source", "no seeds", "seeds twice"],
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


@pytest.mark.parametrize(("budget", "protocol"), [("4s", "fair"), ("3 epochs of sgd", "fair"), ("3 epochs", "paper")])
def test_the_protocol_of_a_sweep(budget, protocol):
    assert Tuning(budget=Budget.parse(budget)).protocol == protocol
