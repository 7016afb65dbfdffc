import numpy as np
import pytest

from reports.answers.fisher_histograms import quantile
from reports.figures import fisher_histograms
from tests.reports.synthetic import array_of, case_of, frames_of

EDGES = [1e-2, 1e-1, 1e0]
LAYER = "fisher_histogram/last_linear/true"


def frames(bins, *, name=LAYER, steps=(100, 200), cases=("",)):
    """Runs of 200 steps with these bins, one list a seed; the last run is lost."""
    runs, arrays = [], []
    for case in cases:
        runs += case_of(case, {"adam": [0.9] * len(bins) + [None]}, num_steps=200)
        for seed, own in enumerate([*bins, [0, 0, 0, 9]]):
            for step in steps:
                arrays += array_of(f"{case}/adam{seed}", name, own, step)
                arrays += array_of(f"{case}/adam{seed}", "fisher_histogram/edges", EDGES, step)
    return frames_of(runs=runs, arrays=arrays)


def test_decades_of_the_quantiles_over_the_seeds():
    data = fisher_histograms.data(frames([[0, 4, 0, 0], [1, 0, 3, 0]]))
    first = data.rows.iloc[0]
    second = [quantile(np.array([1.0, 0, 3, 0]), np.array(EDGES), q) for q in (0.5, 0.95)]
    assert first[["layer", "diagonal", "moment", "frac", "num_runs"]].tolist() == ["last_linear", "true", 1, 0.5, 2]
    assert first["median"] == pytest.approx((-1.5 + second[0]) / 2)
    assert first["p95"] == pytest.approx((-1.05 + second[1]) / 2)
    assert first["p05"] == pytest.approx((-1.95 - 2.0) / 2)  # what is below the lowest edge lies on it
    assert data.medians.sort_values("median")["median"].tolist() == pytest.approx([-1.5] * 2 + [second[0]] * 2)


def test_entries_above_the_highest_edge_lie_on_it():
    rows = fisher_histograms.data(frames([[0, 0, 0, 5]])).rows
    assert rows[["p05", "median", "p95"]].to_numpy().tolist() == [[0.0, 0.0, 0.0]] * 2


def test_a_panel_a_layer_and_diagonal_from_first_to_last():
    own = frames([[0, 4, 0, 0]])
    names = ["fisher_histogram/" + name for name in ("middle_convolution/true", "first_convolution/estimate")]
    others = [frames([[0, 4, 0, 0]], name=name) for name in names]
    arrays = [row for each in (own, *others) for row in each.arrays.to_dict("records")]
    data = fisher_histograms.data(frames_of(runs=own.runs.to_dict("records"), arrays=arrays))
    figure = fisher_histograms.plot(data)
    assert [note.text for note in figure.layout.annotations] == [
        "<b>middle convolution: exact Fisher</b>",
        "<b>last linear: exact Fisher</b>",
        "<b>first convolution: what the optimizer holds</b>",
    ]
    assert [trace.showlegend for trace in figure.data].count(True) == 1
    assert list(figure.layout.xaxis.ticktext) == ["0.5", "1"]


def test_arms_stand_side_by_side():
    bins = frames([[0, 4, 0, 0]])
    runs = bins.runs.to_dict("records")
    twin = [row | {"run_id": row["run_id"].replace("adam", "sgd"), "arm": "sgd"} for row in runs]
    arrays = bins.arrays.to_dict("records")
    arrays += [row | {"run_id": row["run_id"].replace("adam", "sgd")} for row in arrays]
    figure = fisher_histograms.plot(fisher_histograms.data(frames_of(runs=runs + twin, arrays=arrays)))
    assert [list(trace.x) for trace in figure.data] == [pytest.approx([0.35, 0.85]), pytest.approx([0.65, 1.15])]


def test_of_many_cases_the_first_are_drawn():
    data = fisher_histograms.data(frames([[0, 4, 0, 0]], cases=tuple("abcdefgh")))
    assert (len(data.places), data.num_left_out) == (6, 2)
    assert "2 more cases" in [axis.title.text for axis in fisher_histograms.plot(data).select_xaxes()][-1]


@pytest.mark.parametrize("bins", [[], [[0, 0, 0, 0]]])
def test_nothing_to_show(bins):
    figure = fisher_histograms.plot(fisher_histograms.data(frames(bins)))
    assert not figure.data and "histograms" in figure.layout.annotations[0].text
