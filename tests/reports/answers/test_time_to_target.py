"""The answer about times to the target, by value."""

import numpy as np
import pytest
from scipy import stats

from reports.answers import REGISTRY
from reports.stats import holm
from tests.reports.synthetic import frames_of, run

BUDGET = 10.0
A, B = [1.0, 1.5, 1.2, 1.4], [3.0, 3.6, 3.1, 3.2]


def timed(times, case="", **fields):
    """Return race rows: a list of seconds to the target an arm, one a seed; None spent its budget."""
    return [
        run(f"{case}/{arm}{seed}", arm=arm, seed=seed, case=case, test_metric=0.9, time_to_target_s=seconds)
        | {"budget_seconds": BUDGET, "budget_time_s": BUDGET, "source": arm.partition("(")[2].rstrip(")") or "fixed"}
        | fields
        for arm, values in times.items()
        for seed, seconds in enumerate(values)
    ]


def table(runs):
    return REGISTRY["time_to_target"].table(frames_of(runs=runs))


def test_a_row_an_arm_of_every_case_the_soonest_first():
    frame = table(timed({"b": B, "a": A}, "one") + timed({"a": [4.0], "b": [2.0]}, "two"))
    assert [(row.case, row.arm) for row in frame.itertuples()] == [
        ("one", "a"),
        ("one", "b"),
        ("two", "b"),
        ("two", "a"),
    ]
    first, second = frame.iloc[0], frame.iloc[1]
    assert (first["target"], first["end_s"], first["num_runs"], first["num_reached"]) == (0.95, BUDGET, 4, 4)
    assert first["median_time_to_target_s"] == 1.2  # after which two of four have reached it
    assert first["mean_restricted_time_s"] == pytest.approx(np.mean(A))
    assert (first["low_restricted_time_s"], first["high_restricted_time_s"]) == pytest.approx(
        stats.t.interval(0.95, 3, loc=np.mean(A), scale=stats.sem(A))
    )
    assert first["slower_than_best_s_verdict"] == "best mean" and np.isnan(first["slower_than_best_s"])
    assert second["slower_than_best_s"] == pytest.approx(np.mean(B) - np.mean(A))
    assert second["slower_than_best_s_p_holm"] == pytest.approx(stats.ttest_rel(B, A).pvalue)
    assert second["slower_than_best_s_verdict"] == "resolved"


def test_what_never_came_counts_the_whole_budget():
    rows = timed({"a": A, "b": [3.0, None, None, None]})
    rows[-1] |= {"status": "diverged", "test_metric": None, "budget_time_s": 0.1}
    found = table(rows).iloc[1]
    assert (found["num_runs"], found["num_reached"], found["num_lost"]) == (4, 1, 1)
    assert np.isnan(found["median_time_to_target_s"])
    assert found["mean_restricted_time_s"] == pytest.approx((3.0 + 3 * BUDGET) / 4)
    expected = stats.ttest_rel([3.0, BUDGET, BUDGET, BUDGET], A).pvalue
    assert found["slower_than_best_s_p_holm"] == pytest.approx(expected)


def test_the_correction_is_over_all_pairs_since_the_best_was_chosen():
    c = [3.5, 3.3, 3.4, 3.0]
    frame = table(timed({"a": A, "b": B, "c": c})).set_index("arm")
    p_values = holm([stats.ttest_rel(*pair).pvalue for pair in ((A, B), (A, c), (B, c))])
    assert frame.loc[["b", "c"], "slower_than_best_s_p_holm"].tolist() == pytest.approx(p_values[:2])


def test_a_control_is_compared_with_its_arm():
    control = [1.1, 1.4, 1.3, 1.2]
    frame = table(timed({"a": A, "a (control)": control, "b": B})).set_index("arm")
    found = frame.loc["a (control)"]
    assert found["slower_than_best_s"] == pytest.approx(np.mean(control) - np.mean(A))
    assert found["slower_than_best_s_verdict"] == "control of a: not resolved"
    assert frame.loc["b", "slower_than_best_s_p_holm"] == pytest.approx(stats.ttest_rel(B, A).pvalue)


def test_nobody_reached_it_or_nobody_was_asked_to():
    frame = table(timed({"a": [None, None], "b": [None, None]}))
    assert frame["mean_restricted_time_s"].tolist() == [BUDGET, BUDGET]
    assert frame["slower_than_best_s_verdict"].tolist() == ["", ""]
    assert table(timed({"a": A}, target=None)).empty


def test_one_seed_is_not_tested():
    found = table(timed({"a": [1.0], "b": [2.0]})).iloc[1]
    assert found["slower_than_best_s"] == 1.0
    assert found["slower_than_best_s_verdict"] == "not tested: fewer than two common seeds"


def test_times_on_the_grid_of_evaluations_are_no_certainty():
    """Two evaluations apart on every seed, of steps that cost a little more or less: nothing is known of a variance."""
    rows = timed({"a": [1.0, 1.0, 0.5], "b": [2.0, 2.001, 1.501]})
    epochs = [
        {"run_id": row["run_id"], "attempt": 1, "step": step, "budget_time_s": 0.5 * step}
        for row in rows
        for step in range(1, 6)
    ]
    found = REGISTRY["time_to_target"].table(frames_of(runs=rows, epochs=epochs)).iloc[1]
    assert (found["slower_than_best_s_p_holm"], found["slower_than_best_s_verdict"]) == (0.25, "not resolved")
    assert table(rows).iloc[1]["slower_than_best_s_verdict"] == "resolved"  # where no evaluations say so


def test_an_arm_with_a_failed_run_is_not_tested():
    rows = timed({"a": A, "b": [3.0, None, None, None]})
    rows[-1] |= {"status": "failed", "test_metric": None}
    assert table(rows).iloc[1]["slower_than_best_s_verdict"] == "not tested: lost runs"
