import numpy as np
import pytest

from reports.figures import parallel
from reports.frames import prepare
from tests.reports.searches import many, pruned, searched
from tests.reports.synthetic import frames_of, tune_of

SPACE = {"lr": {"low": 1e-3, "high": 0.1, "log": True}, "momentum": {"low": 0.0, "high": 1.0, "log": False}}


def places(data, axis):
    return data.points[data.points["axis"] == axis].set_index("trial")["place"].to_dict()


def test_places_on_the_axes_of_the_space():
    points = [({"lr": 0.01, "momentum": 0.5, "beta": 0.9}, 0.8), ({"lr": 0.1, "momentum": 0.0, "beta": 0.9}, 0.9)]
    data = parallel.data(frames_of(runs=searched("a", points, SPACE)))
    assert data.axes["axis"].tolist() == ["lr", "momentum", "score"]
    assert places(data, "lr") == pytest.approx({0.0: 0.5, 1.0: 1.0})
    assert places(data, "momentum") == {0.0: 0.5, 1.0: 0.0}
    assert places(data, "score") == {0.0: 0.0, 1.0: 1.0}
    assert data.axes[["low", "high"]].to_numpy().tolist() == [["0.001", "0.1"], ["0", "1"], ["0.8", "0.9"]]


def test_scores_are_placed_by_rank_and_the_lowest_loss_is_up():
    rows = tune_of("a", [({"lr": 0.1 * i}, score) for i, score in enumerate([9.0, 2.0, 3.0, 2.5, None], start=1)])
    data = parallel.data(frames_of(runs=[row | {"metric_goal": "minimize"} for row in rows]))
    assert places(data, "score") == pytest.approx({0.0: 0.0, 1.0: 1.0, 2.0: 1 / 3, 3.0: 2 / 3})
    assert data.axes.set_index("axis").loc["score"].tolist() == ["a", "9", "2"]
    ranks = data.points.drop_duplicates("trial").set_index("trial")["rank"].to_dict()
    assert ranks == {0.0: "lower", 1.0: "best", 2.0: "lower", 3.0: "upper", 4.0: "lost"}


def test_without_a_space_what_varies_is_an_axis():
    points = [({"lr": 1e-4, "layers": "paper", "beta": 0.9, "none": None}, 0.8)]
    points += [({"lr": 1.0, "layers": "dense", "beta": 0.9, "none": None}, 0.7)]
    points += [({"lr": 0.01, "layers": "dense", "beta": 0.9, "none": None}, 0.9)]
    data = parallel.data(frames_of(runs=tune_of("a", points)))
    assert data.axes["axis"].tolist() == ["lr", "layers", "score"]
    assert places(data, "lr") == pytest.approx({0.0: 0.0, 1.0: 1.0, 2.0: 0.5})  # over a decade: logarithmic
    spread = parallel.SHARE_OF_RANK
    assert places(data, "layers") == pytest.approx({0.0: spread / 2, 1.0: 1 - spread, 2.0: 1.0})


def test_choices_that_cannot_be_hashed_and_points_outside_the_space():
    space = {"lr": {"low": 0.01, "high": 0.1, "log": True}, "betas": {"choices": [[0.9, 0.99], [0.8, 0.9]]}}
    points = [({"lr": 0.001, "betas": [0.8, 0.9]}, 0.8), ({"lr": 0.1, "betas": [0.9, 0.99]}, 0.9)]
    data = parallel.data(frames_of(runs=searched("a", points, space)))
    assert places(data, "lr") == {0.0: 0.0, 1.0: 1.0}
    assert data.axes.set_index("axis").loc["betas"].tolist() == ["a", "[0.9, 0.99]", "[0.8, 0.9]"]


def test_lost_and_pruned_trials_are_dotted_and_end_before_the_score():
    good, gone, early = searched(
        "a", [({"lr": lr, "momentum": 0.1}, s) for lr, s in [(0.01, 0.9), (0.1, None), (0.1, 0.5)]]
    )
    figure = parallel.plot(parallel.data(frames_of(runs=[good, gone, pruned(early, 0.5)])))
    (lost,) = [trace for trace in figure.data if trace.line.dash == "dot"]
    assert list(lost.x) == [0, 1, None] * 2
    (best,) = [trace for trace in figure.data if trace.line.width == parallel.RANKS["best"].width]
    assert list(best.x) == [0, 1, 2, None] and best.y[-2] == 1.0


def test_nothing_without_a_score_or_with_nothing_searched():
    runs = tune_of("a", [({"lr": 0.1}, None), ({"lr": 0.2}, None)]) + tune_of("b", [({"lr": 0.1}, 0.9)])
    figure = parallel.plot(parallel.data(frames_of(runs=runs)))
    assert not figure.data and figure.layout.annotations[0].text


def test_a_long_search_stays_small_and_many_arms_have_a_panel_each():
    rng = np.random.default_rng(0)
    points = [({name: float(rng.uniform(0.001, 0.1)) for name in "abcd"}, float(rng.uniform())) for _ in range(1000)]
    assert len(parallel.plot(parallel.data(frames_of(runs=tune_of("x", points)))).to_json()) < 150_000
    figure = parallel.plot(parallel.data(prepare(many())))
    assert len(figure.layout.annotations) == 11
