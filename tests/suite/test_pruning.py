from dataclasses import replace

import pytest

from suite.execution import pruning
from suite.execution.pruning import PRUNERS, Judge, watch_for
from tests.suite import tiny
from tests.suite.rows import planned_row

ENDS = {"budget": "30 steps", "num_steps": 30, "num_epochs": 2.0, "budget_time_s": None, "budget_seconds": None}


def plans(num, name="sgd"):
    return [tiny.plan(arm=tiny.arm(name), purpose="tune", trial=k, seed=k) for k in range(num)]


def judge(pruner, runs, rows=None, curves=None):
    return Judge(pruner, runs, rows or {}, curves or {})


def train(judge, run, metrics):
    """Report metrics at equal parts of the budget, and return the fraction at which the trial is stopped."""
    for k, metric in enumerate(metrics, 1):
        if judge.is_over(run.run_id, k / len(metrics), metric):
            judge.finish(run.run_id, planned_row(run, status="pruned", val_metric=metric, **ENDS))
            return k / len(metrics)
    judge.finish(run.run_id, planned_row(run, val_metric=metrics[-1], **ENDS))
    return None


def test_the_median_stops_what_is_worse_than_most_from_the_middle_on():
    runs = plans(7)
    jury = judge("median", runs)
    assert [train(jury, run, [0.5, 0.6, 0.7, 0.8]) for run in runs[:4]] == [None] * 4
    assert train(jury, runs[4], [0.1, 0.2, 0.3, 0.4]) == 0.5
    assert train(jury, runs[5], [0.1, 0.7, 0.8, 0.9]) is None


def test_asha_lets_the_better_half_go_on():
    runs = plans(4)
    jury = judge("asha", runs)
    curves = [[0.5, 0.6, 0.7, 0.8], [0.1, 0.2, 0.3, 0.4], [0.6, 0.7, 0.8, 0.9], [0.2, 0.3, 0.4, 0.5]]
    assert [train(jury, run, curve) for run, curve in zip(runs, curves, strict=True)] == [None, 0.25, None, 0.25]


@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_metric_to_minimize(pruner, monkeypatch):
    monkeypatch.setattr(pruning.workloads, "find", lambda _: replace(tiny.MLP, metric_goal="minimize"))
    runs = plans(5)
    jury = judge(pruner, runs)
    assert [train(jury, run, [4.0, 3.0, 2.0, 1.0]) for run in runs[:4]][0] is None
    assert train(jury, runs[4], [9.0, 9.0, 9.0, 9.0]) is not None


@pytest.mark.parametrize("pruner", PRUNERS)
def test_arms_are_not_compared_with_each_other(pruner):
    good, bad = plans(5), plans(5, "adam")
    jury = judge(pruner, [*good, *bad])
    for run in good:
        train(jury, run, [0.9] * 4)
    assert train(jury, bad[0], [0.1] * 4) is None


def test_what_was_finished_before_counts():
    runs = plans(5)
    rows = {run.run_id: planned_row(run, **ENDS) for run in runs[:4]}
    curves = {run.run_id: [(15, 0.8), (30, 0.8)] for run in runs[:4]}
    assert train(judge("median", runs, rows, curves), runs[4], [0.5, 0.5]) == 0.5
    assert train(judge("median", runs), runs[4], [0.5, 0.5]) is None


def test_a_trial_that_starts_again_reports_again():
    runs = plans(1)
    jury = judge("median", runs)
    assert not jury.is_over(runs[0].run_id, 0.5, 0.1)
    assert train(jury, runs[0], [0.1, 0.2]) is None


def test_nothing_is_watched_where_nothing_is_pruned():
    assert watch_for(None, plans(1)[0]) is None
