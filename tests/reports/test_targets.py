"""How runs that do not reach the target count."""

import math

import pytest

from reports.targets import watch
from tests.reports.synthetic import frames_of, run


def timed(arm, seed, reached=None, end=12.0, **fields):
    """Return a race run that reached the target after so many seconds, or spent its budget."""
    status = fields.get("status", "completed")
    score = 0.9 if status in {"completed", "target_reached"} else None
    ends = {"budget_seconds": 12.0, "budget_time_s": end, "test_metric": score, "time_to_target_s": reached}
    return run(f"{arm}{seed}", arm=arm, seed=seed, **(ends | fields))


def of(*rows):
    found = watch(frames_of(runs=rows))
    return found, {arm.arm: arm for arm in found.arms}


def test_a_run_without_the_target_is_censored_where_it_ended():
    found, arms = of(timed("sgd", 0, 3.0), timed("sgd", 1, None, end=11.9), timed("adam", 0, 2.0))
    assert found.end_s == 12.0
    assert found.runs.set_index(["arm", "seed"])["time_s"].to_dict() == {
        ("adam", 0): 2.0,
        ("sgd", 0): 3.0,
        ("sgd", 1): 11.9,
    }
    assert [*arms] == ["adam", "sgd"]  # the sooner first
    sgd = arms["sgd"]
    assert (sgd.num_reached, sgd.num_lost, sgd.median_s) == (1, 0, 3.0)
    assert sgd.restricted.mean == pytest.approx((3.0 + 12.0) / 2)


@pytest.mark.parametrize("status", ["diverged", "out_of_memory", "failed"])
def test_a_lost_run_is_censored_at_the_end_of_the_budget(status):
    _, arms = of(timed("sgd", 0, 3.0), timed("sgd", 1, None, end=0.5, status=status))
    assert arms["sgd"].runs["time_s"].tolist() == [3.0, 12.0]
    assert (arms["sgd"].num_lost, arms["sgd"].restricted.mean) == (1, 7.5)


def test_a_run_that_was_lost_after_it_met_the_target_is_lost():
    _, arms = of(timed("sgd", 0, 3.0, end=5.0, status="diverged"), timed("sgd", 1, 4.0))
    assert (arms["sgd"].num_reached, arms["sgd"].restricted.mean) == (1, 8.0)


def test_budgets_in_epochs_are_compared_up_to_the_shortest():
    free = {"budget_seconds": None}
    found, arms = of(
        timed("sgd", 0, 1.0, end=4.0, **free),
        timed("adam", 0, 6.0, end=9.0, **free),
        timed("adam", 1, None, end=0.1, status="failed", **free),
    )
    assert found.end_s == 4.0
    assert arms["adam"].runs["time_s"].tolist() == [6.0, 9.0]  # the lost one until where its arm's budget ends
    assert arms["adam"].runs["restricted_s"].tolist() == [4.0, 4.0]
    assert arms["adam"].num_reached == 1


def test_runs_that_stop_at_the_target_are_watched_until_the_last_of_them():
    stopped = {"budget_seconds": None, "status": "target_reached"}
    found, arms = of(timed("sgd", 0, 1.0, end=1.0, **stopped), timed("adam", 0, 3.0, end=3.0, **stopped))
    assert found.end_s == 3.0 and arms["sgd"].restricted.mean == 1.0


def test_an_interval_stays_within_what_is_possible():
    _, arms = of(timed("sgd", 0, 0.1), timed("sgd", 1, 0.1), timed("sgd", 2, None))
    assert (arms["sgd"].restricted.low, arms["sgd"].restricted.high) == (0.0, 12.0)
    assert math.isnan(of(timed("sgd", 0, 1.0))[1]["sgd"].restricted.low)  # one seed


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [timed("sgd", 0, 3.0, target=None)],
        [timed("sgd", 0, None, end=None, budget_seconds=None, status="diverged")],
    ],
    ids=["no runs", "no target", "no time"],
)
def test_nothing_to_watch(rows):
    assert of(*rows)[0].arms == ()
