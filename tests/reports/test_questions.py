import math

import pandas as pd
import plotly.graph_objects as go
import pytest

import reports
from reports import answers
from reports.figures import FIGURES
from reports.questions import Questions
from suite.results import Store
from tests.reports.synthetic import TableSet, cases, race_of, run, study
from tests.suite.rows import long_rows, run_row

WHOLE = Questions(study())
HELPERS = {
    "leaderboard": "standings",
    "stability": "steadiness",
    "time_to_target": "time_to_target",
    "memory": "memory",
    "epoch_time": "epoch_time",
}


@pytest.mark.parametrize(("helper", "answer"), HELPERS.items())
def test_a_helper_is_the_answer_of_a_whole_study(helper, answer):
    frame = getattr(WHOLE, helper)()
    pd.testing.assert_frame_equal(frame, answers.find(answer).table(WHOLE.frames))
    assert {*frame["arm"]} >= {"sgd", "adam", "adafisher"}  # the default study answers every one of them


@pytest.mark.parametrize("helper", [*HELPERS, "compare"])
@pytest.mark.parametrize(
    "tables",
    [
        TableSet(),
        TableSet(runs=race_of({"sgd": [0.9]})),
        TableSet(runs=race_of({"sgd": [None, None], "adam": [None, None]})),
        TableSet(runs=race_of({"sgd": [math.nan, 0.9], "adam": [0.8, math.nan]})),
    ],
    ids=["no runs", "one run", "all diverged", "NaN metrics"],
)
def test_a_helper_answers_what_little_there_is(helper, tables):
    questions = Questions(tables)
    if helper == "compare":
        if len(questions.frames.arms) == 2:
            assert not (questions.compare("sgd", "adam")["verdict"] == "resolved").any()
        return
    frame = getattr(questions, helper)()
    assert list(frame.columns) == list(getattr(WHOLE, helper)().columns)


def test_compare_takes_a_pair_either_way_round():
    questions = Questions(TableSet(runs=race_of({"adam": [0.91, 0.92, 0.94], "sgd": [0.90, 0.90, 0.93]})))
    one, other = questions.compare("adam", "sgd"), questions.compare("sgd", "adam")
    assert one["quantity"].tolist() == ["test accuracy", "test loss"]
    assert one["difference"].tolist() == pytest.approx([0.04 / 3, -0.04 / 3])
    assert other["difference"].tolist() == pytest.approx([-0.04 / 3, 0.04 / 3])
    assert one["p_first_is_better"].tolist() == pytest.approx([7 / 9, 7 / 9])
    assert other["p_first_is_better"].tolist() == pytest.approx([2 / 9, 2 / 9])
    assert one["p_holm"].tolist() == other["p_holm"].tolist()
    assert (other["first"] == "sgd").all() and (other["second"] == "adam").all()


def test_compare_has_a_row_a_case_and_the_controls():
    questions = Questions(cases(num_cases=2))
    assert questions.compare("sgd", "adam")["case"].tolist() == ["base", "base", "lr x0.1", "lr x0.1"]
    control = questions.compare("sgd (control)", "sgd")
    assert control["quantity"].tolist() == ["test accuracy"] * 2


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("sgd", "sdg"), "unknown arm 'sdg'; known: adafisher, "),
        (("sgd", "sgd"), "compared with another, but got 'sgd'"),
    ],
)
def test_compare_refuses(pair, message):
    with pytest.raises(ValueError, match=message):
        WHOLE.compare(*pair)


def test_a_figure_of_one_part_or_of_the_study():
    two = Questions(TableSet(runs=[*race_of({"sgd": [0.9]}), run("i", workload="iris", test_metric=0.5)]))
    assert two.figure("leaderboard", "iris").data[0].x.tolist() == [0.5]
    assert two.figure("leaderboard").data[0].x.tolist() == [0.9]
    for name, spec in FIGURES.items():
        if spec.is_of_the_study:
            assert isinstance(two.figure(name), go.Figure)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("leaderbord",), "unknown figure 'leaderbord'; known: leaderboard, "),
        (("leaderboard", "iris"), "no part of the study is workload 'iris', case None; known: digits"),
    ],
)
def test_a_figure_that_is_not_there_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WHOLE.figure(*arguments)


def test_load_reads_the_tables(tmp_path):
    store = Store(tmp_path / "results", "tiny")
    store.write(run_row(), long_rows(2.0))
    questions = reports.load(store.uri)
    assert questions.runs["run_id"].tolist() == ["r0"]
    assert [len(getattr(questions, name)) for name in ("epochs", "steps", "metrics", "arrays")] == [2, 2, 2, 2]
