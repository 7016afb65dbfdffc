import json

import pytest

from optimizers import Categorical, Float
from suite.config import Arm, Budget
from suite.errors import UsageError
from suite.execution import conduct as module
from suite.execution.conduct import check, conduct, do_single
from suite.execution.cost import estimate
from suite.execution.race import race
from suite.plan import calibrations, expand, race_runs, tuning_runs
from suite.results import Store
from suite.study import Race, Study, Tuning
from tests.suite import tiny
from tests.suite.rows import planned_row

STEPS = Budget(kind="steps", amount=10)
SECONDS = Budget(kind="wall_clock", amount=4)


def make_study(**changes):
    fields = {
        "name": "tiny",
        "question": "Which?",
        "workload": "tests.suite.tiny:MLP",
        "arms": (tiny.arm("sgd"), tiny.arm("adam")),
        "batch_size": 16,
        "tune": Tuning(budget=STEPS, num_trials=3),
        "race": Race(budget=STEPS, seeds=(1, 2)),
    }
    return Study(**{**fields, **changes})


LRS = (0.01, 0.02, 0.03)  # by trial


def result(run, metric=0.5, loss=1.0, status="completed"):
    values = json.dumps({"lr": LRS[run.trial], "momentum": 0.5, "weight_decay": 0.0})
    metrics = {"val_metric": None if status == "diverged" else metric, "val_loss": loss}
    return planned_row(run, hyperparameters=values, status=status, **metrics)


def raced(run, lr=LRS[0], **changes):
    """Return the row of a race, by default with the point that wins if all trials are alike."""
    return planned_row(run, hyperparameters=json.dumps({"lr": lr, "momentum": 0.5}), **changes)


def finished(runs, results):
    return {run.run_id: result(run, *told) for run, told in zip(runs, results, strict=True)}


CHECKED = {
    "fine": ({}, None),
    "workload": ({"workload": "digitz"}, "unknown workload 'digitz'; known: cifar.*, digits, "),
    "workload's module": ({"workload": "nowhere.at:ALL"}, "cannot be imported"),
    "workload of no kind": ({"workload": "tests.suite.tiny:BATCH_SIZE"}, "is a int, not a WorkloadSpec"),
    "optimizer": ({"arms": (tiny.arm("sgdd"),)}, "no optimizer 'sgdd'; known: sgd"),
    "optimizer, raced": ({"arms": (tiny.arm("sgdd"),), "tune": None}, "no optimizer 'sgdd'; known: sgd"),
    "optimizer of no kind": ({"arms": (tiny.arm("tests.suite.tiny:MLP"),), "tune": None}, "must be an OptimizerSpec"),
    "hyperparameter": ({"arms": (tiny.arm("sgd", beta=0.9),)}, "no hyperparameter 'beta'"),
    "hyperparameter, raced": ({"arms": (tiny.arm("sgd", beta=0.9),), "tune": None}, "no hyperparameter 'beta'"),
    "value": ({"arms": (tiny.arm("sgd", lr=-1.0),), "tune": None}, "lr must be"),
    "type": ({"arms": (tiny.arm("sgd", lr="fast"),), "tune": None}, "fast"),
    "lower edge": ({"momentum": Float(low=-0.5, high=0.5)}, "momentum must be .* -0.5"),
    "upper edge": ({"momentum": Float(low=0.5, high=1.5)}, "momentum must be .* 1.5"),
    "choice": ({"momentum": Categorical(choices=(0.5, 2.0))}, "momentum must be .* 2.0"),
    "searched": ({"beta": Float(low=0, high=1)}, "no hyperparameter 'beta'"),
    "grid of a range": ({"tune": Tuning(budget=STEPS, sampler="grid")}, "arm 'sgd': the sampler 'grid' needs.*lr"),
    "grid too small": (
        {"tune": Tuning(budget=STEPS, sampler="grid", space="paper-cnn", num_trials=17)},
        "arm 'adam': the grid of lr has 16 points, but 17 trials are planned",
    ),
    "space": ({"tune": Tuning(budget=STEPS, space="vast")}, "arm 'sgd': sgd has no search space 'vast'"),
    "shards": ({"race": Race(budget=STEPS, num_workers=3)}, "multiple of num_workers"),
    "batch": ({"batch_size": 1000}, "batch_size must be <= the 200 training samples"),
}


@pytest.mark.parametrize(("changes", "message"), CHECKED.values(), ids=CHECKED)
def test_a_study_that_cannot_be_done_is_refused_before_it_starts(changes, message):
    if changes.keys() & {"momentum", "beta"}:
        arm = Arm(name="a", optimizer="sgd", search_space=changes)
        changes = {"arms": (tiny.arm("adam"), arm)}
    if message is None:
        check(make_study(**changes))
    else:
        with pytest.raises(UsageError, match=message):
            check(make_study(**changes))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", "tiny")


