import pytest

from reports.figures import fisher_accuracy
from tests.reports.synthetic import case_of, frames_of, metrics_of


def frames(scores=None, values=None, cases=("",)):
    """Runs of 200 steps; values by arm: (at step 100, at the end) of the exact relative error, per seed."""
    scores = scores or {"adafisher": [0.9, 0.92, None], "adam": [0.9, 0.9]}
    values = values or {"adafisher": [(0.5, 0.7), (0.6, 0.9), (9.0, 9.0)], "adam": [(0.1, 0.2), (0.3, 0.2)]}
    runs, metrics = [], []
    for case in cases:
        runs += case_of(case, scores, num_steps=200)
        for arm, seeds in values.items():
            for seed, pair in enumerate(seeds):
                for step, value in zip((100, 200), pair, strict=True):
                    named = {"exact/relative_error": value, "exact/rank_correlation": 1 - value}
                    named |= {"empirical/relative_error": value / 2, "exact/cosine": 0.0, "exact/relative_error/w": 5.0}
                    named = {f"fisher_accuracy/{name}": number for name, number in named.items()}
                    metrics += metrics_of(f"{case}/{arm}{seed}", named, step)
    return frames_of(runs=runs, metrics=metrics)


def line(data, **wanted):
    rows = data.lines
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    return rows[["x", "mean", "low", "high"]].to_numpy().tolist()


def test_lines_of_all_parameters_over_the_fraction_of_training():
    data = fisher_accuracy.data(frames())
    assert line(data, name="adafisher", measure="relative_error") == [
        [0.5, pytest.approx(0.55), 0.5, 0.6],  # without the lost run
        [1.0, pytest.approx(0.8), 0.7, 0.9],
    ]
    assert line(data, name="adam", measure="rank_correlation")[1] == pytest.approx([1.0, 0.8, 0.8, 0.8])
    assert set(data.lines["name"]) == {"adafisher", "adam", "empirical"}
    assert (data.places, data.num_left_out) == ((("digits", ""),), 0)


def test_yardsticks_span_all_runs():
    [first, _] = line(fisher_accuracy.data(frames()), name="empirical", measure="relative_error")
    assert (first[2], first[3]) == (pytest.approx(0.05), pytest.approx(0.3))


def test_draws_two_panels_a_case_and_says_what_it_leaves_out():
    figure = fisher_accuracy.plot(fisher_accuracy.data(frames(cases=("a", "b", "c", "d"))))
    titles = [axis.title.text for axis in figure.select_yaxes()]
    assert titles[:3] == ["relative error<br>a", "rank correlation<br>a", "relative error<br>b"] and len(titles) == 6
    assert [axis.title.text for axis in figure.select_xaxes()][-1] == (
        "fraction of training (1 more cases are in the tables)"
    )
    assert [trace.name for trace in figure.data if trace.showlegend] == [
        "yardstick: the data's labels",
        "adafisher",
        "adam",
    ]


def test_an_optimizer_without_an_estimate_is_no_line():
    scores, none = {"sgd": [0.9]}, {}
    figure = fisher_accuracy.plot(fisher_accuracy.data(frames(scores, none)))
    assert not figure.data and "diagonal" in figure.layout.annotations[0].text


def test_one_seed_and_nan():
    data = fisher_accuracy.data(frames({"adam": [0.9]}, {"adam": [(float("nan"), 0.2)]}))
    assert line(data, name="adam", measure="relative_error") == [[1.0, 0.2, 0.2, 0.2]]
    assert fisher_accuracy.plot(data).data
