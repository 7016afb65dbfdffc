import numpy as np
import pandas as pd
import pytest

from reports.figures import trust
from reports.trust import stamps
from tests.reports.synthetic import frames_of, run, tune_of

START = pd.Timestamp("2026-03-01T10:00:00Z")


def timed(arm, milliseconds, first=0, **fields):
    return [
        run(
            f"{arm}{seed}",
            arm=arm,
            seed=seed,
            num_steps=1000,
            train_time_s=each,
            started_at=START + pd.Timedelta(hours=first + seed),
            **fields,
        )
        for seed, each in enumerate(milliseconds)
    ]


ROWS = [*timed("sgd", [4.0, 4.0, 5.0], load_before=4.0, hardware="EPYC, 2 cores"), *timed("sgd (control)", [4.0], 3)]


def test_each_check_with_its_share_of_the_bound():
    frames = frames_of(runs=ROWS)
    checks = trust.data(frames).checks.set_index("check")
    assert checks["verdict"].to_dict() == {
        "control": "not judged",
        "drift": "passed",
        "load": "failed",
        "overshoot": "not judged",
        "data": "not judged",
    }
    assert checks.loc["load", "share"] == pytest.approx(2.0 / 1.5)
    assert checks.loc["drift", "share"] == 0.0
    assert np.isnan(checks.loc["control", "share"])
    assert checks["finding"].tolist() == [stamp.text for stamp in stamps(frames)]


def test_the_course_of_the_reference_and_its_control():
    found = trust.data(frames_of(runs=ROWS))
    assert found.reference == "sgd"
    assert found.course["arm"].tolist() == ["sgd"] * 3 + ["sgd (control)"]
    assert found.course["hours"].tolist() == [0, 1, 2, 3]
    assert found.course["relative"].tolist() == [1, 1, 1.25, 1]
    assert found.course["third"].tolist() == ["first", "middle", "middle", "last"]


def test_a_verdict_is_symbol_colour_and_text():
    figure = trust.FIGURE.draw(frames_of(runs=ROWS))
    marks = {trace.name: trace for trace in figure.data if trace.name in trust.LOOKS}
    assert [text.strip() for text in marks["failed"].text] == ["failed (1.3)"]
    assert [text.strip() for text in marks["not judged"].text] == ["not judged"] * 3
    assert list(marks["not judged"].x) == [0, 0, 0]
    assert len({trace.marker.color for trace in marks.values()}) == len({t.marker.symbol for t in marks.values()}) == 3
    assert figure.layout.annotations[0].text == "<b>1 passed, 1 failed, 3 not judged</b>"
    assert figure.layout.xaxis2.title.text == "hours since its first run"


def test_what_is_far_beyond_its_bound_is_written_and_drawn_at_the_edge():
    busy = timed("sgd", [4.0, 4.0, 4.0], load_before=60.0, hardware="EPYC, 2 cores")
    figure = trust.FIGURE.draw(frames_of(runs=busy))
    (failed,) = (trace for trace in figure.data if trace.name == "failed")
    assert list(failed.x) == [trust.MAX_SHARE] and "(20)" in failed.text[0]


def test_a_check_without_runs_of_one_arm_has_no_course():
    figure = trust.FIGURE.draw(frames_of(runs=[run("c", purpose="calibrate", is_quiet=False)]))
    assert [axis.title.text for axis in figure.select_xaxes()] == ["measured ÷ its bound"]


@pytest.mark.parametrize("runs", [[], tune_of("sgd", [({"lr": 0.1}, 0.9)]), timed("sgd", [4.0])])
def test_without_a_judgement_there_is_no_figure(runs):
    assert not trust.FIGURE.draw(frames_of(runs=runs)).data


def test_names_are_escaped():
    figure = trust.FIGURE.draw(frames_of(runs=timed("<b>x</b>", [4.0, 4.0, 4.0])))
    told = [str(trace.name) + str(trace.customdata) for trace in figure.data]
    told += [str(axis.title.text) for axis in figure.select_yaxes()]
    assert not any("<b>x" in each for each in told)
