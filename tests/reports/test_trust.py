import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from reports import trust
from reports.trust import Stamp, is_trusted, stamps, step_times
from tests.reports.synthetic import frames_of, run

START = pd.Timestamp("2026-03-01T10:00:00Z")
NUM_STEPS = 1000


def timed(arm, milliseconds, *, case="", minutes=None, **fields):
    """Race rows: what a step took with each seed, and when each started."""
    return [
        run(
            f"{case}/{arm}/{seed}",
            arm=arm,
            case=case,
            seed=seed,
            num_steps=NUM_STEPS,
            train_time_s=each * NUM_STEPS / 1e3,
            started_at=START + pd.Timedelta(minutes=(minutes or range(100))[seed]),
            **fields,
        )
        for seed, each in enumerate(milliseconds)
    ]


def test_step_times_are_of_runs_that_trained_to_their_end():
    rows = timed("sgd", [4.0, 5.0, 6.0, 7.0])
    rows[1]["status"], rows[2]["num_steps"], rows[3]["purpose"] = "failed", 0, "tune"
    assert step_times(frames_of(runs=rows))["seconds"].tolist() == pytest.approx([0.004])


def control(*rows):
    return trust.control(frames_of(runs=[row for group in rows for row in group]))


def test_an_arm_that_is_like_itself():
    once, again = [4.0, 4.2, 4.1], [4.1, 4.1, 4.1]
    stamp = control(timed("sgd", once), timed("sgd (control)", again), timed("adam", [9.0, 9.0, 9.0]))
    gaps = [b / a - 1 for a, b in zip(once, again, strict=True)]
    low, high = scipy_stats.t.interval(0.95, 2, loc=sum(gaps) / 3, scale=scipy_stats.sem(gaps))
    p = scipy_stats.ttest_rel(again, once).pvalue
    assert stamp.is_ok is True
    assert stamp.text == (
        f"sgd against itself: +0.0% of its step, 95 % interval {low:+.1%} to {high:+.1%} (p = {p:.2g}, not resolved; "
        "3 seeds); the bound is 5%."
    )


@pytest.mark.parametrize(
    ("once", "again"),
    [
        ([4.00, 4.20, 4.10], [4.0401, 4.2402, 4.1403]),  # 1 %, but always
        ([4.0, 4.2, 4.1], [4.9, 3.9, 4.9]),  # not resolved, but 12 %
        ([4.9, 3.9, 4.9], [4.0, 4.2, 4.1]),
        ([4.0], [4.3]),
    ],
    ids=["resolved", "far", "far below", "far with one seed"],
)
def test_an_arm_that_is_not_like_itself(once, again):
    assert control(timed("sgd", once), timed("sgd (control)", again)).is_ok is False


def test_conditions_are_compared_one_by_one_and_corrected():
    like = [[4.0, 4.2, 4.1], [4.1, 4.1, 4.1]]
    # alone p = 0.03, of two conditions p = 0.06
    apart = [[4.0, 4.2, 4.1], [4.02, 4.23, 4.116]]
    assert 0.025 < scipy_stats.ttest_rel(*apart).pvalue < 0.05

    def rows(values, case):
        once, again = values
        return timed("sgd", once, case=case) + timed("sgd (control)", again, case=case)

    assert control(rows(apart, "a")).is_ok is False
    stamp = control(rows(apart, "a"), rows(like, "b"))
    assert stamp.is_ok is True
    assert "the farthest of 2 conditions" in stamp.text
    # conditions that differ in their steps are not mixed: 4 ms and 8 ms
    assert control(rows(like, "a"), rows([[8.0, 8.2, 8.1], [8.1, 8.1, 8.1]], "b")).is_ok is True


@pytest.mark.parametrize(
    "rows",
    [
        timed("sgd", [4.0, 4.1]),
        timed("sgd", [4.0]) + timed("sgd (control)", [4.1]),
        timed("sgd", [4.0, 4.1]) + timed("adam (control)", [4.1, 4.2]),
        timed("sgd", [4.0], case="a") + timed("sgd (control)", [4.1], case="b"),
        [],
    ],
    ids=["no control", "one seed", "another arm's", "other conditions", "nothing"],
)
def test_without_a_pair_of_seeds_nothing_is_judged(rows):
    assert control(rows).is_ok is None


