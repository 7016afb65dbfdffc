import numpy as np
import pytest
from scipy import stats

from reports.figures import placebo
from tests.reports.synthetic import case_of, frames_of

SGD = [0.90, 0.91, 0.90, 0.92, 0.91]
ARM = [0.96, 0.97, 0.965, 0.975, 0.968]
TWIN = [0.95, 0.958, 0.953, 0.965, 0.955]


def data(scores, **fields):
    return placebo.data(frames_of(runs=case_of("", scores, **fields)))


def test_gains_over_sgd_and_over_the_placebo():
    found = data({"sgd": SGD, "a": ARM, "a (placebo)": TWIN, "b": SGD})
    rows = found.rows
    assert rows[["arm", "over"]].to_numpy().tolist() == [["a", "sgd"], ["a", "its placebo"], ["b", "sgd"]]
    assert rows["gain"].tolist() == pytest.approx([np.subtract(ARM, o).mean() for o in (SGD, TWIN)] + [0.0])
    difference = np.subtract(ARM, TWIN)
    interval = stats.t.interval(0.95, 4, loc=difference.mean(), scale=stats.sem(difference))
    assert rows.loc[1, ["low", "high"]].tolist() == pytest.approx(interval)
    assert rows["verdict"].tolist() == ["resolved", "resolved", "not resolved"]


def test_a_pair_that_lost_runs_has_a_verdict_and_no_gain():
    rows = data({"sgd": SGD, "a": [*ARM[:4], None], "a (placebo)": TWIN}).rows
    assert rows["gain"].isna().all() and rows["low"].isna().all()
    assert rows["verdict"].unique().tolist() == ["not tested: lost runs"]
    figure = placebo.plot(data({"sgd": SGD, "a": [*ARM[:4], None], "a (placebo)": TWIN}))
    assert not figure.data and "not tested:<br>lost runs" in figure.layout.yaxis.ticktext[0]


def test_a_lower_loss_is_a_gain():
    rows = data({"sgd": ARM, "a": SGD, "a (placebo)": ARM}, metric_goal="minimize").rows
    assert rows["gain"].tolist() == pytest.approx([np.subtract(ARM, SGD).mean()] * 2)


def test_differences_that_cancel_are_zero():
    rows = data({"sgd": [0.1, 0.2, 0.3], "a": [0.3, 0.1, 0.2], "a (placebo)": [0.1, 0.2, 0.3]}).rows
    assert rows["gain"].tolist() == [0.0, 0.0]


def test_verdict_and_amount_stand_in_words():
    figure = placebo.plot(data({"sgd": SGD, "<b>": ARM, "<b> (placebo)": TWIN}))
    first, second = figure.layout.yaxis.ticktext
    assert first.startswith("&lt;b&gt;<br>over sgd: +0.06") and first.endswith("<i>resolved</i>")
    assert "over its placebo: +0.011" in second
    assert [trace.marker.symbol.endswith("-open") for trace in figure.data] == [False, True]


@pytest.mark.parametrize("scores", [{"sgd": SGD, "a": ARM}, {"a": ARM, "a (placebo)": TWIN}])
def test_without_a_placebo_or_sgd_there_is_nothing_to_show(scores):
    figure = placebo.plot(data(scores))
    assert not figure.data and "placebo" in figure.layout.annotations[0].text


def test_one_seed_has_no_interval():
    found = data({"sgd": [0.9], "a": [0.95], "a (placebo)": [0.94]})
    assert found.rows["low"].isna().all() and found.rows["verdict"].str.startswith("not tested: fewer").all()
    assert "unknown of one seed" in placebo.plot(found).data[0].hovertemplate
