import json
from dataclasses import asdict, replace
from importlib import metadata

import pandas as pd
import pytest
import torch

from suite.config import Budget
from suite.errors import UsageError
from suite.execution.execute import execute
from suite.execution.failures import failure_status, record_failure
from suite.execution.job import Job, configure, look_up, seconds_of
from suite.execution.measure import execute_calibrations, stored_calibrations
from suite.plan import calibrations
from suite.results import SCHEMA_VERSION, Store
from suite.training import calibration, loop
from suite.training.calibration import Calibration
from suite.training.workers import Workers
from tests.suite import tiny

FAULTY, GREEDY = "tests.suite.tiny:FAULTY", "tests.suite.tiny:GREEDY"
STEP_S = Calibration(
    step_s=0.5, step_s_low=0.4, step_s_high=0.6, plain_step_s=0.5, refresh_step_s=None, num_timed_steps=60
)
SECONDS = Budget(kind="wall_clock", amount=12)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results", "tiny")


def job(hyperparameters=None, measured=None, attempt=1, **changes):
    run = tiny.plan(**changes)
    return Job(run=run, hyperparameters=hyperparameters or {}, calibrations=measured or {}, attempt=attempt)


def row_of(store):
    [row] = store.finished().values()
    return row


def test_the_row_of_a_run(store):
    done = job({"lr": 0.25}, arm=tiny.arm(momentum=0.5), purpose="tune", trial=4, attempt=2)
    assert execute(done, store, Workers()) == "completed"
    row = row_of(store)
    assert (row["run_id"], row["attempt"], row["schema_version"]) == (done.run.run_id, 2, SCHEMA_VERSION)
    for name in ("study", "workload", "purpose", "trial", "seed", "splits", "num_workers", "num_threads", "batch_size"):
        assert row[name] == getattr(done.run, name)
    assert (row["arm"], row["optimizer"], row["budget"], row["schedule"]) == ("sgd", "sgd", "30 steps", "cosine")
    assert (row["lr"], row["weight_decay"], row["damping"], row["gamma"]) == (0.25, 0, None, None)
    assert json.loads(row["hyperparameters"]) == {"lr": 0.25, "momentum": 0.5, "weight_decay": 0, "nesterov": False}
    assert (row["status"], row["error"], row["num_steps"], row["num_resumes"]) == ("completed", None, 30, 0)
    assert (row["metric_name"], row["metric_goal"], row["target"]) == ("accuracy", "maximize", 2.0)
    assert (row["budget_seconds"], row["overshoot_s"], row["step_s"]) == (None, None, None)
    assert row["started_at"] < row["finished_at"]
    assert 0 < row["train_time_s"] <= row["total_time_s"]
    assert row["peak_cuda_allocated_bytes"] is None
    assert row["hostname"] and row["hardware"]
    assert json.loads(row["environment"])["torch"] == metadata.version("torch")
    results = store.load()
    assert set(results.runs["run_id"]) == set(results.epochs["run_id"]) == {done.run.run_id}
    assert results.epochs["step"].tolist() == [12, 24, 30]
    assert results.steps["step"].tolist() == [1, 11, 21]


def test_curvature_is_measured(store):
    execute(job(arm=tiny.arm("adafisher")), store, Workers())
    metrics = store.load().metrics
    assert metrics["step"].unique().tolist() == [12, 24, 30]
    assert {"preconditioner_spread", "preconditioner_spread/0.weight"} <= set(metrics["name"])
    assert (metrics["value"] >= 1).all()


def test_fallbacks_are_counted(store):
    execute(job(arm=tiny.arm("kfac")), store, Workers())
    metrics = store.load().metrics
    assert metrics["name"].unique().tolist() == ["fallbacks/kept_inverses"]
    assert metrics["value"].tolist() == [0.0, 0.0, 0.0]


BUDGETS = {
    # budget, steps, seconds, seconds used
    "steps": (Budget(kind="steps", amount=7), 7, None, None),
    "epochs": (Budget(kind="epochs", amount=2), 24, None, None),
    "part of an epoch": (Budget(kind="epochs", amount=0.5), 6, None, None),
    "seconds": (SECONDS, 24, 12, 12),
    "not a whole step": (Budget(kind="wall_clock", amount=3.2), 6, 3.2, 3),
    "less than a step": (Budget(kind="wall_clock", amount=0.1), 1, 0.1, 0.5),
    "of the reference": (Budget(kind="wall_clock_of", amount=2, reference="slow"), 48, 24, 24),
}


