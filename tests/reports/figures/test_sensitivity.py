import numpy as np
import pytest

from reports.figures import FIGURES, sensitivity
from tests.reports.synthetic import frames_of, tune_of


def tuned(arm, points):
    """Trials whose damping and γ are columns too."""
    return [
        row | {name: point.get(name) for name in ("damping", "gamma")}
        for row, (point, _) in zip(tune_of(arm, points), points, strict=True)
    ]


RUNS = [
    *tuned("a", [({"lr": 0.1, "damping": d, "gamma": g}, 0.9) for d, g in [(1e-3, 0.2), (1e-2, 0.2), (1e-3, 0.8)]]),
    *tuned("fixed", [({"lr": lr, "damping": 1e-3, "gamma": 0.8}, 0.9) for lr in (0.1, 0.2)]),
    *tuned("without", [({"lr": 0.1}, 0.9), ({"lr": 0.3}, None)]),
]


@pytest.mark.parametrize(
    ("setting", "expected"), [(sensitivity.DAMPING, [1e-3, 1e-2, 1e-3]), (sensitivity.GAMMA, [0.2, 0.2, 0.8])]
)
def test_arms_that_did_not_move_the_setting_are_left_out(setting, expected):
    trials = sensitivity.data(frames_of(runs=RUNS), setting).trials
    assert trials["arm"].unique().tolist() == ["a"]
    assert trials[setting.column].tolist() == trials["x"].tolist() == expected


def test_all_arms_have_a_learning_rate():
    assert sensitivity.data(frames_of(runs=RUNS)).trials["arm"].unique().tolist() == ["a", "fixed", "without"]


def test_arms_of_a_grid_stand_beside_each_other_on_a_linear_axis():
    points = [({"lr": 0.1 * i, "gamma": gamma}, 0.9) for gamma in (0.2, 0.5, 0.9) for i in (1, 2)]
    frames = frames_of(runs=tuned("a", points) + tuned("b", points))
    places = sensitivity.data(frames, sensitivity.GAMMA).trials.groupby("arm")["x"].unique()
    assert places["b"] - places["a"] == pytest.approx([0.3 * sensitivity.GRID_SPREAD] * 3)
    axis = FIGURES["gamma_sensitivity"].draw(frames).layout.xaxis
    assert axis.type is None and axis.tickvals == (0.2, 0.5, 0.9)


def test_damping_has_a_logarithmic_axis_and_marks_what_is_lost():
    points = [({"lr": 0.1, "damping": 1e-3}, 0.9), ({"lr": 0.1, "damping": 1.0}, None)]
    figure = FIGURES["damping_sensitivity"].draw(frames_of(runs=tuned("a", points)))
    assert figure.layout.xaxis.type == figure.layout.xaxis2.type == "log"
    (strip,) = [trace for trace in figure.data if trace.yaxis == "y2"]
    assert list(strip.x) == [1.0] and "x" in strip.marker.symbol


def test_without_moved_settings_it_says_so():
    figure = FIGURES["gamma_sensitivity"].draw(frames_of(runs=tuned("a", [({"lr": 0.1, "gamma": np.nan}, 0.9)])))
    assert not figure.data and "several values of γ" in figure.layout.annotations[0].text
