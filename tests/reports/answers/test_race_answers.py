"""Answers that compare arms by their test metric, by value."""

import numpy as np
import pytest
from scipy import stats

from reports.answers import REGISTRY
from tests.reports.synthetic import case_of, frames_of, race_of, run

SGD = [0.90, 0.91, 0.90, 0.92, 0.91]
ADAM = [0.96, 0.97, 0.965, 0.975, 0.968]


def table(name, runs, **tables):
    return REGISTRY[name].table(frames_of(runs=runs, **tables))


def row_of(frame, **wanted):
    [row] = [row for row in frame.to_dict("records") if all(row[key] == value for key, value in wanted.items())]
    return row


def test_standings_keep_cases_apart():
    runs = case_of("long", {"sgd": SGD, "adam": ADAM}) + case_of("short", {"sgd": [0.5] * 5, "adam": [0.6] * 5})
    frame = table("standings", runs)
    assert [(row.case, row.arm) for row in frame.itertuples()] == [
        ("long", "adam"),
        ("long", "sgd"),
        ("short", "adam"),
        ("short", "sgd"),
    ]
    found = row_of(frame, case="long", arm="sgd")
    assert found["mean_test_metric"] == pytest.approx(np.mean(SGD))
    assert found["std_test_metric"] == pytest.approx(np.std(SGD, ddof=1))
    assert found["difference_from_best"] == pytest.approx(np.mean(SGD) - np.mean(ADAM))
    assert found["p_holm"] == pytest.approx(stats.ttest_rel(SGD, ADAM).pvalue)  # the one pair of its case
    assert (found["against_best"], found["num_runs"], found["num_lost"]) == ("resolved", 5, 0)


def test_standings_of_a_lost_run_are_not_tested():
    frame = table("standings", race_of({"sgd": SGD, "adam": [0.99, 0.99, None]}))
    found = row_of(frame, arm="adam")
    assert (found["num_runs"], found["num_lost"], found["against_best"]) == (3, 1, "not tested: lost runs")
    assert found["mean_test_metric"] == pytest.approx(0.99)


@pytest.mark.parametrize(
    ("goal", "target", "score", "expected"),
    [
        ("maximize", 1.0, 0.9, "yes"),
        ("maximize", 1.0, 0.89, "no"),
        ("minimize", 90.0, 99.0, "yes"),
        ("minimize", 90.0, 101.0, "no"),
        ("maximize", None, 0.1, ""),
    ],
)
def test_nine_tenths_of_the_target(goal, target, score, expected):
    frame = table("standings", race_of({"sgd": [score]}, metric_goal=goal, target=target))
    assert frame["reaches_nine_tenths_of_target"].tolist() == [expected]


def test_a_control_is_tested_against_its_arm_alone():
    frame = table("standings", case_of("", {"sgd": SGD, "sgd (control)": [0.99, *SGD[1:]], "adam": ADAM}))
    control, sgd = row_of(frame, arm="sgd (control)"), row_of(frame, arm="sgd")
    assert control["against_best"] == "control of sgd: not resolved"
    assert sgd["p_holm"] == pytest.approx(stats.ttest_rel(SGD, ADAM).pvalue)  # not corrected for the control


def test_epochs_that_fit():
    fields = {"budget": "2 epochs of adafisher, calibrated", "budget_seconds": 10.0, "case": "x"}
    runs = [
        run("a", arm="adafisher", num_steps=100, num_epochs=5.0, step_s=0.1, step_s_low=0.09, step_s_high=0.11)
        | fields,
        run("s", arm="sgd", num_steps=200, num_epochs=10.0, step_s=0.05) | fields,
        run("k", arm="kfac", status="failed", step_s=0.2) | fields,  # no run to its end: by its calibration
    ]
    frame = table("epochs_in_budget", runs)
    assert frame["arm"].tolist() == ["sgd", "adafisher", "kfac"]
    assert frame["num_steps"].tolist() == [200, 100, 50]
    assert frame["num_epochs"].tolist() == [10.0, 5.0, 2.5]
    assert frame["epochs_over_reference"].tolist() == [2.0, 1.0, 0.5]
    assert frame["reference"].unique().tolist() == ["adafisher"]
    assert row_of(frame, arm="adafisher")["step_s_high"] == 0.11


def test_epochs_of_a_study_under_way_come_from_the_calibration():
    runs = [run("s", num_epochs=None, step_s=0.05, budget_seconds=10.0, status="failed")]
    assert table("epochs_in_budget", runs)["num_steps"].tolist() == [200]