@pytest.mark.parametrize(
    ("milliseconds", "minutes", "is_ok", "change"),
    [
        ([4.0, 4.0, 4.2, 4.2, 4.36, 4.36], range(6), True, "+9.0%"),
        ([4.0, 4.0, 4.2, 4.2, 4.44, 4.44], range(6), False, "+11.0%"),
        ([4.4, 4.4, 4.2, 4.2, 3.9, 3.9], range(6), False, "-11.4%"),
        ([4.0, 4.0, 4.2, 4.2, 4.8, 4.8], [0, 5, 2, 3, 1, 4], True, "+0.0%"),
        ([4.0, 9.0, 4.0], range(3), True, "+0.0%"),
    ],
    ids=["a little slower", "slower", "quicker", "in the order of their starts", "ends alone"],
)
def test_drift_of_the_reference(milliseconds, minutes, is_ok, change):
    stamp = trust.drift(frames_of(runs=timed("sgd", milliseconds, minutes=list(minutes))))
    assert (stamp.is_ok, change in stamp.text) == (is_ok, True), stamp.text


def test_drift_is_of_the_arm_behind_the_control_and_of_both_its_entries():
    rows = timed("adam", [1.0, 2.0, 3.0, 4.0]) + timed("sgd", [4.0, 4.0], minutes=[0, 1])
    rows += timed("sgd (control)", [5.0], minutes=[2])
    stamp = trust.drift(frames_of(runs=rows))
    assert (stamp.is_ok, "step of sgd changed by +25.0%" in stamp.text) == (False, True)
    assert "step of adam" in trust.drift(frames_of(runs=rows), "adam").text
    assert "step of adam" in trust.drift(frames_of(runs=rows[:-1])).text  # no control: the arm with the most runs


def test_a_placebo_is_another_arm_whose_steps_are_no_drift():
    rows = timed("sgd", [4.0, 4.0, 4.0]) + timed("sgd (placebo)", [8.0, 8.0, 8.0], minutes=[10, 11, 12])
    stamp = trust.drift(frames_of(runs=rows), "sgd")
    assert (stamp.is_ok, "its 3 runs" in stamp.text) == (True, True)


def test_conditions_are_no_drift():
    rows = timed("sgd", [4.0, 4.0, 4.0], case="a") + timed("sgd", [8.0, 8.0, 8.0], case="b", minutes=[10, 11, 12])
    stamp = trust.drift(frames_of(runs=rows))
    assert (stamp.is_ok, "+0.0%" in stamp.text) == (True, True)


def test_two_runs_show_no_drift():
    assert trust.drift(frames_of(runs=timed("sgd", [4.0, 8.0]))).is_ok is None
    without = timed("sgd", [4.0, 8.0, 8.0])
    for row in without:
        row["started_at"] = None
    assert trust.drift(frames_of(runs=without)).is_ok is None


@pytest.mark.parametrize(
    ("fields", "is_ok"),
    [
        ({"load_before": 3.0, "hardware": "EPYC, 2 cores"}, True),
        ({"load_before": 3.1, "hardware": "EPYC, 2 cores"}, False),
        ({"load_before": 3.1, "hardware": "H100; EPYC, 16 cores"}, True),
        ({"load_before": 3.1, "hardware": "EPYC, 2 cores", "purpose": "tune"}, None),
        ({"load_before": 3.1, "hardware": None}, None),
        ({"is_quiet": True}, True),
        ({"is_quiet": False}, False),
        ({"is_quiet": False, "load_before": 0.1, "hardware": "EPYC, 2 cores"}, False),
        ({}, None),
    ],
)
def test_others_on_the_machine(fields, is_ok):
    rows = [run("a", **fields), run("b", load_before=0.5, hardware=fields.get("hardware"))]
    if fields.get("purpose") == "tune":
        rows = rows[:1]
    assert trust.load(frames_of(runs=rows)).is_ok is is_ok


@pytest.mark.parametrize(
    ("budget", "overshoot_s", "is_ok"),
    [
        ("12s, live", 0.2, True),
        ("12s, live", 0.3, False),
        ("12s, live", -0.3, False),
        ("12s, calibrated", 0.3, None),
        ("300 steps", None, None),
    ],
)
def test_runs_that_the_clock_ended(budget, overshoot_s, is_ok):
    row = run("a", budget=budget, overshoot_s=overshoot_s, budget_seconds=12.0)
    assert trust.overshoot(frames_of(runs=[row, run("b", budget=None)])).is_ok is is_ok


@pytest.mark.parametrize(("waited_s", "is_ok"), [(0.39, True), (0.41, False), (None, None)])
def test_runs_that_wait_for_data(waited_s, is_ok):
    rows = timed("sgd", [4.0, 4.0, 4.0], data_time_s=waited_s) + timed("adam", [4.0], data_time_s=waited_s and 0.01)
    stamp = trust.data_share(frames_of(runs=rows))
    assert stamp.is_ok is is_ok
    assert waited_s is None or stamp.text.startswith("sgd waited")


