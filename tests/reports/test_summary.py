import json

import pytest

from reports.answers import REGISTRY
from reports.distrust import cautions
from reports.race import race
from reports.summary import summarize
from reports.sweep import sweep
from reports.trust import Stamp
from tests.reports.synthetic import case_of, frames_of, race_of, run, tune_of

CLEAR = {"sgd": [0.90, 0.91, 0.905, 0.902], "adam": [0.961, 0.970, 0.966, 0.962]}
NOISY = {"sgd": [0.96, 0.97, 0.98], "adam": [0.98, 0.96, 0.975]}


def summary_of(scores, **tables):
    return summarize(frames_of(runs=race_of(scores), **tables))


def has(sentences, *parts):
    return any(all(part in sentence for part in parts) for sentence in sentences)


def test_resolved_winner():
    summary = summary_of(CLEAR)
    assert summary.winner == "adam"
    assert summary.headline.startswith("adam wins: mean test accuracy 0.9647 ± 0.0041, resolved against the other arm.")
    assert has(summary.results, "adam against sgd: resolved, +0.06 in mean test accuracy (p ")
    assert has(summary.results, "Lowest mean test loss: adam", "resolved against sgd")


def test_not_resolved():
    summary = summary_of(NOISY)
    assert summary.winner is None
    assert summary.headline.startswith("No winner: not resolved. adam has the best mean test accuracy")
    assert "noise could explain its lead over sgd" in summary.headline
    assert has(summary.results, "not resolved", "smallest difference that 3 seeds could have resolved", "would need")


def test_lower_is_better_for_a_loss():
    rows = [row | {"metric_goal": "minimize", "target": 0.93} for row in race_of(CLEAR)]
    summary = summarize(frames_of(runs=rows))
    assert summary.winner == "sgd"
    assert has(summary.cautions, "adam did not reach target 0.93")


def test_winner_below_target_is_flagged_in_the_headline():
    summary = summary_of({arm: [s - 0.1 for s in scores] for arm, scores in CLEAR.items()})
    assert summary.headline.endswith("It did not reach target 0.95.")
    assert has(summary.cautions, "adam did not reach target 0.95")


def test_a_diverged_seed_loses_and_is_not_tested():
    summary = summary_of({**CLEAR, "adafisher": [0.99, 0.99, 0.99, None]})
    assert summary.winner == "adam"
    assert "that lost no run" in summary.headline
    assert has(summary.results, "adafisher lost 1 of 4 race runs")
    assert has(summary.cautions, "1 of 12 race runs diverged: adafisher 1.")


def test_order_puts_lost_runs_last():
    result = race(frames_of(runs=race_of({"a": [0.99, None], "b": [0.5, 0.6], "c": [None, None]})))
    assert [standing.arm for standing in result.standings] == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("scores", "headline"),
    [
        ({}, "No winner: there are no race runs yet."),
        ({"sgd": [None, None], "adam": [None]}, "No winner: every arm lost race runs"),
        ({"sgd": [0.97, 0.98]}, "No winner: sgd is the only arm in the race"),
        ({"sgd": [0.97, 0.98], "adam": [None, 0.9]}, "No winner: sgd is the only arm that lost no race run"),
        ({"sgd": [0.97], "adam": [0.9]}, "No winner: not resolved."),
    ],
    ids=["no race", "all lost", "one arm", "one arm left", "one seed"],
)
def test_headlines_without_a_winner(scores, headline):
    assert summary_of(scores).headline.startswith(headline)


def test_few_and_unequal_seeds():
    cautions = summary_of({"sgd": [0.9, 0.91, 0.92], "adam": [0.9, 0.93]}).cautions
    assert has(cautions, "Fewer than 10 seeds an arm (2)")
    assert has(cautions, "different numbers of race runs", "sgd 3", "adam 2")


def test_missing_runs():
    summary = summarize(frames_of(runs=race_of(NOISY)), planned=10)
    assert has(summary.cautions, "4 of 10 planned runs are missing")


def test_search_where_all_trials_diverged():
    (search,) = sweep(frames_of(runs=tune_of("sgd", [({"lr": 0.1}, None)] * 4)))
    assert (search.best_trial, search.hyperparameters, search.edges, search.divergence_rate) == (None, {}, {}, 1.0)


LATE = {"train_time_s": 12.0, "budget_time_s": 10.0, "budget_seconds": 9.0, "overshoot_s": 1.0}
BUSY = {"load_before": 9.0, "hardware": "EPYC, 2 cores"}


