import numpy as np
import pandas as pd
import pytest

from reports.frames import (
    base_arm,
    calibrations,
    is_tuning_only,
    metric_of,
    parts,
    prepare,
    race_runs,
    tune_runs,
)
from tests.reports.searches import pruned, searched
from tests.reports.synthetic import TableSet, frames_of, race_of, run

LONG = ("metrics", "arrays")


def test_only_the_last_attempt_counts():
    runs = [run("r", attempt=1, status="failed"), run("r", attempt=2, status="completed", test_metric=0.9)]
    epochs = [{"run_id": "r", "attempt": 1, "epoch": 1.0}, {"run_id": "r", "attempt": 2, "epoch": 2.0}]
    frames = frames_of(runs=runs, epochs=epochs)
    assert frames.runs["status"].tolist() == ["completed"]
    assert frames.epochs["epoch"].tolist() == [2.0]


def test_missing_columns_and_mixed_types_become_nan_and_floats():
    frames = frames_of(runs=[run("a", lr="0.1"), run("b", lr=pd.NA)])
    assert frames.runs["lr"].tolist()[0] == 0.1
    assert frames.runs["damping"].isna().all()
    assert frames.runs["seed"].dtype == "float64"


def test_nullable_types_of_the_store_become_floats():
    runs = pd.DataFrame([run("a", num_steps=5), run("b", num_steps=None)]).astype({"num_steps": "Int64"})
    tables = TableSet()
    tables.runs = runs
    steps = prepare(tables).runs["num_steps"]
    assert steps.dtype == "float64"
    assert steps.isna().tolist() == [False, True]


def test_lost_runs_are_marked_and_have_no_metric():
    runs = race_runs(frames_of(runs=race_of({"sgd": [0.9, None]}) + [run("x", seed=2, test_metric=float("inf"))]))
    assert runs.sort_values("seed")["is_lost"].tolist() == [False, True, True]
    assert runs["test_metric"].notna().sum() == 1


def test_paper_splits_are_scored_on_test():
    paper = run("p", purpose="tune", splits="paper", test_metric=0.8)
    standard = run("s", purpose="tune", val_metric=0.7, test_metric=0.9)
    assert tune_runs(frames_of(runs=[paper, standard])).set_index("run_id")["score"].to_dict() == {"p": 0.8, "s": 0.7}


def test_metric_of_a_loss():
    metric = metric_of(frames_of(runs=[run("a", metric_name="perplexity", metric_goal="minimize", target=30.0)]))
    assert metric.good == "lower is better"
    assert metric.meets(29.0) and metric.meets(30.0) and not metric.meets(31.0)


def test_metric_without_a_target_is_always_met():
    assert metric_of(frames_of(runs=[run("a", target=None)])).meets(0.0)


def test_workloads_keep_the_arms_of_the_study():
    frames = frames_of(runs=[run("a", arm="adam"), run("b", arm="sgd", workload="iris")])
    assert [
        (name, part.arms, len(part.runs)) for name, part in ((part.workload, part.frames) for part in parts(frames))
    ] == [
        ("digits", ("adam", "sgd"), 1),
        ("iris", ("adam", "sgd"), 1),
    ]


def test_calibrations_find_the_steps_per_epoch_of_the_same_setting():
    runs = [
        run("c", purpose="calibrate", step_s=0.01),
        run("r", num_steps=200, num_epochs=10.0),
        run("t", num_workers=1, num_steps=300, num_epochs=10.0),
    ]
    assert calibrations(frames_of(runs=runs))["steps_per_epoch"].tolist() == [20.0]


@pytest.mark.parametrize(("status", "is_lost"), [("pruned", False), ("diverged", True), ("target_reached", False)])
def test_only_a_trial_that_ran_to_its_end_has_a_score(status, is_lost):
    (row,) = searched("sgd", [({"lr": 0.1}, 0.9)])
    trial = tune_runs(frames_of(runs=[row | {"status": status}])).iloc[0]
    assert (trial["is_lost"], trial["is_pruned"]) == (is_lost, status == "pruned")
    assert np.isfinite(trial["score"]) == (status == "target_reached")


