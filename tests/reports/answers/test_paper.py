"""Published beside measured: what may stand beside what, by value."""

import numpy as np
import pandas as pd
import pytest

from reports.answers.paper import OTHER, OTHER_BUDGET, SAME, table
from reports.comparable import EFFICIENCY, EPOCHS_RATIO, GAIN, TIME_RATIO
from reports.published import LR, PERPLEXITY, TOP1
from tests.reports.searches import searched
from tests.reports.synthetic import case_of, frames_of, race_of, run

ACCURACY = {
    "sgd": [0.950, 0.952],
    "adam": [0.940, 0.944],
    "adafisher": [0.960, 0.962],
    "adafisher-released": [0.961, None],
}
BUDGET = {"budget": "200 epochs of adafisher, calibrated", "budget_seconds": 100.0, "batch_size": 256}


def found(runs, **wanted):
    records = table(frames_of(runs=runs)).to_dict("records")
    return [row for row in records if all(row[name] == value for name, value in wanted.items())]


def the(runs, **wanted):
    [row] = found(runs, **wanted)
    return row


def raced(workload, scores=None, **fields):
    rows = case_of("", scores or ACCURACY, workload=workload, **fields)
    costs = {"sgd": 100, "adam": 95, "adafisher": 50, "adafisher-released": 80}
    return [
        row | {"num_steps": 10 * costs.get(row["arm"], 50), "num_epochs": costs.get(row["arm"], 50)} for row in rows
    ]


def test_numbers_of_the_same_workload_stand_beside_each_other():
    runs = raced("cifar10_resnet18_cutout", **BUDGET)
    row = the(runs, quantity=TOP1, arm="sgd", table="Table 2")
    assert (row["scale"], row["published"], row["published_std"]) == (SAME, 95.64, 0.1)
    assert row["measured"] == pytest.approx(95.1) and row["measured_std"] == pytest.approx(0.2 / np.sqrt(2))
    assert (row["num_runs"], row["num_lost"], row["workload"]) == (2, 0, "cifar10_resnet18_cutout")
    assert (row["published_statistic"], row["measured_statistic"]) == (
        "unstated",
        "test at the end, hyperparameters fixed beforehand",
    )


def test_the_published_adafisher_stands_beside_both_of_ours():
    rows = found(raced("cifar10_resnet18_cutout", **BUDGET), quantity=TOP1, optimizer="AdaFisher")
    assert [(row["arm"], row["published"], row["num_lost"]) for row in rows] == [
        ("adafisher", 96.25, 0),
        ("adafisher-released", 96.25, 1),
    ]
    assert rows[1]["measured"] == pytest.approx(96.1)  # of the run that was not lost


def test_what_was_not_measured_of_a_workload_is_null():
    row = the(raced("cifar10_resnet18_cutout", **BUDGET), quantity=TOP1, optimizer="Shampoo")
    assert (row["arm"], row["published"], row["scale"]) == ("shampoo", 94.08, SAME)
    assert np.isnan(row["measured"]) and pd.isna(row["num_runs"]) and row["measured_statistic"] == ""


def test_another_variant_of_a_workload_is_another_workload():
    tables = {row["table"] for row in found(raced("cifar10_resnet18", **BUDGET), quantity=TOP1)}
    assert tables == {"Table 13a"}


def test_another_budget_leaves_relative_figures_alone():
    runs = raced("cifar10_resnet18_cutout", budget="100 epochs of adafisher, calibrated", budget_seconds=50.0)
    assert not found(runs, quantity=TOP1)
    row = the(runs, quantity=GAIN, arm="sgd", table="Table 2")
    words = "same workload, another budget or batch size: differences in points only"
    assert (row["scale"], row["published"]) == (words, pytest.approx(95.64 - 94.85))
    assert row["measured"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    "changes",
    [{"batch_size": 64}, {"budget": "200 epochs of sgd, calibrated"}],
    ids=["another batch size", "the time of another arm"],
)
def test_other_conditions_leave_no_absolute_numbers(changes):
    runs = raced("cifar10_resnet18_cutout", **(BUDGET | changes))
    assert found(raced("cifar10_resnet18_cutout", **BUDGET), quantity=TOP1)
    assert not found(runs, quantity=TOP1)
    assert {row["scale"].partition(":")[0] for row in found(runs, quantity=GAIN)} == {OTHER_BUDGET.partition(":")[0]}


def test_a_wall_clock_race_is_not_compared_with_fixed_epochs():
    runs = raced("cifar100_resnet18", budget="200 epochs", budget_seconds=None, batch_size=256)
    assert {row["table"] for row in found(runs, quantity=TOP1)} == {"Table 15"}
    assert the(runs, quantity=TOP1, arm="adafisher")["published"] == 77.28
    assert {row["table"] for row in found(raced("cifar100_resnet18", **BUDGET), quantity=TOP1)} == {"Table 13a"}


