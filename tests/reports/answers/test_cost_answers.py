"""Answers about memory and time, by value."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports.answers import REGISTRY
from tests.reports.synthetic import case_of, frames_of, metrics_of, run

LEDGER = {"parameters": 100, "gradients": 90, "optimizer_state": 200, "factors": 5, "activations": 400}
LEDGER |= {"temporaries": 30, "peak": 825}


def ledger(run_id, scale=1.0, rss=(1000, 2000)):
    values = {f"memory/{name}_bytes": scale * value for name, value in LEDGER.items()}
    return metrics_of(run_id, values | {"memory/rss_before_bytes": rss[0], "memory/peak_rss_bytes": rss[1]})


def test_memory_is_that_of_the_largest_peak_beside_its_prediction():
    runs = case_of("b64", {"adam": [0.9, 0.9]}, batch_size=64)
    metrics = ledger("b64/adam0") + ledger("b64/adam1", scale=2.0, rss=(1000, 3000))
    metrics += metrics_of("b64/adam0", {"predicted_memory/peak_bytes": 1485.0})
    [row] = REGISTRY["memory"].table(frames_of(runs=runs, metrics=metrics)).to_dict("records")
    assert (row["arm"], row["batch_size"], row["num_runs"]) == ("adam", 64, 2)
    assert [row[f"{name}_bytes"] for name in LEDGER] == [2 * value for value in LEDGER.values()]
    assert row["predicted_peak_bytes"] == 1485
    assert row["prediction_error"] == pytest.approx(-0.1)
    assert row["rss_beside_ledger_bytes"] == 3000 - 1000 - 1650


def test_a_prediction_stands_where_the_run_was_lost():
    runs = [row | {"status": "out_of_memory"} for row in case_of("", {"adam": [None]})]
    metrics = metrics_of("/adam0", {"predicted_memory/peak_bytes": 10.0, "memory/peak_bytes": 3.0})
    [row] = REGISTRY["memory"].table(frames_of(runs=runs, metrics=metrics)).to_dict("records")
    assert (row["num_lost"], row["predicted_peak_bytes"]) == (1, 10)
    assert np.isnan(row["prediction_error"]) and pd.isna(row["peak_bytes"])


def test_runs_without_a_ledger_are_not_in_the_table():
    assert REGISTRY["memory"].table(frames_of(runs=case_of("", {"adam": [0.9]}))).empty


def profile(arm, values, **fields):
    row = run(f"profile {arm}", arm=arm, purpose="profile", **fields)
    return row, metrics_of(row["run_id"], {f"profile/{name}": value for name, value in values.items()})


def test_the_split_of_a_step():
    parts = {"data": 1.0, "forward": 2.0, "backward": 4.0, "factors": 0.5, "step": 2.0, "communication": 0.5}
    values = {f"{name}_s": value for name, value in parts.items()}
    row, metrics = profile("adafisher", values | {"refresh/factors_s": 3.0, "refresh/step_s": 1.0}, case="x")
    frame = REGISTRY["time_split"].table(frames_of(runs=[row], metrics=metrics))
    assert frame["steps"].tolist() == ["all", "refresh"]
    whole, refresh = frame.to_dict("records")
    assert (whole["case"], whole["total_s"], whole["backward_share"]) == ("x", 10.0, 0.4)
    assert sum(whole[f"{name}_share"] for name in parts) == pytest.approx(1.0)
    assert (refresh["factors_share"], refresh["total_s"]) == (0.75, 4.0)
    assert np.isnan(refresh["data_s"])


def timed(arm, seconds, **fields):
    """Race rows of ten epochs of ten steps each, with the seconds of an epoch of each seed."""
    rows = case_of("", {arm: [0.9] * len(seconds)}, num_steps=100, num_epochs=10.0, step_s=0.1, **fields)
    return [row | {"train_time_s": 10.0 * value} for row, value in zip(rows, seconds, strict=True)]


SGD, KFAC = [1.0, 1.02, 0.98, 1.01], [2.0, 2.05, 1.95, 2.03]


def test_an_epoch_is_compared_by_seed_as_a_ratio():
    rows = timed("kfac", KFAC, refresh_step_s=0.4) + timed("sgd", SGD) + timed("sgd (control)", [1.0, 1.03, 0.98, 1.0])
    frame = REGISTRY["epoch_time"].table(frames_of(runs=rows)).set_index("arm")
    kfac, control = frame.loc["kfac"], frame.loc["sgd (control)"]
    logs = np.log(np.divide(KFAC, SGD))
    assert kfac["mean_epoch_s"] == pytest.approx(np.mean(KFAC))
    assert kfac["calibrated_epoch_s"] == pytest.approx(1.0)
    assert kfac["over_reference"] == pytest.approx(np.exp(logs.mean()))
    assert kfac["over_reference_p_holm"] == pytest.approx(stats.ttest_1samp(logs, 0).pvalue)  # one pair: no control
    assert (kfac["over_reference_verdict"], kfac["reference"], kfac["refresh_step_s"]) == ("resolved", "sgd", 0.4)
    assert (control["over_reference_verdict"], control["reference"]) == ("not resolved", "sgd")
    assert frame["trusted"].unique().tolist() == ["yes"]
    assert {arm: None if pd.isna(rank) else int(rank) for arm, rank in frame["rank"].items()} == {
        "sgd": 1,
        "sgd (control)": None,
        "kfac": 2,
    }


def test_times_that_failed_a_check_are_marked_and_not_ranked():
    rows = timed("b", SGD) + timed("c", [0.5] * 4) + timed("b (control)", [1.5, 1.6, 1.4, 1.5])  # 50 % apart
    frame = REGISTRY["epoch_time"].table(frames_of(runs=rows))
    assert frame["trusted"].tolist() == ["no"] * 3 and frame["rank"].isna().all()
    assert frame["arm"].tolist() == ["b", "b (control)", "c"]  # by name, not by time
    trust = REGISTRY["trust"].table(frames_of(runs=rows)).set_index("check")
    assert trust.loc["control", "verdict"] == "failed" and "against itself" in trust.loc["control", "finding"]
    assert trust.loc["load", "verdict"] == "not judged"


def test_a_lost_run_has_no_epoch_time():
    rows = timed("sgd", SGD)
    rows[0] |= {"status": "diverged", "test_metric": None}
    [row] = REGISTRY["epoch_time"].table(frames_of(runs=rows)).to_dict("records")
    assert (row["num_runs"], row["num_lost"]) == (4, 1)
    assert row["mean_epoch_s"] == pytest.approx(np.mean(SGD[1:]))


def test_a_profile_serves_every_case_in_which_a_step_costs_the_same():
    row, metrics = profile("sgd", {"step_p50_s": 0.2, "plain_p95_s": 0.3}, case="a", batch_size=64)
    rows = [*case_of("a", {"sgd": [0.9]}), *case_of("b", {"sgd": [0.9]}), *case_of("c", {"sgd": [0.9]}, batch_size=8)]
    frame = REGISTRY["epoch_time"].table(frames_of(runs=[row, *rows], metrics=metrics)).set_index("case")
    assert frame.loc[["a", "b"], "step_p50_s"].tolist() == [0.2, 0.2] and np.isnan(frame.loc["c", "step_p50_s"])
    assert frame.loc["a", "plain_p95_s"] == 0.3


def scaled(arm, workers, seconds):
    """Race rows of so many workers at the same batch, and the profile that counted what they exchange."""
    rows = case_of(str(workers), {arm: [0.9] * 3}, num_workers=workers, num_steps=100, num_epochs=1.0)
    rows = [row | {"train_time_s": 100 * value} for row, value in zip(rows, seconds, strict=True)]
    row, metrics = profile(arm, {"collectives_per_step": 2.0, "bytes_per_step": 1e6}, num_workers=workers)
    return [*rows, row | {"run_id": f"{arm}-{workers}"}], [each | {"run_id": f"{arm}-{workers}"} for each in metrics]


def test_strong_scaling_with_its_efficiency_and_its_projection():
    (once, counted), (twice, more) = scaled("sgd", 1, [1.0, 1.1, 0.9]), scaled("sgd", 2, [0.6, 0.65, 0.55])
    frames = frames_of(runs=once + twice, metrics=counted + more)
    two = REGISTRY["scaling"].table(frames).set_index("num_workers").loc[2]
    speedups = np.divide([1.0, 1.1, 0.9], [0.6, 0.65, 0.55])
    assert (two["mode"], two["num_runs"], two["collectives_per_step"], two["bytes_per_step"]) == ("strong", 3, 2.0, 1e6)
    assert two["speedup"] == pytest.approx(speedups.mean())
    assert two["efficiency"] == pytest.approx(speedups.mean() / 2)
    projection = REGISTRY["projection"].table(frames)
    measured = projection[projection["kind"] == "measured"].set_index("num_workers")
    assert measured["measured_step_s"].tolist() == pytest.approx([1.0, 0.6])
    assert measured["model_step_s"].tolist() == pytest.approx(
        measured["measured_step_s"] * (1 + measured["relative_error"])
    )
    beyond = projection[projection["kind"] == "projected"]
    assert beyond["num_workers"].min() == 4 and (beyond["saturated_at_workers"] != "").all()
    model = REGISTRY["scaling_model"].table(frames)
    assert {"bandwidth", "latency of a message", "caution"} <= {*model["quantity"]}


def test_lost_runs_of_a_number_of_workers_are_counted():
    one = [run(f"one{seed}", arm="sgd", seed=seed, num_workers=1) for seed in range(3)]
    two = [run(f"two{seed}", arm="sgd", seed=seed, num_workers=2) for seed in range(3)]
    rows = [row | {"num_steps": 100, "train_time_s": 10.0, "test_metric": 0.9} for row in one + two]
    rows[-1] |= {"status": "out_of_memory", "test_metric": None}
    frame = REGISTRY["scaling"].table(frames_of(runs=rows)).set_index("num_workers")
    assert frame.loc[2, ["num_runs", "num_lost"]].tolist() == [2, 1]
    assert frame.loc[1, ["num_runs", "num_lost"]].tolist() == [3, 0]