def test_the_workload_with_the_race_comes_first():
    trials = [row | {"workload": "digits"} for row in searched("sgd", [({"lr": 0.1}, 0.9)])]
    frames = frames_of(runs=[pruned(*trials, 0.9), run("r", workload="iris")])
    assert [
        (name, is_tuning_only(part)) for name, part in ((part.workload, part.frames) for part in parts(frames))
    ] == [("iris", False), ("digits", True)]


def test_cost_variants_count_as_their_arm():
    names = ["adam", "adam foreach=True", "sgd foreach=True"]
    runs = [run("r", arm="adam"), *(run(name, arm=name, purpose="calibrate") for name in names)]
    assert frames_of(runs=runs).arms == ("adam", "sgd foreach=True")


@pytest.mark.parametrize(
    ("arm", "base"),
    [
        *((f"a ({source})", "a") for source in ("default", "transferred", "placebo", "control")),
        ("a (mine)", "a (mine)"),
    ],
)
def test_base_arm(arm, base):
    assert base_arm(arm) == base


def test_a_part_a_case_in_the_order_they_were_begun():
    starts = {"late": "2026-01-02T00:00:00Z", "early": "2026-01-01T00:00:00Z", "never": None}
    runs = [run(case, case=case, started_at=start, num_workers=2) for case, start in starts.items()]
    found = list(parts(frames_of(runs=runs)))
    assert [(part.workload, part.case, part.frames.runs["run_id"].tolist()) for part in found] == [
        ("digits", case, [case]) for case in ("early", "late", "never")
    ]


def test_a_calibration_belongs_to_the_cases_that_it_was_measured_for():
    runs = [
        run("wide", case="wide", batch_size=128),
        run("narrow", case="narrow"),
        run("again", case="again"),
        run("c64", purpose="calibrate", batch_size=64),
        run("c128", purpose="calibrate", batch_size=128),
    ]
    found = {part.case: set(part.frames.runs["run_id"]) for part in parts(frames_of(runs=runs))}
    assert found == {"wide": {"wide", "c128"}, "narrow": {"narrow", "c64"}, "again": {"again", "c64"}}


def test_the_sweep_of_a_race_with_cases_is_a_part_of_its_own():
    runs = [run("t", purpose="tune", val_metric=0.9), run("a", case="a"), run("b", case="b")]
    found = {part.case: part.frames.runs["run_id"].tolist() for part in parts(frames_of(runs=runs))}
    assert found == {"": ["t"], "a": ["a"], "b": ["b"]}


def test_what_serves_others_makes_no_part_unless_it_is_all():
    serving = [run("p", purpose="pretrain", workload="iris"), run("f", purpose="profile", case="other")]
    assert [part.workload for part in parts(frames_of(runs=[*serving, run("r")]))] == ["digits"]
    assert [part.workload for part in parts(frames_of(runs=serving))] == ["digits", "iris"]


@pytest.mark.parametrize("purpose", ["calibrate", "profile", "pretrain", "tune"])
def test_only_races_and_single_runs_rank_arms(purpose):
    frames = frames_of(runs=[run("a", purpose=purpose, test_metric=0.9), run("b", purpose="single", test_metric=0.8)])
    assert race_runs(frames)["run_id"].tolist() == ["b"]


def test_a_part_keeps_its_rows_of_the_long_tables():
    tables = {name: [{"run_id": run_id, "attempt": 1, "step": 1, "name": "x"} for run_id in "ab"] for name in LONG}
    frames = frames_of(runs=[run("a", case="a"), run("b", case="b")], **tables)
    first = next(parts(frames)).frames
    assert all(getattr(first, name)["run_id"].tolist() == ["a"] for name in LONG)
