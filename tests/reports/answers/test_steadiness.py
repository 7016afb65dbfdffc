import numpy as np
import pytest

from reports.answers import REGISTRY
from reports.frames import prepare
from tests.reports.synthetic import case_of, frames_of, race_of, study, tune_of


def sampled(run_id, losses):
    return [{"run_id": run_id, "attempt": 1, "step": i + 1, "loss": loss} for i, loss in enumerate(losses)]


def test_values_of_a_tuned_and_raced_arm():
    runs = tune_of("a", [({"lr": lr}, score) for lr, score in [(0.01, 0.9), (0.1, 0.89), (1.0, 0.5), (10.0, None)]])
    for row, damping in zip(runs, (1e-3, 1e-3, 1e-1, 1e-1), strict=True):
        row["damping"] = damping
    runs += race_of({"a": [0.9, 0.92, None], "b": [0.8]})
    calm, jumpy = [2.0] + [1.0] * 9, [2.0] + [1.0] * 8 + [5.0]
    steps = sampled("a1", calm) + sampled("a0", jumpy) + sampled("a-t0", jumpy)  # a trial's losses do not count
    frame = REGISTRY["steadiness"].table(frames_of(runs=runs, steps=steps)).set_index("arm")
    a = frame.loc["a"]
    assert (a["num_trials"], a["num_runs"], a["num_seeds"]) == (4, 3, 2)
    assert a["lr_basin_decades"] == pytest.approx(1.0)
    assert a["damping_basin_decades"] == 0.0 and np.isnan(a["gamma_basin_decades"])
    assert a["diverged_share"] == pytest.approx(2 / 7)
    assert a["mean_spike_rate"] == pytest.approx((0.0 + 1 / 5) / 2)
    assert a["std_test_metric"] == pytest.approx(np.std([0.9, 0.92], ddof=1))
    b = frame.loc["b"]
    assert (b["num_trials"], b["num_runs"], b["num_seeds"], b["diverged_share"]) == (0, 1, 1, 0.0)
    assert b[["lr_basin_decades", "mean_spike_rate", "std_test_metric"]].isna().all()


def test_cases_and_workloads_are_apart():
    rows = case_of("base", {"a": [0.9, 0.9]}) + case_of("hot", {"a": [None, 0.5]})
    rows += [row | {"workload": "iris", "run_id": f"iris/{row['run_id']}"} for row in case_of("base", {"a": [0.7]})]
    frame = REGISTRY["steadiness"].table(frames_of(runs=rows)).set_index(["workload", "case"])
    assert frame["num_runs"].to_dict() == {("digits", "base"): 2, ("digits", "hot"): 2, ("iris", "base"): 1}
    assert frame.loc[("digits", "hot"), "diverged_share"] == 0.5


def test_a_default_study_is_filled():
    frame = REGISTRY["steadiness"].table(prepare(study())).set_index("arm")
    filled = ["lr_basin_decades", "diverged_share", "std_test_metric"]
    assert frame[filled].notna().all(axis=None) and (frame["num_trials"] == 12).all()
    assert frame.loc["adafisher", ["damping_basin_decades", "gamma_basin_decades"]].notna().all()
    assert frame.loc["sgd", ["damping_basin_decades", "gamma_basin_decades"]].isna().all()


def test_spikes_of_lost_runs_are_not_averaged():
    runs = race_of({"sgd": [0.9, None]})
    calm, wild = [1.0] * 30, [1.0] * 15 + [9.0] * 15
    steps = sampled("sgd0", calm) + sampled("sgd1", wild)
    row = REGISTRY["steadiness"].table(frames_of(runs=runs, steps=steps)).iloc[0]
    assert row["mean_spike_rate"] == 0.0 and row["diverged_share"] == 0.5
