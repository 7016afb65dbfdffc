"""What every study owes its reader, at both scales."""

import pytest

from reports import answers
from studies import REGISTRY
from suite.diagnostics import MEMORY
from suite.diagnostics import REGISTRY as DIAGNOSTICS
from suite.errors import UsageError
from suite.plan import expand, race_runs
from suite.workloads import find

RACES = [name for name, study in REGISTRY.items() if study.race]
SCALES = [
    (name, scale) for name, study in REGISTRY.items() for scale in ("quick", "paper") if scale == "quick" or study.paper
]
MIN_SECONDS = 3.0
PUBLISHED = "as published"  # a case that is the paper's, however short


def at(name, scale="quick"):
    return REGISTRY[name].at_scale(scale)


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_it_expands_without_its_data_and_each_run_is_one_of_its_own(name, scale, monkeypatch, tmp_path):
    monkeypatch.setenv("FISHERBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("FISHERBENCH_OFFLINE", "1")
    runs = expand(at(name, scale))
    assert len({run.run_id for run in runs}) == len(runs) > 0
    for run in runs:
        assert find(run.workload).num_train_with(run.splits), f"the cost of {run.workload} cannot be told"


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_its_answers_and_diagnostics_are_known(name, scale):
    study = at(name, scale)
    assert set(study.answers) <= set(answers.REGISTRY)
    if study.race:
        assert study.answers, "a race has a table"
        assert set(study.race.diagnostics) <= {*DIAGNOSTICS, MEMORY}


def test_every_answer_is_asked_for():
    assert {answer for study in REGISTRY.values() for answer in study.answers} == set(answers.REGISTRY)


def test_every_diagnostic_is_asked_for_or_always_there():
    asked = {name for study in REGISTRY.values() if study.race for name in study.race.diagnostics}
    assert asked | {"preconditioner_spread", "fallbacks"} == {*DIAGNOSTICS, MEMORY}


@pytest.mark.parametrize("name", RACES)
def test_at_the_quick_scale_it_has_seeds_and_arms_enough_and_is_offline(name):
    runs = race_runs(at(name))
    assert len({run.seed for run in runs}) >= 3
    assert len({run.arm.name for run in runs}) >= 4
    assert {run.workload for run in expand(at(name))} <= {
        *("digits", "digits_cutout", "digits_mlp", "digits_rotation", "iris")
    }


@pytest.mark.parametrize("name", REGISTRY)
def test_no_quick_run_is_given_less_than_three_seconds(name):
    for run in expand(at(name)):
        if run.budget.kind == "wall_clock":
            assert run.budget.amount >= MIN_SECONDS
        elif run.purpose in {"race", "tune"} and run.case != PUBLISHED:
            assert run.budget.kind == "epochs"
            steps = run.budget.amount * (find(run.workload).num_train // run.batch_size)
            samples = steps * run.batch_size
            assert samples >= (200_000 if run.workload == "iris" else 40_000), f"{run.case}: {samples} samples"


@pytest.mark.parametrize(("name", "scale"), [each for each in SCALES if "trust" in REGISTRY[each[0]].answers])
def test_a_study_of_times_has_a_control(name, scale):
    race = at(name, scale).race
    assert race.control is not None
    assert race.isolation == "machine" or race.budget.mode == "live", "its runs have the machine to themselves"


def test_the_race_is_at_four_budgets_and_its_winners_have_schedules_of_their_own():
    runs = race_runs(at("wall_clock_race"))
    budgets = sorted({run.budget.amount for run in runs if run.workload == "digits"})
    assert [budget / budgets[2] for budget in budgets] == [0.25, 0.5, 1, 2]
    assert {run.label for run in runs} >= {"adafisher-released", "adafisher-released (placebo)", "sgd"}


def test_the_published_race_has_every_row_of_the_tables():
    cases = {run.case for run in race_runs(at("wall_clock_race", "paper"))}
    networks = ("resnet18", "resnet50", "resnet101", "densenet121", "mobilenetv3", "swin_t", "focalnet", "cct_2_3x2")
    for classes in (10, 100):
        for network in networks:
            assert {f"cifar{classes}_{network}", f"cifar{classes}_{network}_cutout"} <= cases
    assert {"tiny_imagenet_resnet50", "tiny_imagenet_swin_b", "imagenet_resnet50", "wikitext2_gpt", "ptb_gpt"} <= cases


def test_the_transfer_is_from_random_and_from_pretrained_weights_and_of_four_networks():
    weights = {run.case: run.initial_weights is not None for run in race_runs(at("transfer"))}
    assert weights == {"random": False, "pretrained": True}
    published = {run.workload for run in race_runs(at("transfer", "paper"))}
    assert len(published) == 8
    assert all(name.endswith("_pretrained") for name in published)


def test_a_scale_that_a_study_lacks_is_refused():
    with pytest.raises(UsageError, match="unknown scale of the study 'digits'"):
        at("digits", "paper")