def test_one_failed_check_is_enough_and_what_is_not_judged_fails_nothing():
    good = timed("sgd", [4.0, 4.2, 4.1]) + timed("adam", [3.0, 3.1, 3.2])
    found = stamps(frames_of(runs=good))
    assert [stamp.name for stamp in found] == ["control", "drift", "load", "overshoot", "data"]
    assert [stamp.is_ok for stamp in found] == [None, True, None, None, None]
    assert all(isinstance(stamp, Stamp) and stamp.text.endswith(".") for stamp in found)
    assert is_trusted(frames_of(runs=good))
    assert not is_trusted(frames_of(runs=[*good, run("c", purpose="calibrate", is_quiet=False)]))
    assert is_trusted(frames_of())


def test_a_condition_that_waits_for_data_is_not_hidden_by_another():
    def waiting(case, data_time_s):
        return [
            run(f"{case}/{seed}", arm="sgd", case=case, train_time_s=10.0, data_time_s=data_time_s, seed=seed)
            for seed in (1, 2, 3)
        ]

    assert trust.data_share(frames_of(runs=waiting("CNN", 0.2))).is_ok is True
    stamp = trust.data_share(frames_of(runs=waiting("CNN", 0.2) + waiting("perceptron", 1.2)))
    assert (stamp.is_ok, "12.0%" in stamp.text) == (False, True)


def seen(rows):
    return {stamp.name: (stamp.is_ok, stamp.value, stamp.bound) for stamp in stamps(frames_of(runs=rows))}


def test_each_check_has_its_value_and_bound():
    fields = {"budget": "4s, live", "overshoot_s": -0.04, "budget_seconds": 4.0, "data_time_s": 0.2}
    fields |= {"load_before": 2.0, "hardware": "EPYC, 2 cores"}
    rows = timed("sgd", [4.0, 4.2, 4.1], **fields) + timed("sgd (control)", [4.2, 4.4, 4.4], minutes=[3, 4, 5])
    relative = [each / 4.2 for each in (4.0, 4.2, 4.1, 4.2, 4.4, 4.4)]
    gap = sum(b / a - 1 for a, b in zip([4.0, 4.2, 4.1], [4.2, 4.4, 4.4], strict=True)) / 3
    drift = sum(relative[4:]) / sum(relative[:2]) - 1
    found = seen(rows)
    assert found["control"] == (False, pytest.approx(gap), 0.05)
    assert found["drift"] == (True, pytest.approx(drift), 0.10)
    assert found["load"] == (True, 1.0, 1.5)
    assert found["overshoot"] == (True, pytest.approx(0.01), 0.02)
    assert found["data"] == (True, pytest.approx(0.2 / 4.1), 0.10)


def test_what_is_not_judged_has_neither_value_nor_bound():
    for rows in ([], timed("sgd", [4.0]) + timed("sgd (control)", [4.1])):
        for is_ok, *numbers in seen(rows).values():
            assert is_ok is None and np.isnan(numbers).all()


def test_a_restless_machine_fails_without_a_number():
    is_ok, value, bound = seen([run("a", is_quiet=False)])["load"]
    assert is_ok is False and np.isnan([value, bound]).all()
    stamp = trust.load(frames_of(runs=[run("a", is_quiet=False, load_before=1.0, hardware="EPYC, 2 cores")]))
    assert (stamp.is_ok, stamp.value, stamp.bound) == (False, 0.5, 1.5)
    assert stamp.text == (
        "0 of 1 timed run started on a busy machine (up to 0.5 processes a core; the bound is 1.5); 1 of 1 measurement "
        "began before it was quiet."
    )


def test_the_course_of_an_arm_is_in_the_order_of_its_starts_and_relative_to_each_condition():
    rows = timed("sgd", [4.0, 5.0, 6.0], minutes=[4, 0, 1]) + timed("sgd (control)", [8.0], minutes=[9], case="b")
    rows += timed("adam", [1.0, 1.0], minutes=[2, 3])
    found = trust.course(frames_of(runs=rows))
    assert found["seconds"].tolist() == pytest.approx([0.005, 0.006, 0.004, 0.008])
    assert found["relative"].tolist() == pytest.approx([1.0, 1.2, 0.8, 1.0])
    assert found["third"].tolist() == ["first", "middle", "middle", "last"]
    assert found["base"].unique().tolist() == ["sgd"]
    assert trust.course(frames_of()).empty
