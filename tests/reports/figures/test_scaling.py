import numpy as np
import pandas as pd
import pytest

from reports.answers import REGISTRY
from reports.figures import projection, scaling
from tests.reports.measured import scaled
from tests.reports.synthetic import case_of, frames_of, prepare, run, study

TWO = {1: [1.0, 1.1, 0.9], 2: [0.6, 0.65, 0.55]}


def headings(figure):
    return [note.text for note in figure.layout.annotations if note.text.startswith("<b>")]


def test_efficiency_and_step_times_with_their_intervals():
    points, is_trusted, num_left_out, arms = scaling.data(scaled(TWO))
    two = points.set_index("num_workers").loc[2.0]
    ratios = np.divide(TWO[1], TWO[2]) / 2
    assert points["heading"].unique().tolist() == ["digits, strong: batch 64 over all workers"]
    assert two["efficiency"] == pytest.approx(ratios.mean())
    assert two["low"] < ratios.mean() < two["high"]
    assert two["step_ms"] == pytest.approx(600.0)
    assert (two["low_ms"], two["high_ms"]) == pytest.approx((475.8, 724.2), abs=0.1)
    assert (two["num_runs"], is_trusted, num_left_out, arms) == (3, True, 0, ("sgd",))


def test_strong_and_weak_stand_apart():
    runs = []
    for workers, batch, seconds in [(1, 64, 1.0), (2, 64, 0.5), (2, 128, 1.25)]:
        fields = {"num_workers": workers, "batch_size": batch, "num_steps": 10}
        runs += case_of(f"{workers} {batch}", {"sgd": [0.9, 0.9]}, train_time_s=10 * seconds, **fields)
    points = scaling.data(frames_of(runs=runs)).points
    found = points[points["num_workers"] == 2].set_index("heading")["efficiency"]
    assert found.to_dict() == {
        "digits, strong: batch 64 over all workers": pytest.approx(1.0),
        "digits, weak: batch 64 on each worker": pytest.approx(0.8),
    }
    figure = scaling.FIGURE.draw(frames_of(runs=runs))
    assert [axis.title.text for axis in figure.select_yaxes()] == ["efficiency", "milliseconds a step"] * 2
    assert [trace.name for trace in figure.data if trace.showlegend] == ["sgd"]


def test_times_that_failed_a_check_are_marked():
    busy = {"load_before": 9.0, "hardware": "EPYC, 2 cores"}
    good = scaled(TWO)
    bad = good.only(good.runs.assign(**busy))
    assert scaling.data(good).is_trusted and not scaling.data(bad).is_trusted
    for module in (scaling, projection):
        assert scaling.DISTRUST not in headings(module.FIGURE.draw(good))[0]
        assert scaling.DISTRUST in headings(module.FIGURE.draw(bad))[0]


@pytest.mark.parametrize("frames", [frames_of(), scaled({1: [1.0]}), prepare(study())], ids=["none", "one", "unpaired"])
def test_without_common_seeds_on_several_workers_nothing_is_drawn(frames):
    assert not scaling.FIGURE.draw(frames).data


def test_one_seed_has_no_interval():
    figure = scaling.FIGURE.draw(scaled({1: [1.0], 2: [0.5], 4: [0.25]}))
    efficiency = figure.data[0]
    assert list(efficiency.y) == pytest.approx([1.0, 1.0, 1.0])
    assert list(efficiency.error_y.array) == [0.0] * 3


def test_projected_and_measured_points():
    frames = scaled(TWO)
    points = projection.data(frames).points
    measured = points[points["measured_ms"].notna()]
    assert measured["num_workers"].tolist() == [1, 2] and measured["measured_ms"].tolist() == pytest.approx([1000, 600])
    beyond = points[points["measured_ms"].isna()]
    table = REGISTRY["projection"].table(frames)
    expected = table[table["kind"] == "projected"]
    assert beyond["num_workers"].tolist() == [4, 8, 16, 32, 64]
    assert beyond["model_ms"].tolist() == pytest.approx((1e3 * expected["model_step_s"]).tolist())
    assert (beyond["low_ms"] <= beyond["model_ms"]).all() and (beyond["model_ms"] <= beyond["high_ms"]).all()
    assert beyond["is_identified"].tolist() == (expected["identified"] == "yes").tolist()


def test_what_is_not_identified_is_open_and_its_band_ends_on_the_axis():
    rows = {"workload": "digits", "arm": "<i>a</i>", "num_threads": 1, "batch_size": 8, "stop": "none"}
    points = pd.DataFrame([
        rows | {"num_workers": 1, "measured_ms": 8.0, "model_ms": 8.0, "is_identified": False},
        rows | {"num_workers": 2, "measured_ms": 4.0, "model_ms": 4.0, "is_identified": False},
        rows | {"num_workers": 4, "model_ms": 2.0, "low_ms": 1.9, "high_ms": 2.1, "is_identified": True},
        rows | {"num_workers": 8, "model_ms": 1.0, "low_ms": 0.0, "high_ms": np.inf, "is_identified": False},
    ])
    figure = projection.plot(projection.Projection(points, True, 0, ("<i>a</i>",)))
    (marks,) = (trace for trace in figure.data if trace.mode == "markers" and tuple(trace.x) == (4, 8))
    assert [symbol.endswith("-open") for symbol in marks.marker.symbol] == [False, True]
    (band,) = (trace for trace in figure.data if trace.fill == "toself")
    assert np.isfinite(band.y).all() and min(band.y) > 0
    assert headings(figure) == [
        "<b>&lt;i&gt;a&lt;/i&gt;, batch 8</b><br>stops paying: beyond 64 workers, if ever<b></b>"
    ]


def test_one_number_of_workers_is_nothing_to_project_from():
    only = scaled({2: [1.0, 1.0]})
    assert len(REGISTRY["projection"].table(only)) and not projection.FIGURE.draw(only).data
    assert not projection.FIGURE.draw(frames_of(runs=[run("c", purpose="calibrate", step_s=0.1)])).data


def test_of_many_batches_the_largest_of_each_arm_are_drawn(monkeypatch):
    parts = [scaled({1: [1.0], 2: [0.6]}, arm=arm, batch_size=batch) for arm in "ab" for batch in (8, 16)]
    runs = [row | {"run_id": f"{i}{row['run_id']}"} for i, part in enumerate(parts) for row in rows_of(part.runs)]
    metrics = [row | {"run_id": f"{i}{row['run_id']}"} for i, part in enumerate(parts) for row in rows_of(part.metrics)]
    monkeypatch.setattr(projection, "MAX_PANELS", 3)
    found = projection.data(frames_of(runs=runs, metrics=metrics))
    places = found.points[["arm", "batch_size"]].drop_duplicates()
    assert places.to_numpy().tolist() == [["a", 8], ["a", 16], ["b", 16]] and found.num_left_out == 1


def rows_of(frame):
    return frame.to_dict("records")