@pytest.mark.parametrize(("budget", "steps", "seconds", "used"), BUDGETS.values(), ids=BUDGETS)
def test_a_budget_becomes_a_number_of_steps(store, budget, steps, seconds, used):
    measured = {"sgd": STEP_S, "slow": replace(STEP_S, step_s=1.0)}
    execute(job(measured=measured, budget=budget), store, Workers())
    row = row_of(store)
    assert (row["status"], row["num_steps"], row["budget_seconds"]) == ("completed", steps, seconds)
    if seconds is not None:
        assert row["budget_time_s"] == used
        assert row["overshoot_s"] == pytest.approx(used - seconds)
        assert {name: row[name] for name in asdict(STEP_S)} == asdict(STEP_S)


def test_a_live_budget_is_decided_by_the_clock(store):
    budget = Budget(kind="wall_clock", amount=0.05, mode="live")
    execute(job(measured={"sgd": STEP_S}, budget=budget), store, Workers())
    row = row_of(store)
    assert row["train_time_s"] == row["budget_time_s"] >= 0.05
    assert row["overshoot_s"] == row["train_time_s"] - 0.05
    assert row["step_s"] is None


def test_a_calibrated_budget_without_its_calibration_is_not_measured_by_the_clock_instead(store):
    assert execute(job(budget=Budget(kind="wall_clock", amount=0.05)), store, Workers()) == "failed"


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (Budget(kind="steps", amount=7), None),
        (Budget(kind="epochs", amount=7), None),
        (SECONDS, 12),
        (Budget(kind="wall_clock_of", amount=3, reference="slow"), 3 * 12 * 2.0),
        (Budget(kind="wall_clock_of", amount=3, reference="slow", mode="live"), 3 * 12 * 2.0),
    ],
    ids=str,
)
def test_the_seconds_of_a_budget(budget, expected):
    measured = {"sgd": STEP_S, "slow": replace(STEP_S, step_s=2.0)}
    assert seconds_of(tiny.plan(budget=budget), measured, 12) == expected


FAILURES = {
    "raises": ({"arm": tiny.arm(FAULTY)}, "failed", "ValueError: this optimizer is broken"),
    "memory": ({"arm": tiny.arm(GREEDY)}, "out_of_memory", "MemoryError: no more of it"),
    "batch": ({"batch_size": 1000}, "failed", "batch_size must be <= the 200 training samples"),
    "unknown workload": ({"workload": "tests.suite.tiny:NONE"}, "failed", "cannot be imported"),
    "unknown optimizer": ({"arm": tiny.arm("sgdd")}, "failed", "no optimizer 'sgdd'"),
}


@pytest.mark.parametrize(("changes", "status", "error"), FAILURES.values(), ids=FAILURES)
def test_a_run_that_cannot_be_done_is_a_row(store, changes, status, error):
    assert execute(job(**changes), store, Workers()) == status
    row = row_of(store)
    assert row["status"] == status
    assert row["error"].startswith("Traceback")
    assert error in row["error"]
    assert row["val_metric"] is row["num_steps"] is None
    assert row["started_at"] < row["finished_at"]


def test_an_interruption_is_no_failure(store, monkeypatch):
    monkeypatch.setattr(tiny.Faulty, "error", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        execute(job(arm=tiny.arm(FAULTY)), store, Workers())
    assert store.finished() == {}


class FirstOfTwo(Workers):
    def __init__(self):
        super().__init__()
        self.num_workers = 2


def test_a_failure_beside_others_is_a_row_and_breaks_up_the_group(store, monkeypatch):
    monkeypatch.setattr("suite.execution.execute._train", lambda *_: 1 / 0)
    done = job(num_workers=2)
    with pytest.raises(RuntimeError, match=f"run {done.run.run_id} ended as failed on worker 0"):
        execute(done, store, FirstOfTwo())
    assert "ZeroDivisionError" in row_of(store)["error"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory"),
        (RuntimeError("shapes cannot be multiplied"), "failed"),
        (ValueError("can't allocate memory"), "failed"),
    ],
    ids=["python", "cuda", "cpu", "other", "value"],
)
def test_what_means_that_memory_ran_out(error, expected):
    assert failure_status(error) == expected


def test_the_allocator_of_the_cpu_says_so():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert failure_status(caught.value) == "out_of_memory"


