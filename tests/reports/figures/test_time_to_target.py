import numpy as np
import pytest

from reports.figures import time_to_target
from tests.reports.answers.test_time_to_target import BUDGET, timed
from tests.reports.synthetic import frames_of


def test_curves_ends_and_means():
    rows = timed({"sgd": [2.0, None, 1.0, None], "adam": [1.0, 1.0, 3.0, 3.0]})
    rows[3] |= {"status": "diverged", "test_metric": None, "budget_time_s": 0.5}
    rows[1] |= {"budget_time_s": 9.5}
    data = time_to_target.data(frames_of(runs=rows))
    curves = {arm: own[["time_s", "share"]].to_numpy().tolist() for arm, own in data.curves.groupby("arm")}
    assert curves["adam"] == [[0.0, 0.0], [1.0, 0.5], [3.0, 1.0], [BUDGET, 1.0]]
    assert curves["sgd"] == [[0.0, 0.0], [1.0, 0.25], [2.0, 0.5], [BUDGET, 0.5]]
    assert data.ends[["time_s", "share", "is_lost"]].to_numpy().tolist() == [[9.5, 0.5, False], [BUDGET, 0.5, True]]
    assert data.rows["arm"].tolist() == ["adam", "sgd"]
    assert data.rows["mean"].tolist() == pytest.approx([2.0, (2 + 1 + 2 * BUDGET) / 4])
    assert data.rows["note"].tolist() == ["", "reached in 2 of 4 runs, 1 lost"]


def test_where_runs_end_at_other_times_the_share_is_kaplan_and_meiers():
    rows = timed({"sgd": [4.0, None, None]}, budget_seconds=None)
    rows[1] |= {"budget_time_s": 3.0}
    data = time_to_target.data(frames_of(runs=rows))
    assert data.curves["share"].tolist() == pytest.approx([0.0, 0.5, 0.5])  # of the two still watched at 4 s
    assert data.end_s == 3.0 and data.rows["mean"].tolist() == [3.0]


def test_one_seed_has_no_interval():
    data = time_to_target.data(frames_of(runs=timed({"sgd": [2.0]})))
    assert data.rows["mean"].tolist() == [2.0] and np.isnan(data.rows["low"].iloc[0])
    assert not any(trace.error_x.array for trace in time_to_target.plot(data).data)


def test_a_lost_run_has_a_cross_at_the_end_of_its_budget():
    rows = timed({"sgd": [2.0, None]})
    rows[1] |= {"status": "failed", "test_metric": None, "budget_time_s": 0.5}
    figure = time_to_target.plot(time_to_target.data(frames_of(runs=rows)))
    [marks] = [trace for trace in figure.data if trace.yaxis == "y" and trace.mode == "markers"]
    assert (list(marks.x), list(marks.marker.symbol)) == ([BUDGET], ["x"])


def test_without_a_target_there_is_nothing():
    figure = time_to_target.plot(time_to_target.data(frames_of(runs=timed({"sgd": [2.0]}, target=None))))
    assert not figure.data
