"""When diagnostics are called, and with what."""

from dataclasses import replace

import pytest
import torch

from suite.diagnostics import ALWAYS, REGISTRY, Diagnostic, Finding
from suite.execution import observe
from suite.execution.execute import execute
from suite.execution.job import Job
from suite.results import Store
from suite.training.workers import Workers
from tests.suite import tiny


class Recorder:
    """A diagnostic that keeps the moments at which it was called."""

    def __init__(self):
        self.moments = []

    def __call__(self, moment):
        self.moments.append(moment)
        return Finding(values={"recorded": moment.frac}, arrays={"diagonal": torch.eye(2) * moment.step})


@pytest.fixture
def recorded(monkeypatch):
    def register(at):
        recorder = Recorder()
        monkeypatch.setitem(observe.REGISTRY, "recorder", Diagnostic(name="recorder", measure=recorder, at=at))
        return recorder

    return register


def run(tmp_path, **changes):
    store = Store(tmp_path / "results", "tiny")
    execute(Job(run=tiny.plan(**{"diagnostics": ("recorder",), **changes})), store, Workers())
    return store.load()


# 30 steps, an epoch of 12: evaluations have used 0.4, 0.8 and 1 of the budget
@pytest.mark.parametrize(
    ("at", "expected"),
    [(None, [12, 24, 30]), ((1.0,), [30]), ((0.5, 1.0), [24, 30]), ((0.1, 0.2, 0.4), [12]), ((0.41,), [24])],
)
def test_a_diagnostic_is_called_at_the_first_evaluation_that_has_used_as_much(tmp_path, recorded, at, expected):
    recorder = recorded(at)
    results = run(tmp_path)
    assert results.runs["status"].tolist() == ["completed"]
    assert [moment.step for moment in recorder.moments] == expected
    found = results.metrics[results.metrics["name"] == "recorded"]
    assert found["step"].tolist() == expected
    assert found["value"].tolist() == pytest.approx([step / 30 for step in expected])


def test_its_arrays_are_stored_entry_by_entry(tmp_path, recorded):
    recorded((1.0,))
    arrays = run(tmp_path).arrays
    assert arrays[["step", "name", "row", "column", "value"]].to_numpy().tolist() == [
        [30, "diagonal", 0, 0, 30],
        [30, "diagonal", 0, 1, 0],
        [30, "diagonal", 1, 0, 0],
        [30, "diagonal", 1, 1, 30],
    ]


def test_it_sees_the_same_training_samples_for_every_arm(tmp_path, recorded):
    recorder = recorded(None)
    for optimizer in ("sgd", "adam"):
        run(tmp_path / optimizer, arm=tiny.arm(optimizer))
    first, *others = recorder.moments
    assert first.inputs.shape == (min(observe.NUM_OBSERVED, tiny.NUM_TRAIN), 8)
    train = tiny.load().train.inputs.tolist()
    assert all(sample in train for sample in first.inputs.tolist())
    assert all(torch.equal(moment.inputs, first.inputs) for moment in others)
    assert all(torch.equal(moment.targets, first.targets) for moment in others)


def test_a_run_that_asks_for_none_has_what_is_always_measured():
    names = [probe._diagnostic.name for probe in observe.probes_of(tiny.task())]
    assert names == [name for name in REGISTRY if name in ALWAYS]


def test_a_run_that_does_not_ask_for_its_memory_has_no_ledger():
    outcome = observe.Outcome(columns={"peak_rss_bytes": 1, "num_steps": 1})
    assert observe.after_training(tiny.task(), outcome, 0) == []


@pytest.mark.parametrize("status", ["diverged", "pruned"])
def test_a_run_that_did_not_end_well_has_no_ledger(status):
    task = tiny.task()
    task = replace(task, run=replace(task.run, diagnostics=("memory",)))
    assert observe.after_training(task, observe.Outcome(status=status), 0) == []