def test_the_share_of_the_gain_that_the_placebo_leaves():
    placebo = [value - 0.012 for value in ADAM]
    placebo[0] += 0.001  # some variance
    frame = table("placebo", case_of("", {"sgd": SGD, "a": ADAM, "a (placebo)": placebo, "b": SGD}))
    found = row_of(frame, arm="a")
    gain, beyond = np.subtract(ADAM, SGD), np.subtract(ADAM, placebo)
    assert found["gain"] == pytest.approx(gain.mean())
    assert (found["gain_low"], found["gain_high"]) == pytest.approx(
        stats.t.interval(0.95, 4, loc=gain.mean(), scale=stats.sem(gain))
    )
    assert found["gain_over_placebo"] == pytest.approx(beyond.mean())
    assert found["share_left"] == pytest.approx(beyond.mean() / gain.mean())
    assert (found["gain_verdict"], found["share_verdict"]) == ("resolved", "resolved gain")
    assert frame["arm"].tolist() == ["a", "b"]
    other = row_of(frame, arm="b")
    assert (other["gain"], other["placebo"], other["share_verdict"]) == (0.0, "", "no placebo of its own")


@pytest.mark.parametrize(
    ("arm", "verdict"),
    [
        ([0.91, 0.90, 0.92, 0.90, 0.92], "not resolved"),
        ([0.80, 0.81, 0.80, 0.82, 0.80], "no gain: resolved to be worse"),
        ([0.99, None, 0.99, 0.99, 0.99], "not tested: lost runs"),
    ],
)
def test_there_is_no_share_of_a_gain_that_is_not_there(arm, verdict):
    frame = table("placebo", case_of("", {"sgd": SGD, "a": arm, "a (placebo)": SGD}))
    assert np.isnan(frame["share_left"].iloc[0]) and frame["share_verdict"].iloc[0] == verdict


def test_a_lower_loss_is_a_gain():
    rows = case_of("", {"sgd": ADAM, "a": SGD}, metric_goal="minimize")
    assert table("placebo", rows)["gain"].iloc[0] == pytest.approx(np.mean(ADAM) - np.mean(SGD))


def test_gains_are_corrected_over_the_pairs_of_the_case():
    scores = {"sgd": SGD, "a": ADAM, "a (placebo)": [0.95, 0.96, 0.955, 0.97, 0.96]}
    found = table("placebo", case_of("one", scores) + case_of("two", scores)).iloc[0]
    p_values = [stats.ttest_rel(ADAM, other).pvalue for other in (SGD, scores["a (placebo)"])]
    assert found["gain_p_holm"] == pytest.approx(min(p_values) * 2 if p_values[0] < p_values[1] else max(p_values))


def test_without_sgd_there_is_no_gain():
    assert table("placebo", case_of("", {"a": ADAM, "a (placebo)": SGD})).empty


def test_schedules_differ_from_cosine_by_seed():
    runs = case_of("cosine", {"sgd": SGD, "adam": ADAM}, schedule="cosine")
    runs += case_of("step", {"sgd": [s - 0.1 for s in SGD], "adam": ADAM}, schedule="step")
    frame = table("schedules", runs)
    found = row_of(frame, case="step", arm="sgd")
    assert found["difference"] == pytest.approx(-0.1)
    assert found["reference_case"] == "cosine" and found["schedule"] == "step"
    assert found["difference_verdict"] == "not resolved"  # equal in five seeds: the sign-flip test
    assert row_of(frame, case="step", arm="adam")["difference_p_holm"] == 1.0
    assert np.isnan(row_of(frame, case="cosine", arm="sgd")["difference"])
    assert row_of(frame, case="cosine", arm="sgd")["against_best"] == "resolved"


def test_ablations_are_measured_against_the_whole():
    scores = {"adafisher": ADAM, "adafisher-sqrt": SGD, "adafisher-no-norm": [0.95, 0.96, 0.955, None, 0.96]}
    frame = table("ablations", case_of("", scores))
    assert frame["arm"].tolist() == ["adafisher", "adafisher-sqrt", "adafisher-no-norm"]
    found = row_of(frame, arm="adafisher-sqrt")
    assert found["difference"] == pytest.approx(np.mean(SGD) - np.mean(ADAM))
    assert found["difference_p_holm"] == pytest.approx(stats.ttest_rel(SGD, ADAM).pvalue)  # the other is not tested
    lost = row_of(frame, arm="adafisher-no-norm")
    assert (lost["num_lost"], lost["difference_verdict"]) == (1, "not tested: lost runs")
    assert frame["reference"].unique().tolist() == ["adafisher"]


def test_the_arm_that_started_first_is_the_reference_of_others():
    rows = case_of("", {"b": ADAM, "a": SGD})
    for row in rows:
        row["started_at"] = f"2026-01-0{1 if row['arm'] == 'b' else 2}T00:00:00Z"
    assert table("ablations", rows)["reference"].unique().tolist() == ["b"]