def interrupted(store, done, monkeypatch):
    """Leave a checkpoint behind: each look at the loss writes one, and the third ends the process."""
    written = []
    write = store.folder.write

    def crash(name, content):
        write(name, content)
        written.append(name)
        if len(written) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_INTERVAL_S", 0.0)
        patch.setattr(store.folder, "write", crash)
        with pytest.raises(KeyboardInterrupt):
            execute(done, store, Workers())
    assert written == [f"checkpoints/{done.run.run_id}.pt"] * 2
    assert store.folder.names("checkpoints") == [f"{done.run.run_id}.pt"]


# Times of this machine, and what a second start has of its own.
NOT_REPEATED = r"_time|_at$|^load|rss|num_resumes|attempt"


def test_a_stopped_run_goes_on_and_its_checkpoint_is_removed(store, tmp_path, monkeypatch):
    done = job(arm=tiny.arm("adam"), workload="tests.suite.tiny:NOISY", batch_size=12)
    interrupted(store, done, monkeypatch)
    execute(done, store, Workers())
    assert store.folder.names("checkpoints") == []
    whole = Store(tmp_path / "whole", "tiny")
    execute(done, whole, Workers())
    assert row_of(store)["num_resumes"] == 1
    for table in ("runs", "epochs"):
        one, other = (getattr(place.load(), table) for place in (store, whole))
        assert not one.empty
        pd.testing.assert_frame_equal(
            *(frame.loc[:, ~frame.columns.str.contains(NOT_REPEATED)] for frame in (one, other)), check_exact=True
        )


def test_a_failed_run_leaves_no_checkpoint(store, monkeypatch):
    done = job(arm=tiny.arm("adam"))
    interrupted(store, done, monkeypatch)
    monkeypatch.setattr(loop, "evaluate", lambda *_: 1 / 0)
    assert execute(done, store, Workers()) == "failed"
    assert store.folder.names("checkpoints") == []


@pytest.mark.usefixtures("_quiet")
def test_calibrations_are_rows_that_are_read_again(store, monkeypatch):
    monkeypatch.setattr(calibration, "SECONDS_PER_ARM", 0.01)
    plans = calibrations([tiny.plan(arm=tiny.arm(name), budget=SECONDS) for name in ("sgd", "adam")])
    measured = execute_calibrations(
        [Job(run=plan, hyperparameters={}, calibrations={}) for plan in plans], store, Workers()
    )
    assert list(measured) == ["sgd", "adam"]
    rows = store.finished()
    assert stored_calibrations(plans, rows) == measured
    assert {row["purpose"] for row in rows.values()} == {"calibrate"}
    assert {row["status"] for row in rows.values()} == {"completed"}
    assert stored_calibrations(plans, {}) == {}
    assert execute_calibrations([], store, Workers()) == {}


def test_a_run_that_cannot_begin_is_a_row(store):
    record_failure(job(), store, "there is no winner")
    row = row_of(store)
    assert (row["status"], row["error"]) == ("failed", "there is no winner")


CONFIGURED = {
    "defaults": ("sgd", {}, {}, {"lr": 0.1, "momentum": 0.9}),
    "fixed": ("sgd", {"lr": 0.5}, {}, {"lr": 0.5, "momentum": 0.9}),
    "sampled": ("sgd", {"momentum": 0.5}, {"lr": 0.25}, {"lr": 0.25, "momentum": 0.5}),
    "preset": ("adafisher_released", {}, {}, {"numerics": "released"}),
    "unknown optimizer": ("sgdd", {}, {}, "arm 'sgdd': no optimizer 'sgdd'; known: sgd, adam"),
    "unknown value": ("sgd", {"beta": 0.5}, {}, "arm 'sgd': sgd has no hyperparameter 'beta'; known: lr, momentum"),
    "out of range": ("sgd", {}, {"lr": -1.0}, "arm 'sgd': lr must be finite and >= 0, but got -1.0"),
    "wrong type": ("sgd", {"lr": "fast"}, {}, "arm 'sgd': .*fast"),
}


@pytest.mark.parametrize(("optimizer", "fixed", "sampled", "expected"), CONFIGURED.values(), ids=CONFIGURED)
def test_the_configuration_of_a_run(optimizer, fixed, sampled, expected):
    run = tiny.plan(arm=tiny.arm(optimizer, **fixed))
    if isinstance(expected, str):
        with pytest.raises(UsageError, match=expected):
            configure(run, sampled)
    else:
        _, config = configure(run, sampled)
        assert {name: getattr(config, name) for name in expected} == expected


def test_a_task_has_the_splits_of_its_plan():
    assert look_up(job()).data.val is not None
    assert look_up(job(splits="paper")).data.val is None