def test_what_failed_a_check_of_the_times_is_said_in_the_words_of_the_trust_table():
    frames = frames_of(runs=race_of({"sgd": [0.9, 0.9]}, **LATE, **BUSY, budget="9s, live", data_time_s=3.0))
    cautions = [caution for caution in summarize(frames).cautions if caution.startswith("The times failed a check")]
    table = REGISTRY["trust"].table(frames)
    failed = table[table["verdict"] == "failed"]
    assert failed["check"].tolist() == ["load", "overshoot", "data"]
    pairs = zip(failed["check"], failed["finding"], strict=True)
    assert cautions == [f"The times failed a check, {check}: {finding}" for check, finding in pairs]


@pytest.mark.parametrize(
    ("fields", "num_failed"),
    [
        ({"budget": "9s, calibrated", **LATE}, 0),  # ends by its steps, not by the clock
        ({"budget": "50s, live", **LATE, "budget_seconds": 51.0}, 0),
        ({"load_before": 3.0, "hardware": "EPYC, 2 cores"}, 0),
        ({"load_before": 3.1, "hardware": "EPYC, 2 cores"}, 1),
        ({"train_time_s": 10.0, "data_time_s": 1.0}, 0),
        ({"train_time_s": 10.0, "data_time_s": 1.1}, 1),
    ],
    ids=["calibrated", "in time", "as busy as we are", "busier", "waits", "waits long"],
)
def test_the_summary_has_the_bounds_of_the_trust_table(fields, num_failed):
    frames = frames_of(runs=race_of({"sgd": [0.9, 0.9]}, **fields))
    assert (REGISTRY["trust"].table(frames)["verdict"] == "failed").sum() == num_failed
    assert sum("failed a check" in caution for caution in summarize(frames).cautions) == num_failed


def test_the_checks_of_the_whole_study_go_before_those_of_a_part():
    frames = frames_of(runs=race_of({"sgd": [0.9, 0.9]}, **BUSY))
    given = [Stamp("drift", False, "It drifts."), Stamp("load", True, "It is quiet."), Stamp("data", None, "Unknown.")]
    found = [*cautions(frames, race(frames), (), checks=given)]
    assert "The times failed a check, drift: It drifts." in found
    assert not has(found, "load") and not has(found, "Unknown")


def test_measured_against_calibrated_time():
    found = summarize(frames_of(runs=race_of({"sgd": [0.9, 0.9]}, **LATE))).cautions
    assert has(found, "Calibration error", "sgd 1.20 in race runs")
    found = summarize(frames_of(runs=race_of({"sgd": [0.9, 0.9]}, **{**LATE, "train_time_s": 10.9}))).cautions
    assert not has(found, "Calibration error")


def test_machines_and_mixed_settings():
    environments = [json.dumps({"commit": commit}) for commit in ("aaa", "bbb")]
    runs = [
        run(str(i), seed=i, test_metric=0.9, hostname=f"host{i}", num_workers=i + 1, environment=environment)
        for i, environment in enumerate(environments)
    ]
    cautions = summarize(frames_of(runs=runs)).cautions
    assert has(cautions, "2 hosts: host0 and host1")
    assert has(cautions, "2 commits: aaa and bbb")
    assert has(cautions, "The race mixes num_workers 1 and 2")


def test_grain_of_the_metric():
    cautions = summary_of({"sgd": [n / 270 for n in (250, 251, 255, 260)]}).cautions
    assert has(cautions, "moves in steps of 0.0037")
    assert not has(summary_of({"sgd": [0.9123, 0.9371, 0.9519, 0.96]}).cautions, "moves in steps")


def test_a_constant_preconditioner_is_no_evidence_for_curvature():
    metrics = [
        {"run_id": "released0", "attempt": 1, "step": step, "name": "preconditioner_spread_p95_p05", "value": value}
        for step, value in [(1, 3.0), (600, 1.004)]
    ]
    cautions = summary_of({"released": [0.97]}, metrics=metrics).cautions
    assert has(cautions, "released", "within a factor of 1.00", "SGD with momentum")


def test_failed_linear_algebra_is_told_by_its_last_counts():
    counts = [("kfac0", 5, "kept_inverses", 1), ("kfac0", 9, "kept_inverses", 3), ("kfac1", 9, "kept_inverses", 2)]
    counts += [("shampoo0", 9, "retried_roots", 0)]
    metrics = [
        {"run_id": run_id, "attempt": 1, "step": step, "name": f"fallbacks/{kind}", "value": float(value)}
        for run_id, step, kind, value in counts
    ]
    cautions = summary_of({"kfac": [0.97, 0.96], "shampoo": [0.97]}, metrics=metrics).cautions
    assert has(cautions, "Linear algebra failed in the race", "kfac kept inverses 5 times")
    assert not has(cautions, "shampoo retried")


