import numpy as np
import pytest

from reports.figures import profiles
from tests.reports.answers.test_time_to_target import timed
from tests.reports.synthetic import frames_of


def case(name, times, losses, **fields):
    """Return the rows of a case: seconds to the target by arm and seed, and a loss an arm."""
    rows = timed(times, name, **fields)
    return [row | {"test_loss": losses[row["arm"]]} for row in rows]


def of(*cases):
    return profiles.data(frames_of(runs=[row for rows in cases for row in rows]))


LOSSES = {"a": 0.1, "b": 0.2, "c": 0.4}


def test_profiles_by_value():
    data = of(
        case("one", {"a": [1.0, 1.0, 9.0], "b": [2.0, 3.0, 2.0]}, LOSSES),  # medians 1 and 2
        case(
            "two", {"a": [None, None, 1.0], "b": [4.0, None, 4.0]}, {"a": 0.3, "b": 0.1}
        ),  # a: reached in fewer than half
    )
    assert data.num_problems == {"time_s": 2, "loss": 2}
    times, losses = data.shares["time_s"], data.shares["loss"]
    assert times.index.tolist() == [1.0, 2.0] and losses.index.tolist() == pytest.approx([1.0, 2.0, 3.0])
    assert (times["a"].tolist(), times["b"].tolist()) == ([0.5, 0.5], [0.5, 1.0])
    assert (losses["a"].tolist(), losses["b"].tolist()) == ([0.5, 0.5, 1.0], [0.5, 1.0, 1.0])


def test_a_lost_run_makes_a_problem_unsolved_by_loss_but_not_by_the_median_time():
    lost = case("two", {"a": [1.0, 1.0, 2.0], "b": [2.0, 2.0, 2.0]}, LOSSES)
    lost[2] |= {"status": "diverged", "test_metric": None}
    data = of(case("one", {"a": [1.0], "b": [1.0]}, LOSSES), lost)
    assert data.shares["loss"]["a"].tolist() == [0.5, 0.5] and data.shares["time_s"]["a"].tolist() == [1.0, 1.0]


def test_only_problems_in_which_all_arms_raced_count():
    times = {"a": [1.0], "b": [2.0]}
    cases = [case(str(i), times | {"c": [3.0]}, LOSSES) for i in range(2)]
    data = of(*cases, case("other", {"a": [2.0], "b": [1.0]}, LOSSES))
    assert data.num_problems["loss"] == 2 and [*data.shares["loss"]] == ["a", "b", "c"]
    assert data.shares["time_s"]["b"].iloc[0] == 0.0  # b is best in the other case alone


def test_where_too_few_have_all_arms_those_in_every_problem_count():
    times = {"a": [1.0], "b": [2.0]}
    data = of(case("one", times | {"c": [3.0]}, LOSSES), case("two", times, LOSSES), case("three", times, LOSSES))
    assert data.num_problems["loss"] == 3 and [*data.shares["loss"]] == ["a", "b"]


def test_controls_and_placebos_are_left_out():
    times = {"a": [1.0], "b": [2.0], "a (control)": [1.0], "a (placebo)": [1.0]}
    data = of(*(case(name, times, dict.fromkeys(times, 0.1)) for name in ("one", "two")))
    assert [*data.shares["loss"]] == ["a", "b"]


def test_without_targets_there_is_a_panel_of_losses():
    data = of(*(case(name, {"a": [None], "b": [None]}, LOSSES, target=None) for name in ("one", "two")))
    assert [*data.shares] == ["loss"]
    figure = profiles.plot(data)
    assert [axis.title.text for axis in figure.select_yaxes()] == ["share of 2 problems"]
    assert sum(trace.showlegend for trace in figure.data) == 2


@pytest.mark.parametrize(
    "cases",
    [
        [],
        [case("one", {"a": [1.0], "b": [2.0]}, LOSSES)],
        [case(name, {"a": [1.0]}, LOSSES) for name in ("one", "two")],
        [case("one", {"a": [1.0]}, LOSSES), case("two", {"b": [1.0]}, LOSSES)],
    ],
    ids=["nothing", "one problem", "one arm", "nothing in common"],
)
def test_nothing_to_compare(cases):
    figure = profiles.plot(of(*cases))
    assert not figure.data and "Fewer than two" in figure.layout.annotations[0].text


def test_all_unsolved_is_drawn_at_zero():
    cases = [case(name, {"a": [None], "b": [None]}, dict.fromkeys("ab", np.nan)) for name in ("one", "two")]
    data = of(*cases)
    assert [*data.shares] == ["time_s"] and data.shares["time_s"].to_numpy().tolist() == [[0.0, 0.0]]
    assert profiles.plot(data).data
