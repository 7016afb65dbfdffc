import numpy as np
import pytest
from scipy import stats

from reports.figures import kronecker
from tests.reports.synthetic import array_of, case_of, frames_of, metrics_of

SEEDS = [0.5, 0.6, 0.7]


def metrics(values, factor="last_linear/S"):
    """Numbers of the runs' middle and end; values by quantity."""
    return [
        row
        for seed, share in enumerate([*SEEDS, 0.0])  # the last run was lost
        for step in (100, 200)
        for row in metrics_of(
            f"/adam{seed}",
            {f"kronecker_structure/{factor}/{name}": value * share for name, value in values.items()},
            step,
        )
    ]


def discs(centers, radii, step=200, factor="last_linear/S"):
    return [
        row
        for what, values in (("center", centers), ("radius", radii))
        for row in array_of("/adam0", f"kronecker_structure/{factor}/gershgorin_{what}", values, step)
    ]


def data(rows, arrays=()):
    runs = case_of("", {"adam": [0.9, 0.9, 0.9, None]}, num_steps=200)
    return kronecker.data(frames_of(runs=runs, metrics=rows, arrays=list(arrays)))


def test_means_with_their_intervals_over_the_seeds():
    found = data(metrics({"diagonal_share": 1.0, "size": 10.0, "kaiser_count": 1.0}))
    assert found.rows["quantity"].unique().tolist() == ["diagonal_share"]
    row = found.rows.iloc[1]
    assert row[["layer", "factor", "moment", "frac"]].tolist() == ["last_linear", "S", 2, 1.0]
    low, high = stats.t.interval(0.95, 2, loc=0.6, scale=stats.sem(SEEDS))
    assert row[["mean", "low", "high"]].tolist() == pytest.approx([0.6, low, high])
    assert found.sizes == {("last_linear", "S"): 7.0}


def test_what_noise_does_to_a_smaller_factor_is_left_out():
    rows = metrics({"kaiser_shift": 1.0, "noise_over_diagonal": 0.1})
    rows += metrics({"kaiser_shift": 1.0, "noise_over_diagonal": 1.9}, "last_linear/H")  # 0.95, 1.14 and 1.33
    found = data(rows).rows.set_index(["factor", "moment"])
    assert found.loc[("S", 1), "mean"] == pytest.approx(0.6)
    assert found.loc[("H", 1), "mean"] == pytest.approx(0.5)


def test_discs_of_the_last_moment():
    rows = metrics({"diagonal_share": 1.0})
    arrays = discs([9.0, 9.0], [1.0, 1.0], step=100) + discs([4.0, 2.0, 0.0], [2.0, 4.0, 0.0])
    found = data(rows, arrays)
    assert found.discs[["x", "mean"]].to_numpy().tolist() == [[0.0, 0.5], [0.5, 2.0]]  # no ratio without a center
    figure = kronecker.plot(found)
    assert [note.text for note in figure.layout.annotations] == [
        "<b>share of the energy on the diagonal</b>",
        "<b>Gershgorin discs at the end: last linear, S</b>",
    ]


def test_discs_are_thinned_out():
    arrays = discs(np.arange(500.0, 0.0, -1.0), np.arange(500.0, 0.0, -1.0))
    found = data(metrics({"diagonal_share": 1.0}), arrays).discs
    assert len(found) == kronecker.MAX_CURVE
    assert found["x"].iloc[[0, -1]].tolist() == [0.0, 1.0] and set(found["mean"]) == {1.0}


def test_full_marks_are_of_the_end():
    figure = kronecker.plot(data(metrics({"diagonal_share": 1.0, "size": 20.0})))
    [trace] = figure.data
    assert list(trace.marker.symbol) == ["square", "square-open"] and list(trace.customdata) == [1.0, 0.5]
    assert figure.layout.yaxis.ticktext == ("last linear, S<br><i>14 × 14</i>",)


def test_infinite_decibels_are_no_mark():
    rows = metrics({"diagonal_share": 1.0, "snr_db": np.inf})
    titles = [note.text for note in kronecker.plot(data(rows)).layout.annotations]
    assert titles == ["<b>share of the energy on the diagonal</b>"]


def test_nothing_to_show():
    figure = kronecker.plot(data([]))
    assert not figure.data and "factors" in figure.layout.annotations[0].text
