"""What a study costs on a GPU, from step times that were measured there."""

import pytest

from studies import REGISTRY
from suite.config import Arm, Budget, Run
from suite.execution import forecast
from suite.plan import expand

TIMES = {("cifar10_resnet18", "adam"): (256, 0.1), ("cifar10_resnet18", "adafisher"): (256, 0.2)}
ADAM = Arm(name="adam", optimizer="adam")
ARMS = {"adam": "adam", "adafisher": "adafisher"}
EPOCH_STEPS = 45_000 // 256


@pytest.fixture(autouse=True)
def times(monkeypatch):
    monkeypatch.setattr(forecast, "step_times", lambda: ("a GPU", TIMES))


def plan(budget, arm=ADAM, **changes):
    fields = {"study": "s", "workload": "cifar10_resnet18", "purpose": "race", "seed": 1, "batch_size": 256}
    return Run(**{**fields, **changes}, arm=arm, budget=Budget.parse(budget))


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (plan("100 steps"), 10.0),
        (plan("2 epochs"), 2 * EPOCH_STEPS * 0.1),
        (plan("90s"), 90.0),
        (plan("2 epochs of adafisher"), 2 * EPOCH_STEPS * 0.2),
        (plan("100 steps", batch_size=512), 20.0),
        (plan("100 steps", num_workers=2), 5.0),
        (plan("100 steps", workload="cifar10_resnet50"), None),
        (plan("100 steps", arm=Arm(name="kfac", optimizer="kfac")), None),
    ],
)
def test_seconds_of_a_run(run, expected):
    assert forecast.training_seconds(run, ARMS) == pytest.approx(expected)


def test_gpu_hours_add_up_over_the_workers_and_what_is_not_known_is_named():
    runs = [plan("36000s"), plan("36000s", num_workers=4), plan("1 steps", workload="cifar10_resnet50")]
    text = forecast.gpu_cost(runs)
    assert text == (
        "about 50.0 GPU-hours of training on a GPU, without adam on cifar10_resnet50, whose step times are not known"
    )


def test_what_is_missing_is_said_with_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("FISHERBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("FISHERBENCH_OFFLINE", "1")
    here, missing = forecast.data_needed([plan("1 epochs", workload="digits"), plan("1 epochs")])
    assert here == "data of digits: here"
    assert missing.startswith("data of cifar10_resnet18: missing: ")
    assert str(tmp_path) in missing


@pytest.mark.parametrize("variant", ["cifar100_resnet18", "cifar10_resnet18_cutout", "cifar100_resnet18_pretrained"])
def test_variants_of_a_workload_take_the_steps_of_its_network(variant):
    assert forecast.training_seconds(plan("100 steps", workload=variant), ARMS) == pytest.approx(10.0)


@pytest.mark.parametrize("name", [name for name, study in REGISTRY.items() if study.paper])
def test_every_study_has_a_cost_at_the_scale_of_the_paper(name, monkeypatch):
    monkeypatch.undo()
    runs = [run for run in expand(REGISTRY[name].at_scale("paper")) if run.purpose not in {"calibrate", "profile"}]
    arms = {run.arm.name: run.arm.optimizer for run in runs if run.source != "placebo"}
    known = [run for run in runs if forecast.training_seconds(run, arms) is not None]
    assert len(known) >= 0.8 * len(runs), "the rest is named in the line that a dry run prints"