def test_of_another_workload_there_are_only_relative_figures():
    runs = raced("digits", budget="12s, calibrated", budget_seconds=12.0)
    rows = found(runs)
    points = "another workload: differences in points only"
    assert {row["scale"] for row in rows} == {OTHER, points}
    assert {row["quantity"] for row in rows if row["scale"] == points} == {GAIN}
    assert {row["quantity"] for row in rows} == {GAIN, EPOCHS_RATIO}  # no times, no trials
    gain = the(runs, quantity=GAIN, arm="adafisher", network="ResNet18", dataset="CIFAR10")
    assert (gain["table"], gain["cutout"], gain["relative_to"]) == ("Table 13a", "no", "adam")
    assert gain["published"] == pytest.approx(95.02 - 93.64)
    assert gain["measured"] == pytest.approx(1.9) and gain["measured_std"] == pytest.approx(0.2 / np.sqrt(2))
    assert not {row["network"] for row in rows} & {"Tiny Swin", "FocalNet"}  # other kinds of networks


def test_epochs_are_relative_to_either_adafisher():
    runs = raced("digits", budget="12s, calibrated", budget_seconds=12.0)
    rows = found(runs, quantity=EPOCHS_RATIO, arm="sgd", dataset="CIFAR10, CIFAR100, Tiny ImageNet")
    assert {row["relative_to"]: (row["published"], row["measured"]) for row in rows} == {
        "adafisher": (1.13, pytest.approx(2.0)),
        "adafisher-released": (1.13, pytest.approx(1.25)),
    }


def test_times_are_relative_to_sgd_and_paired_by_seed():
    rows = race_of({"sgd": [0.9, 0.9], "kfac": [0.9, 0.9]}, num_epochs=10.0, num_steps=100, budget="10 epochs")
    for row, seconds in zip(rows, [10.0, 20.0, 20.0, 60.0], strict=True):
        row["train_time_s"] = seconds
    row = the(rows, quantity=TIME_RATIO, network="ResNet-18")
    assert row["published"] == pytest.approx(46.46 / 20.03) and row["measured"] == pytest.approx(2.5)
    assert (row["relative_to"], row["scale"], row["trusted"]) == ("sgd", OTHER, "yes")


def test_the_best_learning_rate_stands_as_it_is():
    runs = searched("sgd", [({"lr": 0.03}, 0.9), ({"lr": 0.1}, 0.95), ({"lr": 1.0}, None)])
    row = the(runs, quantity=LR)
    assert (row["published"], row["measured"], row["num_runs"], row["num_lost"]) == (0.1, 0.1, 3, 1)
    assert (row["scale"], row["measured_statistic"]) == (
        "another workload: as they are",
        "of the best trial, on validation",
    )


def test_weak_scaling_stands_beside_the_same_number_of_workers():
    runs = [
        run(f"w{k}", arm="adafisher", num_workers=k, batch_size=64 * k, num_steps=100, train_time_s=seconds)
        | {"test_metric": 0.9, "case": f"{k} workers"}
        for k, seconds in ((1, 10.0), (2, 12.5))
    ]
    row = the(runs, quantity=EFFICIENCY)
    assert (row["num_workers"], row["relative_to"], row["scale"]) == (2, "1 worker", OTHER)
    assert row["published"] == pytest.approx(2882 / 2876) and row["measured"] == pytest.approx(0.8)


def test_perplexities_of_the_same_workload():
    runs = raced(
        "wikitext2_gpt",
        {"adamw": [180.0, 182.0], "adafisherw": [150.0, 151.0]},
        metric_name="perplexity",
        metric_goal="minimize",
        budget="50 epochs of adafisherw, calibrated",
        budget_seconds=9.0,
        batch_size=32,
    )
    row = the(runs, quantity=PERPLEXITY, arm="adafisherw")
    assert (row["published"], row["measured"], row["scale"]) == (152.72, pytest.approx(150.5), SAME)
    assert row["published_statistic"] == "test of the best validation model"
    assert not found(runs, quantity=GAIN)


def test_cases_that_vary_the_hyperparameters_have_no_gains():
    first = raced("digits", hyperparameters='{"lr": 0.1}', **BUDGET)
    second = [row | {"case": "hot", "run_id": f"hot{row['run_id']}", "hyperparameters": "{}"} for row in first]
    for row in first:
        row |= {"case": "base", "started_at": "2026-01-01T00:00:00Z"}
    rows = found([*first, *second], quantity=GAIN)
    assert rows and {row["case"] for row in rows} == {"base"}


def test_pretrained_weights_stand_beside_table_4():
    runs = [row | {"initial_weights": "abc"} for row in raced("digits", budget="4s", budget_seconds=4.0)]
    assert {row["table"] for row in found(runs, quantity=GAIN)} == {"Table 4"}


def test_placebos_and_other_entries_of_an_arm_are_not_the_papers():
    runs = raced("digits", {"adam": [0.9], "sgd (control)": [0.9], "adafisher (default)": [0.9]}, **BUDGET)
    assert not found(runs)


def test_weak_scaling_of_the_papers_own_workload():
    runs = [
        run(f"w{k}", arm="adafisher", workload="imagenet_resnet50", num_workers=k, batch_size=256 * k, num_steps=100)
        | {"test_metric": 0.7, "case": f"{k} workers", "train_time_s": seconds}
        for k, seconds in ((1, 10.0), (2, 12.5))
    ]
    row = the(runs, quantity=EFFICIENCY)
    assert (row["scale"], row["measured"]) == (SAME, pytest.approx(0.8))
