import numpy as np
import pytest

from reports.figures import axes
from reports.frames import prepare
from tests.reports.synthetic import case_of, cases, frames_of

BASE = {"lr": 0.1, "damping": 0.001, "gamma": 0.8, "batch_size": 64}


def runs():
    rows = case_of("base", {"a": [0.9, 0.92], "b": [0.8, 0.8]}, **BASE)
    rows += case_of("lr x10", {"a": [0.7, None], "b": [0.81, 0.79]}, **BASE | {"lr": 1.0})
    rows += case_of("gamma 0.1", {"a": [None, None]}, **BASE | {"gamma": 0.1})
    return rows + case_of("batch 128", {"a": [0.85, 0.85]}, **BASE | {"batch_size": 128})


def test_points_are_means_and_ranges_by_axis():
    points = axes.data(frames_of(runs=runs())).points.set_index(["arm", "axis", "value"])
    assert sorted(points.index.get_level_values("axis").unique()) == ["batch_size", "gamma", "lr"]
    base = points.loc[("a", "lr", 0.1)]
    assert base[["mean", "low", "high"]].tolist() == pytest.approx([0.91, 0.9, 0.92])
    assert (base["case"], base["place"], base["num_lost"]) == ("base", 1.0, 0)
    assert points.loc[("a", "batch_size", 128.0), "place"] == 128.0
    assert len(points.loc["b"]) == 2


def test_lost_runs_are_counted_and_not_averaged():
    points = axes.data(frames_of(runs=runs())).points.set_index(["arm", "axis", "value"])
    hot = points.loc[("a", "lr", 1.0)]
    assert hot[["place", "mean", "low", "high", "num_runs", "num_lost"]].tolist() == [10.0, 0.7, 0.7, 0.7, 2, 1]
    gone = points.loc[("a", "gamma", 0.1)]
    assert np.isnan(gone["mean"]) and gone["num_lost"] == 2


def test_crosses_say_how_many_runs_were_lost_below_all_values():
    figure = axes.plot(axes.data(frames_of(runs=runs())))
    marks = {trace.yaxis: trace for trace in figure.data if "text" in trace.mode}
    assert {axis: list(trace.text) for axis, trace in marks.items()} == {"y2": ["1/2"], "y3": ["2/2"]}
    assert marks["y2"].y[0] < 0.7
    assert [axis.title.text for axis in figure.select_xaxes()] == [
        axes.TITLES[n] for n in ("batch_size", "lr", "gamma")
    ]


def test_workloads_have_panels_of_their_own():
    rows = [row | {"workload": name, "run_id": f"{name}/{row['run_id']}"} for row in runs() for name in ("d", "e<")]
    figure = axes.plot(axes.data(frames_of(runs=rows)))
    titles = [axis.title.text for axis in figure.select_yaxes()]
    assert titles == ["test accuracy<br>d"] * 3 + ["test accuracy<br>e&lt;"] * 3


def test_a_study_of_cases_has_a_figure_and_one_without_a_base_case_says_so():
    assert axes.plot(axes.data(prepare(cases()))).data
    none = axes.plot(axes.data(frames_of(runs=case_of("hot", {"a": [0.9]}, lr=1.0))))
    assert not none.data and "base case" in none.layout.annotations[0].text
    assert axes.plot(axes.data(frames_of(runs=case_of("base", {"a": [None]}) + case_of("b", {"a": [None]}, lr=1.0))))
