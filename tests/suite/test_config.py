import pickle
import subprocess
import sys
from dataclasses import fields, replace

import pytest

from optimizers import Categorical, Float
from suite.config import Arm, Budget, Run, Schedule
from suite.errors import UsageError
from tests.suite import tiny

BUDGETS = [
    ("12s", Budget(kind="wall_clock", amount=12)),
    ("12 s", Budget(kind="wall_clock", amount=12)),
    (" 2min ", Budget(kind="wall_clock", amount=120)),
    ("1.5h", Budget(kind="wall_clock", amount=5400)),
    ("1e3 s", Budget(kind="wall_clock", amount=1000)),
    ("12s, live", Budget(kind="wall_clock", amount=12, mode="live")),
    ("12s, calibrated", Budget(kind="wall_clock", amount=12)),
    ("5 epochs", Budget(kind="epochs", amount=5)),
    ("0.5 epochs", Budget(kind="epochs", amount=0.5)),
    ("300 steps", Budget(kind="steps", amount=300)),
    ("5 epochs of adafisher", Budget(kind="wall_clock_of", amount=5, reference="adafisher")),
    ("5 epochs of adafisher, live", Budget(kind="wall_clock_of", amount=5, reference="adafisher", mode="live")),
    ("", UsageError),
    ("12", UsageError),
    ("s", UsageError),
    ("12 seconds", UsageError),
    ("12 S", UsageError),
    ("twelve s", UsageError),
    ("1.2.3 s", UsageError),
    ("0s", UsageError),
    ("-1s", UsageError),
    ("1e400 s", UsageError),
    ("nan s", UsageError),
    ("1.5 steps", UsageError),
    ("12s of adafisher", UsageError),
    ("5 steps of adafisher", UsageError),
    ("5 epochs of", UsageError),
    ("12s, alive", UsageError),
    ("12s live", UsageError),
    ("5 epochs, live", UsageError),  # only a time can be live
    ("300 steps, live", UsageError),
]


@pytest.mark.parametrize(("text", "expected"), BUDGETS, ids=[repr(text) for text, _ in BUDGETS])
def test_budgets_are_read_as_people_write_them(text, expected):
    if isinstance(expected, Budget):
        assert Budget.parse(text) == expected
    else:
        with pytest.raises(expected, match="budget|reference"):
            Budget.parse(text)


@pytest.mark.parametrize(
    "budget",
    [
        *[expected for _, expected in BUDGETS if isinstance(expected, Budget)],
        Budget(kind="steps", amount=1_234_567),
    ],
    ids=str,
)
def test_a_budget_is_read_back_from_its_text(budget):
    assert Budget.parse(str(budget)) == budget


BROKEN = {
    "budget kind": (Budget, {"kind": "hours", "amount": 1}, "hours"),
    "budget 0": (Budget, {"kind": "epochs", "amount": 0}, "> 0"),
    "budget nan": (Budget, {"kind": "epochs", "amount": float("nan")}, "> 0"),
    "budget inf": (Budget, {"kind": "wall_clock", "amount": float("inf")}, "finite"),
    "half a step": (Budget, {"kind": "steps", "amount": 0.5}, "whole"),
    "reference missing": (Budget, {"kind": "wall_clock_of", "amount": 5}, "reference"),
    "reference too much": (Budget, {"kind": "epochs", "amount": 5, "reference": "sgd"}, "reference"),
    "budget mode": (Budget, {"kind": "wall_clock", "amount": 5, "mode": "dead"}, "dead"),
    "schedule": (Schedule, {"name": "cosin"}, "cosin"),
    "warm-up 1": (Schedule, {"warmup_frac": 1.0}, r"\[0, 1\)"),
    "warm-up < 0": (Schedule, {"warmup_frac": -0.1}, r"\[0, 1\)"),
    "warm-up nan": (Schedule, {"warmup_frac": float("nan")}, r"\[0, 1\)"),
    "no workers": (tiny.plan, {"num_workers": 0}, "num_workers"),
    "no threads": (tiny.plan, {"num_threads": 0}, "num_threads"),
    "no batch": (tiny.plan, {"batch_size": 0}, "batch_size"),
    "uneven shards": (tiny.plan, {"batch_size": 16, "num_workers": 3}, "multiple"),
    "splits": (tiny.plan, {"splits": "mine"}, "mine"),
    "seed < 0": (tiny.plan, {"seed": -1}, "seed"),
    "seed too large": (tiny.plan, {"seed": 2**63}, "seed"),
}