def test_time_to_the_target_is_not_averaged_where_a_run_missed_it():
    runs = race_of({"sgd": [0.96, 0.97]})
    runs[0]["time_to_target_s"] = 2.0
    assert has(summarize(frames_of(runs=runs)).results, "sgd reached in 1 of 2 runs")


def test_a_calibration_on_a_busy_machine():
    runs = [run(str(i), purpose="calibrate", is_quiet=is_quiet) for i, is_quiet in enumerate([False, True, None])]
    assert has(summarize(frames_of(runs=runs)).cautions, "load", "1 of 2 measurements began before it was quiet")


def test_of_equal_trials_the_lower_loss_is_the_one_that_races():
    losses = [0.3, 0.1, 0.2]
    runs = [
        run(str(i), purpose="tune", trial=i, val_metric=0.9, val_loss=loss, hyperparameters=json.dumps({"lr": loss}))
        for i, loss in enumerate(losses)
    ]
    (search,) = sweep(frames_of(runs=runs))
    assert (search.best_trial, search.hyperparameters) == (1, {"lr": 0.1})


def test_a_control_competes_with_no_arm_but_its_own():
    summary = summarize(frames_of(runs=case_of("", {**CLEAR, "adam (control)": [0.97, 0.96, 0.966, 0.962]})))
    assert summary.winner == "adam"
    assert summary.headline.startswith("adam wins") and "the other arm" in summary.headline
    assert has(summary.results, "Control: adam against itself, raced twice: not resolved")
    assert not has(summary.cautions, "told apart") and not has(summary.results, "adam (control): ")


def test_a_control_that_wins_is_not_the_leader():
    result = race(frames_of(runs=case_of("", {**CLEAR, "adam (control)": [0.99, 0.99, 0.99, 0.99]})))
    assert [standing.arm for standing in result.standings] == ["adam (control)", "adam", "sgd"]
    assert [standing.arm for standing in result.complete] == ["adam", "sgd"]
    assert result.against_best() == {
        "adam": "best mean",
        "sgd": "resolved",
        "adam (control)": "control of adam: resolved",
    }


def test_a_control_that_differs_from_its_arm_is_a_fault_of_the_experiment():
    runs = case_of("", {**CLEAR, "adam (control)": [score - 0.01 for score in (0.9601, 0.970, 0.966, 0.9625)]})
    assert has(summarize(frames_of(runs=runs)).cautions, "adam raced twice, and the two are told apart (+0.01")


def test_how_much_of_the_gain_a_placebo_leaves():
    placebo = [0.960, 0.9695, 0.9655, 0.961]
    summary = summarize(frames_of(runs=case_of("", {**CLEAR, "adam (placebo)": placebo})))
    assert has(summary.results, "adam, gain in the test metric: +0.06 (resolved) over tuned SGD", "over its placebo")
    assert has(summary.results, ": 1% of the gain is left.")
    assert not has(summary_of(CLEAR).results, "placebo")


def test_cases_are_never_averaged_together():
    runs = case_of("a", {"sgd": [0.9]}) + case_of("b", {"sgd": [0.1]})
    with pytest.raises(ValueError, match="a race has one workload and one case"):
        race(frames_of(runs=runs))


def test_a_lead_that_the_common_seeds_turn_round_is_told():
    summary = summary_of({"a": [0.90, 0.91, 0.92], "b": [0.931, 0.942, 0.95, 0.5, 0.5]})
    assert summary.winner is None and "seeds are missing" in summary.headline
    assert "a has the best mean test accuracy" in summary.headline
    assert "it is resolved to be worse than b on their common seeds" in summary.headline
    [line] = [line for line in summary.results if line.startswith("Lowest mean test loss")]
    assert "a with" in line and "resolved to be higher, on the common seeds, against b" in line
    standing = REGISTRY["standings"].table(
        frames_of(runs=race_of({"a": [0.9, 0.91, 0.92], "b": [0.931, 0.942, 0.95, 0.5, 0.5]}))
    )
    assert standing["against_best"].tolist() == ["best mean", "resolved: better on the common seeds"]


def test_a_run_without_a_finite_loss_is_no_smaller_sample():
    rows = race_of({"a": [0.9, 0.91, 0.92], "b": [0.8, 0.81, 0.82]})
    rows[-1]["test_loss"] = float("inf")
    found = race(frames_of(runs=rows))
    [loss] = found.loss_comparisons
    assert loss.excluded and not loss.resolved
    assert [standing.loss.n for standing in found.standings] == [3, 0] and not found.standings[1].num_lost