def test_a_study_that_is_done_starts_nothing(store, monkeypatch):
    monkeypatch.setattr(module, "_do", lambda *_: pytest.fail("something was started"))
    study = make_study(race=Race(budget=SECONDS, seeds=(1, 2)))
    for run in expand(study):
        store.write(result(run) if run.purpose == "tune" else raced(run), {})
    said = []
    assert conduct(study, store, said.append) is True  # the rows were not folded yet
    assert conduct(study, store, said.append) is False
    assert said == ["all 12 runs are done"] * 2
    assert store.unfolded() == []
    assert store.folder.has("optuna.journal")


def test_an_outdated_race_is_run_again_as_the_next_attempt(store, monkeypatch, tmp_path):
    study, queued = make_study(), []
    for run in tuning_runs(study):
        store.write(result(run, 0.6 if run.trial == 1 else 0.5), {})
    for run in race_runs(study):
        store.write(raced(run, lr=LRS[1] if run.arm.name == "adam" else LRS[2]), {})
    monkeypatch.setattr("suite.execution.race.run_trials", lambda jobs, *_: queued.extend(jobs))
    race(study, store, tmp_path, print)
    assert [(job.run.arm.name, job.run.seed, job.attempt) for job in queued] == [("sgd", 1, 2), ("sgd", 2, 2)]
    assert {job.hyperparameters["lr"] for job in queued} == {LRS[1]}


def test_what_is_missing_is_started(store, monkeypatch):
    started, said = [], []
    monkeypatch.setattr(module, "_do", lambda study, stages, *_: started.append(tuple(stages)))
    study = make_study()
    for run in tuning_runs(study):
        store.write(result(run), {})
    conduct(study, store, said.append, stages=("race",))
    conduct(study, store, said.append)
    assert started == [("race",), ("tune", "race")]
    assert said == ["0 of 4 runs are done; starting Ray", "6 of 10 runs are done; starting Ray"]


def test_a_race_without_winners_is_refused_before_ray_starts(store, monkeypatch):
    monkeypatch.setattr(module, "_do", lambda *_: pytest.fail("something was started"))
    with pytest.raises(UsageError, match="has no winner yet: 3 of 3 trials are missing"):
        conduct(make_study(), store, lambda _: None, stages=("race",))


def test_a_single_run_is_done_once(store, monkeypatch):
    run, said = tiny.plan(), []
    do_single(run, store, said.append)
    monkeypatch.setattr(module, "execute", lambda *_: pytest.fail("it was done again"))
    do_single(run, store, said.append)
    assert said[0] == "training tests.suite.tiny:MLP with sgd: 30 steps"
    assert said[1] == said[2]
    assert len(store.load().runs) == 1
    assert store.unfolded() == []


@pytest.mark.usefixtures("_quiet")
def test_a_single_run_for_a_time_is_calibrated_first(store, monkeypatch):
    monkeypatch.setattr("suite.training.calibration.SECONDS_PER_ARM", 0.01)
    run = tiny.plan(budget=Budget(kind="wall_clock", amount=0.05))
    do_single(run, store, lambda _: None)
    rows = store.finished()
    [cost] = calibrations([run])
    assert rows[run.run_id]["step_s"] == rows[cost.run_id]["step_s"]
    assert rows[run.run_id]["num_steps"] == max(1, round(0.05 / rows[cost.run_id]["step_s"]))


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("budget", [STEPS, Budget(kind="wall_clock", amount=0.05)], ids=str)
def test_a_single_run_that_fails_is_said(store, budget):
    said = []
    do_single(tiny.plan(arm=tiny.arm("tests.suite.tiny:FAULTY"), budget=budget), store, said.append)
    assert said[-1].split() == ["single", "faulty", "seed", "3", "failed"]


def test_what_a_study_would_cost():
    study = make_study(race=Race(budget=SECONDS, seeds=(1, 2), num_workers=2))
    assert estimate(study, ("tune", "race")) == [
        "tiny: Which?",
        "workload mlp; arms sgd, adam",
        "tune: 6 runs (10 steps) on 1 worker(s) x 1 thread(s)",
        "      protocol paper: equal trials and epochs for every arm; sampler sobol, space default",
        "      sgd: lr 0.001 to 1 (log), momentum 0 to 0.99",
        "      adam: lr 0.0001 to 0.1 (log)",
        "race: 4 runs (4s, calibrated) on 2 worker(s) x 1 thread(s), 16 s of training, after 2 calibrations",
    ]
    assert len(estimate(study, ("race",))) == 3
    assert len(race_runs(study)) == 4