@pytest.mark.parametrize(("make", "arguments", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_refused(make, arguments, message):
    with pytest.raises(UsageError, match=message):
        make(**arguments)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [(Schedule(), "cosine"), (Schedule(name="step", warmup_frac=0.05), "step, warm-up 0.05")],
    ids=["plain", "warm-up"],
)
def test_a_schedule_says_what_it_is(schedule, expected):
    assert str(schedule) == expected


# One other value for each field of a plan.
OTHERS = {
    "study": "another",
    "workload": "digits",
    "arm": Arm(name="sgd", optimizer="sgd", fixed={"momentum": 0.5}),
    "purpose": "race",
    "seed": 4,
    "budget": Budget(kind="steps", amount=31),
    "batch_size": 32,
    "source": "winner",
    "trial": 0,
    "sampler": "sobol",
    "pruner": "asha",
    "num_workers": 2,
    "num_threads": 2,
    "gpus_per_worker": 0.5,
    "schedule": Schedule(warmup_frac=0.1),
    "splits": "paper",
    "sync_batchnorm": True,
    "stop_at_target": True,
    "data_version": "1a2b",
    "case": "batch 32",
    "initial_weights": "0123456789abcdef",
    "isolation": "machine",
    "diagnostics": ("fisher_accuracy",),
}
OTHER_ARMS = {
    "name": "SGD",
    "optimizer": "adam",
    "fixed": {"lr": 0.2},
    "search_space": {"lr": Float(low=0.1, high=1)},
}


def test_the_tables_hold_every_field():
    assert list(OTHERS) == [f.name for f in fields(Run)]
    assert list(OTHER_ARMS) == [f.name for f in fields(Arm)]


@pytest.mark.parametrize("field", OTHERS)
def test_every_planned_field_is_part_of_the_identity(field):
    assert replace(tiny.plan(), **{field: OTHERS[field]}).run_id != tiny.plan().run_id


@pytest.mark.parametrize("field", OTHER_ARMS)
def test_every_field_of_the_arm_is_part_of_the_identity(field):
    run = tiny.plan()
    assert replace(run, arm=replace(run.arm, **{field: OTHER_ARMS[field]})).run_id != run.run_id


def test_the_identity_does_not_hang_on_the_order_of_a_dict():
    space = {"lr": Float(low=0.1, high=1), "momentum": Categorical(choices=(0.0, 0.9))}
    fixed = {"nesterov": True, "weight_decay": 0.1}
    one, two = (
        tiny.plan(
            arm=Arm(
                name="a", optimizer="sgd", fixed=dict(order(fixed.items())), search_space=dict(order(space.items()))
            )
        )
        for order in (list, reversed)
    )
    assert list(one.arm.fixed) != list(two.arm.fixed)
    assert one.run_id == two.run_id


EQUAL = {
    "budget": ({"budget": Budget(kind="wall_clock", amount=4)}, {"budget": Budget.parse("4s")}),
    "fixed": ({"arm": tiny.arm(lr=1)}, {"arm": tiny.arm(lr=1.0)}),
    "warm-up": ({"schedule": Schedule(warmup_frac=0)}, {"schedule": Schedule(warmup_frac=0.0)}),
    "space": (
        {"arm": Arm(name="a", optimizer="sgd", search_space={"lr": Float(low=0, high=1)})},
        {"arm": Arm(name="a", optimizer="sgd", search_space={"lr": Float(low=0.0, high=1.0)})},
    ),
}


@pytest.mark.parametrize(("one", "two"), EQUAL.values(), ids=EQUAL)
def test_equal_plans_have_one_identity(one, two):
    assert tiny.plan(**one) == tiny.plan(**two)
    assert tiny.plan(**one).run_id == tiny.plan(**two).run_id


# Stored results are found again by it: it changes only together with IDENTITY_VERSION.
KNOWN_ID = "65ec0331b363f39f"


def test_the_identity_is_the_same_everywhere():
    code = "from tests.suite import tiny; print(tiny.plan(arm=tiny.arm('adam', lr=0.5)).run_id)"
    environment = {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, env=environment
    ).stdout.strip()
    assert elsewhere == tiny.plan(arm=tiny.arm("adam", lr=0.5)).run_id == KNOWN_ID


def test_a_plan_pickles():
    run = tiny.plan(arm=Arm(name="a", optimizer="sgd", fixed={"lr": 0.1}, search_space={"lr": Float(low=0.1, high=1)}))
    copy = pickle.loads(pickle.dumps(run))
    assert copy == run
    assert copy.run_id == run.run_id
