import numpy as np
import pytest
from scipy import stats

from reports.figures import label_places, pareto
from tests.reports.synthetic import case_of, frames_of, metrics_of

SCORES = {"sgd": [0.90, 0.92], "adam": [0.95, 0.97], "kfac": [0.94, 0.96]}
SECONDS = {"sgd": [9.0, 11.0], "adam": [20.0, 20.0], "kfac": [30.0, 30.0]}


def rows(scores=SCORES, seconds=SECONDS, **fields):
    """Return race rows with a training time a seed."""
    found = case_of("", scores, **fields)
    for row in found:
        row |= {"train_time_s": seconds[row["arm"]][row["seed"]], "parameter_bytes": 1e6, "optimizer_state_bytes": 1e6}
    return found


def of(runs, **tables):
    data = pareto.data(frames_of(runs=runs, **tables))
    return data, {cost: own.set_index("arm") for cost, own in data.points.groupby("cost")}


def test_means_intervals_and_the_front():
    data, points = of(rows())
    assert [*points] == ["parameters, gradients and optimizer state, MB", "training time, seconds"]
    time = points["training time, seconds"]
    assert time.loc["sgd", ["value", "mean"]].tolist() == pytest.approx([10.0, 0.91])
    low, high = stats.t.interval(0.95, 1, loc=10.0, scale=stats.sem([9.0, 11.0]))
    assert time.loc["sgd", ["value_low", "value_high"]].tolist() == pytest.approx([low, high])
    assert time["is_front"].to_dict() == {"sgd": True, "adam": True, "kfac": False}
    memory = points["parameters, gradients and optimizer state, MB"]
    assert memory["value"].tolist() == [3.0] * 3
    assert memory["is_front"].to_dict() == {"sgd": False, "adam": True, "kfac": False}
    assert data.missing == ()


def test_a_tuned_arm_pays_for_its_tuning():
    runs = rows()
    for row in runs:
        row["tuning_time_s"] = {"sgd": 100.0, "adam": 0.0, "kfac": None}[row["arm"]]
    time = of(runs)[1]["training time with the tuning behind it, seconds"]
    assert time["value"].to_dict() == {"sgd": 110.0, "adam": 20.0, "kfac": 30.0}
    assert time["note"].to_dict() == {"sgd": "", "adam": "", "kfac": "tuning unknown, training alone"}
    assert time["is_front"].to_dict() == {"sgd": False, "adam": True, "kfac": False}


def test_memory_is_the_measured_peak_where_every_arm_has_one():
    runs = rows()
    measured = [metrics_of(row["run_id"], {"memory/peak_bytes": 5e9}) for row in runs]
    assert of(runs, metrics=sum(measured, []))[1]["peak memory of a step, measured, GB"]["value"].tolist() == [5.0] * 3
    some = sum(measured[:-2], [])  # the last arm has none
    assert "parameters, gradients and optimizer state, MB" in of(runs, metrics=some)[1]


def test_an_arm_that_lost_a_run_is_not_on_the_front_and_keeps_nobody_from_it():
    data, points = of(rows(SCORES | {"adam": [0.99, None], "kfac": [None, None]}, SECONDS | {"adam": [1.0, 1.0]}))
    time = points["training time, seconds"]
    assert time["is_front"].to_dict() == {"sgd": True, "adam": False}
    assert time.loc["adam", ["mean", "num_lost"]].tolist() == [0.99, 1]
    assert data.missing == ("kfac",)
    titles = [axis.title.text for axis in pareto.plot(data).select_xaxes()]
    assert titles[-1].endswith("not drawn, every run lost: kfac")


def test_of_a_falling_metric_the_lower_is_on_the_front():
    time = of(rows(metric_goal="minimize"))[1]["training time, seconds"]
    assert time["is_front"].to_dict() == {"sgd": True, "adam": False, "kfac": False}


def test_arms_alike_are_both_on_the_front():
    alike = of(rows({"a": [0.9], "b": [0.9]}, {"a": [1.0], "b": [1.0]}))[1]["training time, seconds"]
    assert alike["is_front"].tolist() == [True, True]
    assert alike["low"].isna().all()  # one seed


def test_controls_are_left_out():
    scores = {"sgd": [0.9], "sgd (control)": [0.9]}
    assert [*of(rows(scores, {arm: [1.0] for arm in scores}))[1]["training time, seconds"].index] == ["sgd"]


def test_a_wide_range_of_costs_is_on_a_logarithmic_axis():
    wide = pareto.plot(of(rows(seconds=SECONDS | {"kfac": [300.0, 300.0]}))[0])
    assert wide.layout.xaxis.type == "log" and pareto.plot(of(rows())[0]).layout.xaxis.type is None


def test_an_arm_far_behind_stands_at_the_edge_with_its_value():
    scores = {f"arm{i}": [0.95 + 0.001 * i] for i in range(6)} | {"bad": [0.1]}
    figure = pareto.plot(of(rows(scores, {arm: [1.0] for arm in scores}))[0])
    [bad, *_] = [trace for trace in figure.data if trace.name == "bad"]
    assert bad.text[0] == "at 0.1" and "markers+text" in bad.mode
    assert list(bad.y) == [figure.layout.yaxis.range[0]] and bad.y[0] > 0.9


def test_no_cost_is_nothing_to_draw():
    assert not pareto.plot(pareto.data(frames_of(runs=case_of("", {"sgd": [0.9]})))).data


def test_names_cover_neither_points_nor_each_other():
    points = np.array([[0.5, 0.5], [0.52, 0.5], [0.0, 0.9]])
    sides = ["top left", "top right", "bottom left", "bottom right"]
    assert label_places.label_places(points, ["first", "second", "third"], points, sides) == [
        "top left",
        "top right",
        "bottom right",
    ]
    crowd = np.random.default_rng(0).uniform(size=(400, 2))
    assert label_places.label_places(points, ["a"] * 3, crowd, sides) == ["", "", ""]


def test_a_long_interval_does_not_squeeze_the_points():
    nan = np.nan
    low, high = label_places.axis_range(np.array([1.0, 2.0]), np.array([-50.0, nan]), np.array([1.5, nan]))
    assert (low, high) == pytest.approx((0.0 - 0.08 * 2.0, 2.0 + 0.08 * 2.0))
    low, high = label_places.axis_range(np.array([1.0]), np.array([nan]), np.array([nan]))
    assert low < 1.0 < high


def test_far_is_below_all_others():
    assert label_places.is_far(np.array([0.1, 0.9, 0.91, 0.92, 0.93])).tolist() == [True, *[False] * 4]
    assert not label_places.is_far(np.array([0.1, 0.9, 0.91, 0.92])).any()
    assert not label_places.is_far(np.array([0.1, *[0.9] * 9])).any()


def test_means_that_differ_by_round_off_alone_are_equal():
    equal = {"sgd": [0.3, 0.3], "adam": [0.1 + 0.2, 0.1 + 0.2]}
    found = of(rows(equal, {"sgd": [9.0, 9.0], "adam": [20.0, 20.0]}))[1]["training time, seconds"]
    assert equal["adam"][0] != equal["sgd"][0]
    assert found["is_front"].to_dict() == {"sgd": True, "adam": False}
