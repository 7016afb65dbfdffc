import numpy as np
import pytest

from reports.figures import best_after_k
from reports.frames import prepare
from tests.reports.searches import many, searched
from tests.reports.synthetic import frames_of, tune_of

SCORES = [0.9, None, 0.8, 0.7]


def test_curves_count_lost_trials():
    data = best_after_k.data(frames_of(runs=tune_of("a", [({"lr": 0.1}, score) for score in SCORES])))
    assert data.curves["k"].tolist() == [1, 2, 3, 4]
    assert data.curves["median"].tolist() == [0.7, 0.8, 0.9, 0.9]  # of 6 pairs: 1 ends at 0.7, 2 at 0.8, 3 at 0.9
    expected = data.curves["expected"].tolist()
    assert np.isnan(expected[0]) and expected[1:] == pytest.approx([5.0 / 6, 0.875, 0.9])


def test_what_learns_from_earlier_trials_has_no_curve():
    points = [({"lr": 0.1 * i}, 0.9) for i in range(1, 5)]
    runs = searched("a", points) + searched("b", points, sampler="tpe") + searched("c", points[:2])
    runs += searched("d", [(point, None) for point, _ in points]) + searched("e", points, sampler="grid")
    runs += searched("f", points[:2]) + [
        row | {"run_id": f"{row['run_id']}-later", "trial": 2 + row["trial"]}
        for row in searched("f", points[2:], space={"lr": {"low": 1e-5, "high": 0.1, "log": True}})
    ]
    data = best_after_k.data(frames_of(runs=runs))
    assert data.curves["arm"].unique().tolist() == ["a"]
    assert data.skipped == {
        "b": "its sampler (tpe) learns from earlier trials",
        "c": "fewer than 3 trials",
        "d": "no trial ran to its end",
        "e": "a grid is no draw from its space",
        "f": "its space moved with what earlier trials found",
    }
    assert "tpe" in [axis.title.text for axis in best_after_k.plot(data).select_xaxes()][-1]


def test_of_losses_the_lowest_is_best_and_the_band_stays_within_the_panel():
    rows = tune_of("a", [({"lr": 0.1}, score) for score in (3.0, 2.0, 4.0, 5.0)])
    data = best_after_k.data(frames_of(runs=[row | {"metric_goal": "minimize"} for row in rows]))
    assert data.curves["median"].tolist() == [4.0, 3.0, 2.0, 2.0]  # of an even number the worse middle
    assert data.curves["high"].iloc[-1] == -np.inf
    figure = best_after_k.plot(data)
    bottom, top = figure.layout.yaxis.range
    (band,) = [trace for trace in figure.data if trace.fill]
    assert min(band.y) == pytest.approx(bottom) and max(band.y) <= top


def test_nothing_but_reasons():
    figure = best_after_k.plot(best_after_k.data(frames_of(runs=tune_of("<a>", [({"lr": 0.1}, 0.9)]))))
    assert not figure.data and figure.layout.annotations[0].text == "&lt;a&gt;: fewer than 3 trials"


def test_eleven_arms_have_a_band_each():
    figure = best_after_k.plot(best_after_k.data(prepare(many())))
    assert sum(trace.fill == "toself" for trace in figure.data) == 11
    assert sum(bool(trace.showlegend) for trace in figure.data) == 11


def test_a_long_search_is_thinned():
    rng = np.random.default_rng(0)
    runs = tune_of("a", [({"lr": 0.1}, float(score)) for score in rng.normal(size=500)])
    figure = best_after_k.plot(best_after_k.data(frames_of(runs=runs)))
    assert len(figure.data[0].x) == 200 and figure.data[0].x[-1] == 500
    assert len(figure.to_json()) < 60_000
